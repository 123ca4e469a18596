//! The place of log lines: standard output or error, beside a progress bar, or held back.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;

use super::held::Held;

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// A service's lines.
    Stdout,
    /// The lines of a command whose output is on stdout.
    Stderr,
}

/// Calls its argument, which writes a line, while the terminal is free of other drawings.
type Around = dyn Fn(&mut dyn FnMut()) + Send + Sync;

/// The place of the log lines; cheap to clone.
#[derive(Clone)]
pub struct Console {
    stream: Stream,
    placing: Arc<Mutex<Placing>>,
}

/// What is done with a line.
enum Placing {
    /// It is written.
    Stream,
    /// It is written while something else is out of the way.
    Inside(Box<Around>),
    /// It is kept for later.
    Held(Held),
}

impl Console {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, placing: Arc::new(Mutex::new(Placing::Stream)) }
    }

    /// Has every further line written inside `around`, which hides a progress bar, calls its argument once and shows
    /// the bar again.
    pub fn write_lines_inside(&self, around: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static) {
        *self.placing() = Placing::Inside(Box::new(around));
    }

    /// Has every further line kept until the returned value is dropped. Where log lines go to a file or a pipe they are in
    /// no one's way and written as ever.
    pub fn hold_lines(&self) -> HeldLines {
        let (held, latest) = Held::new();
        *self.placing() = Placing::Held(held);
        HeldLines { console: self.clone(), latest }
    }

    fn placing(&self) -> MutexGuard<'_, Placing> {
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stream_is_terminal(&self) -> bool {
        match self.stream {
            Stream::Stdout => io::stdout().is_terminal(),
            Stream::Stderr => io::stderr().is_terminal(),
        }
    }

    fn write_line(&self, line: &[u8]) -> io::Result<()> {
        match self.stream {
            Stream::Stdout => io::stdout().lock().write_all(line),
            Stream::Stderr => io::stderr().lock().write_all(line),
        }
    }
}

/// Keeps log lines from the terminal while it lives; when it is dropped, they are written.
#[derive(Debug)]
pub struct HeldLines {
    console: Console,
    latest: watch::Receiver<String>,
}

impl HeldLines {
    /// Waits for a line and returns it without colours and without its end; of several the last.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> String {
        if self.latest.changed().await.is_err() {
            // Another holder has the lines.
            std::future::pending::<()>().await;
        }
        self.latest.borrow_and_update().trim_end().to_owned()
    }
}

impl Drop for HeldLines {
    fn drop(&mut self) {
        let placing = std::mem::replace(&mut *self.console.placing(), Placing::Stream);
        let Placing::Held(held) = placing else { return };
        for line in held.into_lines() {
            // Nothing can be done about a closed stream.
            self.console.write_line(&line).unwrap_or_default();
        }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new(Stream::Stdout)
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// The subscriber hands over one whole line in one call.
impl Write for &Console {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut written = Ok(());
        match &mut *self.placing() {
            Placing::Stream => written = self.write_line(line),
            Placing::Inside(around) => around(&mut || written = self.write_line(line)),
            Placing::Held(held) => {
                let is_in_the_way = self.stream_is_terminal();
                held.take(line, is_in_the_way);
                if !is_in_the_way {
                    written = self.write_line(line);
                }
            }
        }
        written.map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::LINES_MAX;
    use super::*;

    #[tokio::test]
    async fn the_latest_line_is_told_and_the_oldest_ones_are_forgotten() {
        let console = Console::new(Stream::Stderr);
        let mut held = console.hold_lines();
        for number in 0..=LINES_MAX {
            match &mut *console.placing() {
                Placing::Held(held) => held.take(format!("line {number}\n").as_bytes(), true),
                Placing::Stream | Placing::Inside(_) => panic!("nothing is held"),
            }
        }
        assert_eq!(held.next().await, format!("line {LINES_MAX}"));
        let placing = std::mem::replace(&mut *console.placing(), Placing::Stream);
        let Placing::Held(kept) = placing else { panic!("nothing is held") };
        let lines: Vec<_> = kept.into_lines().collect();
        assert_eq!(lines.len(), 1 + LINES_MAX);
        assert_eq!(lines[0], "… 1 log lines before these\n".as_bytes());
        assert_eq!(lines[1], b"line 1\n");
    }

    #[tokio::test]
    async fn lines_that_are_in_nobodys_way_are_written_and_told() {
        // The standard error of a test is no terminal where tests are counted; where it is one, the line is kept.
        let console = Console::new(Stream::Stderr);
        let mut held = console.hold_lines();
        (&console).write_all(b"told\n").unwrap();
        assert_eq!(held.next().await, "told");
        drop(held);
        assert!(matches!(&*console.placing(), Placing::Stream));
    }
}
