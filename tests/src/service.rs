//! The services' binaries as processes: environment, log, signals, exit code.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::terminal::Terminal;

/// How long a test waits for a log line or for the exit of a process.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How many of the last lines an error shows.
const SHOWN_LINES: usize = 40;

/// The command of a service.
#[derive(Clone, Debug)]
pub struct ServiceCommand {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    folder: PathBuf,
    log_folder: PathBuf,
    patience: Duration,
}

impl ServiceCommand {
    /// Returns the command of a binary of this workspace, with `environment` as its whole environment.
    ///
    /// # Errors
    /// When the binary was not built.
    pub fn of_workspace(
        binary: &str,
        environment: BTreeMap<String, String>,
        log_folder: &Path,
    ) -> Result<Self> {
        let program = target_folder()?.join(binary);
        ensure!(
            program.exists(),
            "{} does not exist: run `cargo build --workspace`",
            program.display()
        );
        Ok(Self {
            name: binary.to_owned(),
            program,
            arguments: Vec::new(),
            environment,
            folder: PathBuf::from("."),
            log_folder: log_folder.to_owned(),
            patience: PATIENCE,
        })
    }

    /// Returns the command of another program, with `environment` on top of the test's own.
    pub fn of_system(
        program: &str,
        environment: BTreeMap<String, String>,
        log_folder: &Path,
    ) -> Self {
        let name = Path::new(program)
            .file_name()
            .map_or_else(|| program.to_owned(), |name| name.to_string_lossy().into_owned());
        let mut whole: BTreeMap<String, String> = std::env::vars().collect();
        whole.extend(environment);
        Self {
            name,
            program: program.into(),
            arguments: Vec::new(),
            environment: whole,
            folder: PathBuf::from("."),
            log_folder: log_folder.to_owned(),
            patience: PATIENCE,
        }
    }

    /// Sets the name of the process in errors and in the log folder.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Adds command line arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the timeout of [`Self::output`], [`PATIENCE`] by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.folder);
        self
    }

    /// Starts the process in a terminal of `rows` and `columns`. Dropping the returned value kills it.
    ///
    /// # Errors
    /// When the program cannot be run, or the system has no terminal.
    pub fn start_in_terminal(&self, size: (u16, u16)) -> Result<Terminal> {
        let command = pty_process::Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.folder)
            .kill_on_drop(true);
        Terminal::start(&self.name, command, size)
    }

    /// Starts the process. Dropping the returned value kills it.
    ///
    /// # Errors
    /// When the program cannot be run or its log file cannot be written.
    pub fn start(&self) -> Result<Service> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let log_path = self.log_folder.join(format!("{}.log", self.name));
        let log = Arc::new(Log::create(&log_path, 2)?);
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(follow(stdout, Arc::clone(&log)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(follow(stderr, Arc::clone(&log)));
        }
        Ok(Service {
            name: self.name.clone(),
            pid: pid.context("the process has no id")?,
            child,
            log,
            readers,
            log_path,
        })
    }

    /// Runs the process to its end and returns its standard output.
    ///
    /// # Errors
    /// When the program cannot be run, exceeds the timeout, or exits with another code than 0; the error has its standard
    /// error.
    pub async fn output(&self) -> Result<String> {
        let running = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let patience = self.patience;
        let output = timeout(patience, running)
            .await
            .with_context(|| {
                format!("{} {:?} did not end within {patience:?}", self.name, self.arguments)
            })?
            .with_context(|| format!("run {}", self.program.display()))?;
        ensure!(
            output.status.success(),
            "{} {:?} ended with {}:\n{}{}",
            self.name,
            self.arguments,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        String::from_utf8(output.stdout)
            .with_context(|| format!("read the output of {}", self.name))
    }
}

/// Returns the folder of the workspace's binaries; the test binaries are in its subfolder `deps`.
///
/// # Errors
/// When this binary is not in cargo's folder for tests.
pub fn target_folder() -> Result<PathBuf> {
    let this = std::env::current_exe().context("find this test's own binary")?;
    let folder = this.parent().and_then(Path::parent);
    Ok(folder.context("this test's binary is in no target folder")?.to_owned())
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    name: String,
    pid: Pid,
    child: Child,
    log: Arc<Log>,
    readers: JoinSet<Result<()>>,
    log_path: PathBuf,
}

