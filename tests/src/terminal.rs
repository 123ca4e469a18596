//! A terminal with a program in it, that a test types into and looks at.

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

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// A running program and its terminal.
pub struct Terminal {
    name: String,
    child: Child,
    keys: OwnedWritePty,
    /// The program's end of it, so that its modes can be looked at when the program has ended.
    program_end: Pts,
    picture: Arc<Picture>,
    readers: JoinSet<()>,
}

/// What is on the screen.
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

    /// Waits until the text on the screen is as `is_shown` wants it, and returns it; `what` says what is waited for.
    ///
    /// # Errors
    /// When that is not so within [`PATIENCE`]; the error shows the screen.
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
                // Registered before the screen is looked at: what changes between wakes the wait below.
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

    /// Returns the text on the screen: a line for each row, without the blanks at its end.
    pub fn text(&self) -> String {
        self.picture.text()
    }

    /// Returns whether the program has the alternate screen, and has hidden the cursor.
    pub fn is_taken(&self) -> (bool, bool) {
        let parser = self.picture.parser();
        (parser.screen().alternate_screen(), parser.screen().hide_cursor())
    }

    /// Returns whether the program wants to know what is pasted and what is typed.
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

    /// Returns whether keys are handed on line by line and shown as they are typed, as shells leave it.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn is_in_line_mode(&self) -> Result<bool> {
        let modes = tcgetattr(&self.program_end).context("look at the terminal's modes")?;
        Ok(modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    /// Types keys.
    ///
    /// # Errors
    /// When the terminal is gone.
    ///
    /// # Cancel safety
    /// Not cancel safe: some of them may have been typed.
    pub async fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).await.context("type keys")
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        self.picture.parser().screen_mut().set_size(at_least_one(rows), at_least_one(columns));
        self.keys.resize(Size::new(rows, columns)).context("resize a terminal")
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.context("the program has ended")?;
        kill_process(pid, signal).with_context(|| format!("send {signal:?} to {}", self.name))
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`]; the error shows the screen.
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
    /// When it cannot be read to its end, or pastes are still told.
    pub async fn left(self) -> Result<String> {
        let Self { program_end, picture, mut readers, .. } = self;
        // With its last program end the terminal ends, after everything that was written.
        drop(program_end);
        let read = timeout(PATIENCE, readers.join_next()).await.context("read to the end")?;
        read.transpose().context("join the reader")?;
        ensure!(!picture.parser().screen().bracketed_paste(), "pastes are still told");
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
    // Its end is an error on Linux, and nothing read elsewhere.
    while let Ok(count) = output.read(&mut bytes).await
        && count > 0
    {
        picture.parser().process(&bytes[..count]);
        picture.changed.notify_waiters();
    }
}
