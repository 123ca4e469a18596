//! Log lines: for people, or as JSON.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::settings::LogFormat;
use held::Held;
use text::{TextFields, TextFormat};

mod held;
mod text;

pub use held::HeldLines;

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// A service's lines.
    Stdout,
    /// The lines of a command whose output is on stdout.
    Stderr,
}

/// Makes `tracing` write lines that pass `filter` to `console`; later calls in the same process change nothing.
pub(crate) fn start(filter: &str, format: LogFormat, console: Console) {
    let colours = console.stream_is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(colours)
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => {
            let builder = builder.event_format(TextFormat).fmt_fields(TextFields);
            builder.with_writer(console).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).with_writer(console).try_init(),
    };
    if started.is_err() {
        tracing::debug!("log lines go to a subscriber that was there before");
    }
}

/// Writes a line while whatever else is drawn on the terminal is out of the way.
type Around = dyn Fn(&mut dyn FnMut()) + Send + Sync;

/// Rounds a number for a log line, which shows two decimals as text, and as JSON otherwise all that an `f64` has: 883.73
/// as a 32-bit float is 883.7299804688.
pub fn two_decimals(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

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

    fn placing(&self) -> MutexGuard<'_, Placing> {
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream_is_terminal(&self) -> bool {
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

impl Default for Console {
    fn default() -> Self {
        Self::new(Stream::Stdout)
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
