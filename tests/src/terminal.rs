//! A terminal with a program: the test types keys and reads the screen.

use std::fmt;
use std::num::NonZeroU16;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use pty_process::{OwnedReadPty, OwnedWritePty, Pts, Size};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::service::PATIENCE;

/// The most bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// A running program and its terminal.
pub struct Terminal {
    name: String,
    child: Child,
    keys: OwnedWritePty,
    /// The program's end, to read the terminal's modes after the program has ended.
    program_end: Pts,
    picture: Arc<Picture>,
    readers: JoinSet<()>,
}

/// The contents of the screen.
struct Picture {
    parser: Mutex<vt100::Parser>,
    changed: Notify,
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Terminal {
    pub(crate) fn start(
        name: &str,
        mut command: pty_process::Command,
        (rows, columns): (u16, u16),
    ) -> Result<Self> {
        let (pty, program_end) = pty_process::open().context("open a terminal")?;
        pty.resize(Size::new(rows, columns)).context("size a terminal")?;
        let child =
            command.spawn_borrowed(&program_end).with_context(|| format!("start {name}"))?;
        let parser = Mutex::new(vt100::Parser::new(at_least_one(rows), at_least_one(columns), 0));
        let picture = Arc::new(Picture { parser, changed: Notify::new() });
        let (output, keys) = pty.into_split();
        let mut readers = JoinSet::new();
        readers.spawn(follow(output, Arc::clone(&picture)));
        Ok(Self { name: name.to_owned(), child, keys, program_end, picture, readers })
    }

    /// Waits until `is_shown` accepts the text on the screen, and returns it; `what` names the condition in the error.
    ///
    /// # Errors
    /// When the condition does not hold within [`PATIENCE`]; the error has the screen.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn shows(
        &self,
        what: &str,
        is_shown: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<String> {
        let looking = async {
            loop {
                // Registered before the check: a change in between wakes the wait below.
                let changed = self.picture.changed.notified();
                let text = self.text();
                if is_shown(&text) {
                    return text;
                }
                changed.await;
            }
        };
        match timeout(PATIENCE, looking).await {
            Ok(text) => Ok(text),
            Err(_elapsed) => bail!("{} did not show {what}:\n{}", self.name, self.text()),
        }
    }

    /// Returns the text on the screen: a line for each row, without trailing blanks.
    pub fn text(&self) -> String {
        self.picture.text()
    }

    /// Returns whether the program uses the alternate screen with a hidden cursor.
    pub fn is_taken(&self) -> (bool, bool) {
        let parser = self.picture.parser();
        (parser.screen().alternate_screen(), parser.screen().hide_cursor())
    }

    /// Returns whether the program has enabled bracketed paste.
    pub fn tells_pastes(&self) -> bool {
        self.picture.parser().screen().bracketed_paste()
    }

    /// Returns whether anything on the screen has a colour.
    pub fn is_coloured(&self) -> bool {
        let parser = self.picture.parser();
        let (rows, columns) = parser.screen().size();
        let (rows, columns) = (rows.get(), columns.get());
        let mut cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        cells.any(|(row, column)| {
            let plain = vt100::Color::Default;
            let cell = parser.screen().cell(row, column);
            cell.is_some_and(|cell| cell.fgcolor() != plain || cell.bgcolor() != plain)
        })
    }

    /// Returns whether the terminal is in line mode with echo, as in a shell.
    ///
    /// # Errors
    /// When the terminal is closed.
    pub fn is_in_line_mode(&self) -> Result<bool> {
        let modes = tcgetattr(&self.program_end).context("read the terminal's modes")?;
        Ok(modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    /// Types keys.
    ///
    /// # Errors
    /// When the terminal is closed.
    ///
    /// # Cancel safety
    /// Not cancel safe: the program may have received some keys.
    pub async fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).await.context("type keys")
    }

    /// Resizes the terminal.
    ///
    /// # Errors
    /// When the terminal is closed.
    pub fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        self.picture.parser().screen_mut().set_size(at_least_one(rows), at_least_one(columns));
        self.keys.resize(Size::new(rows, columns)).context("resize a terminal")
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.context("the program has ended")?;
        kill_process(pid, signal).with_context(|| format!("send {signal:?} to {}", self.name))
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// When it does not end within [`PATIENCE`]; the error has the screen.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            bail!("{} did not end:\n{}", self.name, self.text());
        };
        status.with_context(|| format!("wait for {}", self.name))
    }

    /// Returns the text that an ended program leaves on the screen.
    ///
    /// # Errors
    /// When the output cannot be read to its end, or bracketed paste is still enabled.
    pub async fn left(self) -> Result<String> {
        let Self { program_end, picture, mut readers, .. } = self;
        // The terminal closes with its last program, after all output.
        drop(program_end);
        let read = timeout(PATIENCE, readers.join_next()).await.context("read to the end")?;
        read.transpose().context("join the reader")?;
        ensure!(!picture.parser().screen().bracketed_paste(), "bracketed paste is still enabled");
        Ok(picture.text())
    }
}

impl Picture {
    fn parser(&self) -> MutexGuard<'_, vt100::Parser> {
        self.parser.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        let text = self.parser().screen().contents();
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

fn at_least_one(cells: u16) -> NonZeroU16 {
    NonZeroU16::new(cells).unwrap_or(NonZeroU16::MIN)
}

async fn follow(mut output: OwnedReadPty, picture: Arc<Picture>) {
    let mut bytes = vec![0; READ_BYTES];
    // The end is an error on Linux, and an empty read elsewhere.
    while let Ok(count) = output.read(&mut bytes).await
        && count > 0
    {
        picture.parser().process(&bytes[..count]);
        picture.changed.notify_waiters();
    }
}