impl Service {
    /// Waits for the first line of the log that contains `text`, and returns it.
    ///
    /// # Errors
    /// When there is none within [`PATIENCE`], or the log ends without it; the error has the last lines.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn line(&self, text: &str) -> Result<String> {
        self.line_after(0, text).await
    }

    /// Waits for the first line after the first `skipped` ones that contains `text`, and returns it.
    ///
    /// # Errors
    /// As [`Service::line`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn line_after(&self, skipped: usize, text: &str) -> Result<String> {
        match timeout(PATIENCE, self.log.find(skipped, text)).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => bail!("{} ended without a line with {text:?}{}", self.name, self.excerpt()),
            Err(_elapsed) => bail!("{} logged no line with {text:?}{}", self.name, self.excerpt()),
        }
    }

    /// Returns the address of the service's health and metrics, also with port 0 in `HTTP_ADDR`.
    ///
    /// # Errors
    /// When the service does not log it within [`PATIENCE`].
    pub async fn http_address(&self) -> Result<String> {
        let address = field(&self.line("serving /healthz").await?, "http_addr")?;
        Ok(address.as_str().context("read the address")?.to_owned())
    }

    /// Returns the number of log lines so far, for [`Service::line_after`].
    pub fn line_count(&self) -> usize {
        self.log.state().lines.len()
    }

    /// Returns all log lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.state().lines.clone()
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends SIGINT, as Ctrl-C does.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(Signal::INT)
    }

    /// Sends SIGSTOP, which stops the process and leaves its connections open.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Sends SIGCONT.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("send {signal:?} to {}", self.name))
    }

    /// Kills the process with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// When it cannot be killed.
    ///
    /// # Cancel safety
    /// Not cancel safe for the log, which may miss its last lines.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("kill {}", self.name))?;
        self.finish_log().await
    }

    /// Waits until the process has ended and its whole log is read.
    ///
    /// # Errors
    /// When it does not end within [`PATIENCE`].
    ///
    /// # Cancel safety
    /// Not cancel safe for the log, which may miss its last lines.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            bail!("{} did not end within {PATIENCE:?}{}", self.name, self.excerpt());
        };
        self.finish_log().await?;
        status.with_context(|| format!("wait for {}", self.name))
    }

    /// Waits until the process has ended and checks its exit code.
    ///
    /// # Errors
    /// When it does not end within [`PATIENCE`], or exits with another code; the error has the last lines.
    ///
    /// # Cancel safety
    /// As [`Service::wait`].
    pub async fn expect_exit(&mut self, code: i32) -> Result<()> {
        let status = self.wait().await?;
        ensure!(
            status.code() == Some(code),
            "{} ended with {status} instead of exit code {code}{}",
            self.name,
            self.excerpt()
        );
        Ok(())
    }

    /// Stops the service with SIGTERM and checks that it drains: it logs final statistics and exits with code 0.
    ///
    /// # Errors
    /// When it does not drain.
    pub async fn drain(mut self) -> Result<()> {
        self.terminate()?;
        self.expect_exit(0).await?;
        self.line("final statistics").await?;
        Ok(())
    }

    async fn finish_log(&mut self) -> Result<()> {
        while let Some(reader) = self.readers.join_next().await {
            reader.context("join a log reader")??;
        }
        Ok(())
    }

    fn excerpt(&self) -> String {
        let lines = self.lines();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        format!("\n--- the end of {}\n{}\n---", self.log_path.display(), shown.join("\n"))
    }
}

/// Returns a field of a log line in `LOG_FORMAT=json`.
///
/// # Errors
/// When the line is not JSON, or has no such field.
pub fn field(line: &str, name: &str) -> Result<Value> {
    let parsed: Value =
        serde_json::from_str(line).with_context(|| format!("read this line: {line}"))?;
    let fields = parsed.get("fields").unwrap_or(&parsed);
    fields.get(name).cloned().with_context(|| format!("find {name} in this line: {line}"))
}

/// The output of a process, in memory and in a file.
#[derive(Debug)]
struct Log {
    state: Mutex<LogState>,
    grown: Notify,
}

#[derive(Debug)]
struct LogState {
    lines: Vec<String>,
    file: File,
    /// How many of standard output and standard error are open.
    open_streams: usize,
}

impl Log {
    fn create(path: &Path, open_streams: usize) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let state = LogState { lines: Vec::new(), file, open_streams };
        Ok(Self { state: Mutex::new(state), grown: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first line after `skipped` that contains `text`, until the output ends.
    async fn find(&self, skipped: usize, text: &str) -> Option<String> {
        let mut seen = skipped;
        loop {
            // Registered before the search: a line that comes in between wakes the wait below.
            let grown = self.grown.notified();
            {
                let state = self.state();
                let rest = state.lines.get(seen..).unwrap_or_default();
                if let Some(line) = rest.iter().find(|line| line.contains(text)) {
                    return Some(line.clone());
                }
                if state.open_streams == 0 {
                    return None;
                }
                seen = seen.max(state.lines.len());
            }
            grown.await;
        }
    }

    fn push(&self, line: String) -> Result<()> {
        let mut state = self.state();
        writeln!(state.file, "{line}").context("write a log file")?;
        state.lines.push(line);
        self.grown.notify_waiters();
        Ok(())
    }

    fn close_stream(&self) {
        self.state().open_streams -= 1;
        self.grown.notify_waiters();
    }
}

async fn follow(stream: impl AsyncRead + Unpin, log: Arc<Log>) -> Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let mut outcome = Ok(());
    while outcome.is_ok() {
        outcome = match lines.next_line().await {
            Ok(Some(line)) => log.push(line),
            Ok(None) => break,
            Err(error) => Err(error).context("read a process's output"),
        };
    }
    log.close_stream();
    outcome
}
