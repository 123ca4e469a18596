//! Child processes: start, output, signals, exit.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::output::Prefix;

/// Longer lines are split.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// How many signals may wait for delivery to a child.
const SIGNALS_MAX: usize = 4;
/// How long to read the output of a child that has exited while another process keeps the pipe open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// A child process after its start.
pub(crate) struct Started {
    process: Child,
    prefix: Prefix,
    signals: mpsc::Receiver<Signal>,
}

/// Sends signals to a child.
#[derive(Debug, Clone)]
pub(crate) struct Remote(mpsc::Sender<Signal>);

impl Remote {
    /// Asks the child to drain and exit.
    pub(crate) fn terminate(&self) {
        self.send(Signal::TERM);
    }

    pub(crate) fn kill(&self) {
        self.send(Signal::KILL);
    }

    fn send(&self, signal: Signal) {
        if let Err(error) = self.0.try_send(signal) {
            // The child has exited, or other signals wait already.
            tracing::debug!(%error, ?signal, "dropping a signal");
        }
    }
}

/// Starts a program in a process group of its own, so that Ctrl-C in the terminal does not reach it.
///
/// # Errors
/// When the program cannot be started.
pub(crate) fn start(
    program: &Path,
    arguments: &[&str],
    environment: &[(&str, &OsStr)],
    prefix: Prefix,
) -> anyhow::Result<(Started, Remote)> {
    let process = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let (sender, signals) = mpsc::channel(SIGNALS_MAX);
    Ok((Started { process, prefix, signals }, Remote(sender)))
}

impl Started {
    /// Prints the child's output and delivers signals until it has exited.
    ///
    /// # Errors
    /// When the operating system does not report the exit status.
    pub(crate) async fn run(mut self) -> std::io::Result<ExitStatus> {
        let mut output = JoinSet::new();
        if let Some(stdout) = self.process.stdout.take() {
            output.spawn(print_lines(stdout, self.prefix.clone()));
        }
        if let Some(stderr) = self.process.stderr.take() {
            output.spawn(print_lines(stderr, self.prefix.clone()));
        }
        let status = loop {
            tokio::select! {
                status = self.process.wait() => break status?,
                Some(signal) = self.signals.recv() => self.deliver(signal),
            }
        };
        let printed = async { while output.join_next().await.is_some() {} };
        if tokio::time::timeout(OUTPUT_TIMEOUT, printed).await.is_err() {
            tracing::debug!("a grandchild keeps the output of a child open");
        }
        Ok(status)
    }

    fn deliver(&self, signal: Signal) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(%error, ?signal, "cannot signal a child");
        }
    }
}

/// Prints a pipe line by line until it closes; without a standard output it still reads the pipe.
async fn print_lines(pipe: impl AsyncRead + Unpin, prefix: Prefix) {
    let mut pipe = BufReader::with_capacity(LINE_BYTES_MAX, pipe);
    let mut line = Vec::new();
    while let Ok(bytes) = pipe.fill_buf().await
        && !bytes.is_empty()
    {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        line.extend_from_slice(text);
        let used = text.len() + usize::from(end.is_some());
        let is_complete = end.is_some() || (LINE_BYTES_MAX <= line.len());
        pipe.consume(used);
        if is_complete {
            drop(prefix.print(&line));
            line.clear();
        }
    }
    if !line.is_empty() {
        drop(prefix.print(&line));
    }
}
