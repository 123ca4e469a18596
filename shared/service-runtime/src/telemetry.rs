//! Log lines: for people, or as JSON.

use std::fmt;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use text::{TextFields, TextFormat};

#[cfg(test)]
pub(crate) mod captured;
mod console;
mod held;
mod line_limit;
mod progress;
mod text;

pub(crate) use console::Stream;
pub use console::{Console, HeldLines};
pub use line_limit::LineLimit;
pub use progress::Progress;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
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

/// Parses the log filter. Errors pass it, unless it sets a level for all modules or for theirs.
pub(crate) fn targets(filter: &str) -> Option<Targets> {
    let targets: Targets = filter.parse().ok()?;
    // Any other text would be a module without lines.
    let is_module = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "_-:".contains(c));
    targets.iter().all(|(target, _)| is_module(target)).then_some(())?;
    Some(match targets.default_level() {
        Some(_) => targets,
        None => targets.with_default(LevelFilter::ERROR),
    })
}

/// Rounds a number for a log line, which shows two decimals as text, and as JSON otherwise all that an `f64` has: 883.73
/// as a 32-bit float is 883.7299804688.
pub fn two_decimals(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
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
