//! Child processes: started, listened to, told to stop, waited for.

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

use crate::cli::output::Voice;

/// Longer lines are broken.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// How many signals can wait to be passed on; more are of no use.
const SIGNALS_MAX: usize = 4;
/// How long a child's output is read on when it has exited but somebody else keeps the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A child process that was started and is not looked after yet.
pub(crate) struct Started {
    process: Child,
    voice: Voice,
    signals: mpsc::Receiver<Signal>,
}

/// The way to tell a child to stop.
#[derive(Debug, Clone)]
pub(crate) struct Remote(mpsc::Sender<Signal>);

impl Remote {
    /// Asks the child to drain and exit.
    pub(crate) fn terminate(&self) {
        self.send(Signal::TERM);
    }

    /// Ends the child at once.
    pub(crate) fn kill(&self) {
        self.send(Signal::KILL);
    }

    fn send(&self, signal: Signal) {
        if let Err(error) = self.0.try_send(signal) {
            // A child that is gone or has been told often enough needs no further signal.
            tracing::debug!(%error, ?signal, "signal is not passed on");
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
    voice: Voice,
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
    Ok((Started { process, voice, signals }, Remote(sender)))
}

impl Started {
    /// Prints what the child prints and passes signals on until it has exited.
    ///
    /// # Errors
    /// When the operating system cannot tell how the child ended.
    pub(crate) async fn look_after(mut self) -> std::io::Result<ExitStatus> {
        let mut output = JoinSet::new();
        if let Some(stdout) = self.process.stdout.take() {
            output.spawn(print_lines(stdout, self.voice.clone()));
        }
        if let Some(stderr) = self.process.stderr.take() {
            output.spawn(print_lines(stderr, self.voice.clone()));
        }
        let status = loop {
            tokio::select! {
                status = self.process.wait() => break status?,
                Some(signal) = self.signals.recv() => self.pass_on(signal),
            }
        };
        let last_words = async { while output.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, last_words).await.is_err() {
            tracing::debug!("a grandchild keeps the output of a child open");
        }
        Ok(status)
    }

    fn pass_on(&self, signal: Signal) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(%error, ?signal, "cannot signal a child");
        }
    }
}

/// Prints a pipe line by line until it is closed; when standard output is gone, the pipe is still emptied.
async fn print_lines(pipe: impl AsyncRead + Unpin, voice: Voice) {
    let mut pipe = BufReader::with_capacity(LINE_BYTES_MAX, pipe);
    let mut line = Vec::new();
    // A pipe that fails has ended as much as one that is closed.
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
            drop(voice.say(&line));
            line.clear();
        }
    }
    if !line.is_empty() {
        drop(voice.say(&line));
    }
}
