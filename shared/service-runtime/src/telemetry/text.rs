//! The text form of a log line: `12:03:41.123  INFO committed offset topic=orders partition=2 offset=17`.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::text::Escaped;

/// Time of day (UTC), level, message, fields, and the fields of the spans around; the module only below INFO.
///
/// Colours mark the level and step back the time, where the writer has them.
pub(super) struct TextFormat;

impl<S, N> FormatEvent<S, N> for TextFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        let (dim, colour, plain) = if line.has_ansi_escapes() {
            ("\x1b[2m", colour_of(level), "\x1b[0m")
        } else {
            ("", "", "")
        };
        let time = TimeOfDay(SystemTime::now());
        write!(line, "{dim}{time}{plain} {colour}{level:>5}{plain} ")?;
        if level > Level::INFO {
            write!(line, "{dim}{}:{plain} ", event.metadata().target())?;
        }
        context.format_fields(line.by_ref(), event)?;
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(line, " {fields}")?;
            }
        }
        writeln!(line)
    }
}

/// Fields as tracing shows them, with two differences. Fractional numbers have two decimals: a price is `9.50`, where
/// JSON has `9.5`. Characters that a terminal acts on are escaped in every field, so that an event is one line whatever
/// records, headers, brokers and operators contain.
pub(super) struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, line: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = SafeFields(DefaultVisitor::new(line, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct SafeFields<'a>(DefaultVisitor<'a>);

impl Visit for SafeFields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.record_debug(field, &format_args!("{value:.2}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0.record_debug(field, &format_args!("{}", Escaped(value)));
        } else {
            self.0.record_debug(field, &Escaped(value));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.record_debug(field, &format_args!("{}", Escaped(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.record_debug(field, &Escaped(value));
    }
}

fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// Shows a time as `hours:minutes:seconds.milliseconds` of its day in UTC.
struct TimeOfDay(SystemTime);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_epoch = self.0.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = since_epoch.as_secs();
        let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
        let (seconds, millis) = (seconds % 60, since_epoch.subsec_millis());
        write!(f, "{hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info, info_span};

    use super::*;
    use crate::telemetry::captured::Captured;

    #[test]
    fn a_line_has_time_level_message_and_fields_and_ends_with_those_of_its_spans() {
        let lines = lines_of(false, || {
            let _span = info_span!("partition", topic = "orders", partition = 2).entered();
            info!(order_id = "1001", price = 12.5, "acknowledged {}", 1.5);
        });

        let (time, rest) = lines.split_at("00:00:00.000".len());
        assert!(
            time.chars()
                .zip("00:00:00.000".chars())
                .all(|(c, pattern)| c == pattern || (pattern == '0' && c.is_ascii_digit())),
            "{time}"
        );
        let expected =
            "  INFO acknowledged 1.5 order_id=\"1001\" price=12.50 topic=\"orders\" partition=2\n";
        assert_eq!(rest, expected);
    }

    #[test]
    fn only_lines_below_info_name_their_module() {
        let lines = lines_of(false, || {
            info!("one");
            debug!("two");
        });

        assert!(lines.contains(" INFO one\n"), "{lines}");
        let debug = " DEBUG service_runtime::telemetry::text::tests: two\n";
        assert!(lines.contains(debug), "{lines}");
    }

    #[test]
    fn there_are_colours_only_where_they_are_asked_for() {
        assert!(!lines_of(false, || info!(x = 1, "one")).contains('\x1b'));
        assert!(lines_of(true, || info!(x = 1, "one")).contains("\x1b[32m INFO\x1b[0m"));
    }

    #[test]
    fn an_event_is_one_line_that_no_terminal_acts_on_whatever_its_fields_contain() {
        const BAD: &str = "a\nb\u{1b}]52;c;eA==\u{7}\u{9b}2J\u{202e}\r\0c";
        let error = std::io::Error::other(BAD);
        let lines = lines_of(false, || {
            let _span = info_span!("partition", topic = %BAD, group = BAD, why = ?BAD).entered();
            info!(text = BAD, shown = %BAD, debug = ?BAD, error = %error, "by hand {BAD}");
            let cause: &(dyn std::error::Error + 'static) = &error;
            info!(cause, "another");
            let message = BAD.to_owned();
            info!("{message}");
        });

        assert_eq!(lines.lines().count(), 3, "{lines}");
        let is_safe = |line: &str| line.chars().all(crate::text::is_printable);
        assert!(lines.lines().all(is_safe), "{lines:?}");
        assert_eq!(lines.matches("\\u{1b}]52").count(), 16, "{lines}");
    }

    #[test]
    fn a_time_of_day_is_that_of_its_day_in_utc() {
        let time = UNIX_EPOCH + Duration::from_millis(1_700_000_000_007);

        assert_eq!(TimeOfDay(time).to_string(), "22:13:20.007");
    }

    /// Returns what is written while `log` runs.
    fn lines_of(colours: bool, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(colours)
            .event_format(TextFormat)
            .fmt_fields(TextFields)
            .with_writer(captured.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        captured.text()
    }
}
