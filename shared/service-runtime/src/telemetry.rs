//! Log lines: for people, or as JSON.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

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
    let targets = targets(filter).unwrap_or_default();
    let levels = targets.iter().map(|(_target, level)| level).chain(targets.default_level());
    let builder = tracing_subscriber::fmt()
        .with_max_level(levels.max().unwrap_or(LevelFilter::OFF))
        .with_ansi(colours)
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => {
            let builder = builder.event_format(TextFormat).fmt_fields(TextFields);
            builder.with_writer(console).finish().with(targets).try_init()
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true);
            builder.with_writer(console).finish().with(targets).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("log lines go to a subscriber that was there before");
    }
}

/// Reads which lines are written; errors always are, unless it says otherwise of all or of their module.
pub(crate) fn targets(filter: &str) -> Option<Targets> {
    let targets: Targets = filter.parse().ok()?;
    // Whatever else is there would be a module that no line is of.
    let is_module = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "_-:".contains(c));
    targets.iter().all(|(target, _)| is_module(target)).then_some(())?;
    Some(match targets.default_level() {
        Some(_) => targets,
        None => targets.with_default(LevelFilter::ERROR),
    })
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

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn errors_are_written_unless_it_says_otherwise() {
        for (filter, written, not_written) in [
            ("info,rskafka=warn", ("other", Level::INFO), ("rskafka", Level::INFO)),
            (
                "order_processor::view=debug",
                ("order_processor::view", Level::DEBUG),
                ("other", Level::WARN),
            ),
            ("order_processor=debug", ("other", Level::ERROR), ("other", Level::WARN)),
            ("off,one=trace", ("one", Level::TRACE), ("other", Level::ERROR)),
        ] {
            let targets = targets(filter).unwrap();
            assert!(targets.would_enable(written.0, &written.1), "{filter}");
            assert!(!targets.would_enable(not_written.0, &not_written.1), "{filter}");
        }
        assert_eq!(targets("info,[["), None);
        assert_eq!(targets("order_processor=loud"), None);
    }
}
