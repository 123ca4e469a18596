//! Reading the cause of a failure from a dead letter's headers, whichever program wrote the letter.
//!
//! | author | headers | numbers |
//! |---|---|---|
//! | order-processor | `__dlq.errors.*` and `dlq.*` | decimal texts, times as RFC 3339 |
//! | share groups (KIP-1191) | `__dlq.errors.*` alone | decimal texts |
//! | Spring's dead-letter publisher | `kafka_dlt-*` | big-endian: 4 bytes, 8 bytes |
//! | Spring's `@RetryableTopic` | `kafka_original-*`, `kafka_exception-*` | big-endian, some of minimal length |
//! | Kafka Connect | `__connect.errors.*` | decimal texts |
//! | Kafka Streams (KIP-1034) | `__streams.errors.*` | decimal texts |
//! | many small consumers | `error_reason`, `original_*`, `timestamp` | decimal texts |
//!
//! If a name repeats, the last header counts: Connect, and Spring by its settings, append at every failure.

use std::str::FromStr;

use chrono::DateTime;

use crate::{RawHeader, names, text_of};

/// The most bytes of an error type that is derived from a message.
const TYPE_BYTES_MAX: usize = 60;

/// The program that wrote a dead letter, by the names of the letter's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Author {
    /// This product's order-processor.
    OrderProcessor,
    /// A broker, for a share group (KIP-1191).
    ShareGroup,
    /// Spring's `DeadLetterPublishingRecoverer`.
    Spring,
    /// Spring's `DeadLetterPublishingRecoverer` with `@RetryableTopic`.
    SpringRetryableTopic,
    /// A sink connector of Kafka Connect.
    Connect,
    /// A Kafka Streams application (KIP-1034).
    Streams,
    /// A program that writes `error_reason`, `original_topic` and the other plain headers.
    Plain,
    /// Its headers do not tell.
    #[default]
    Unknown,
}

/// What a dead letter's headers say about its failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The program that wrote the letter.
    pub author: Author,
    /// The type of the failure: a label of [`ErrorType`](crate::ErrorType), or an exception's class name.
    pub error_type: Option<String>,
    /// The label of [`ErrorClass`](crate::ErrorClass); only in letters of the order-processor.
    pub class: Option<String>,
    /// The processing step that failed: a label of [`Stage`](crate::Stage), or Connect's stage.
    pub stage: Option<String>,
    /// What happened, as a text for operators.
    pub message: Option<String>,
    /// The topic of the failed record.
    pub topic: Option<String>,
    /// The partition of the failed record.
    pub partition: Option<i32>,
    /// The offset of the failed record.
    pub offset: Option<i64>,
    /// The consumer group or the connector that failed to process it.
    pub group: Option<String>,
    /// How many attempts were made.
    pub attempts: Option<u32>,
    /// The failed record's timestamp, in milliseconds since 1970.
    pub produced_at_ms: Option<i64>,
    /// When it failed, in milliseconds since 1970.
    pub failed_at_ms: Option<i64>,
}

impl Author {
    /// Returns the author's name for operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrderProcessor => "order-processor",
            Self::ShareGroup => "share group",
            Self::Spring => "Spring",
            Self::SpringRetryableTopic => "Spring @RetryableTopic",
            Self::Connect => "Kafka Connect",
            Self::Streams => "Kafka Streams",
            Self::Plain => "plain headers",
            Self::Unknown => "unknown",
        }
    }

    /// Returns whether this author adds a header of that name, so that the failed record did not have it.
    ///
    /// Use [`crate::original_headers()`] for letters of the order-processor.
    pub fn adds(self, name: &[u8]) -> bool {
        const SPRING: &[&str] = &[
            "kafka_dlt-",
            "kafka_original-",
            "kafka_exception-",
            "kafka_deliveryAttempt",
            "retry_topic-",
            "springDeserializerException",
        ];
        let prefixes = match self {
            Self::Spring | Self::SpringRetryableTopic => SPRING,
            Self::ShareGroup => &["__dlq.errors."],
            Self::Connect => &["__connect.errors."],
            Self::Streams => &["__streams.errors."],
            Self::Plain => return names::is_plain(name),
            Self::OrderProcessor | Self::Unknown => return false,
        };
        prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
    }

    fn of(headers: &[RawHeader<'_>]) -> Self {
        let has = |name: &str| headers.iter().any(|(other, _)| *other == name.as_bytes());
        let has_prefix =
            |prefix: &str| headers.iter().any(|(name, _)| name.starts_with(prefix.as_bytes()));
        if has(names::ERROR_TYPE) {
            Self::OrderProcessor
        } else if has(names::TOPIC) || has(names::MESSAGE) {
            Self::ShareGroup
        } else if has_prefix("kafka_dlt-original-topic") || has_prefix("kafka_dlt-exception-") {
            Self::Spring
        } else if has_prefix("kafka_original-topic") || has_prefix("kafka_exception-") {
            Self::SpringRetryableTopic
        } else if has_prefix("kafka_dlt-") {
            Self::Spring
        } else if has_prefix("__connect.errors.") {
            Self::Connect
        } else if has_prefix("__streams.errors.") {
            Self::Streams
        } else if has(names::PLAIN_TOPIC) || has(names::PLAIN_REASON) {
            Self::Plain
        } else {
            Self::Unknown
        }
    }
}

impl Cause {
    /// Reads the cause from a letter's headers.
    pub fn of(headers: &[RawHeader<'_>]) -> Self {
        let read = HeaderReader { headers };
        match Author::of(headers) {
            Author::OrderProcessor => read.ours(),
            Author::ShareGroup => read.share_group(),
            Author::Spring => read.spring(Author::Spring, "kafka_dlt-"),
            Author::SpringRetryableTopic => read.spring(Author::SpringRetryableTopic, "kafka_"),
            Author::Connect => read.connect(),
            Author::Streams => read.streams(),
            Author::Plain => read.plain(),
            Author::Unknown => Self::default(),
        }
    }

    /// Returns the error type, or a description if the letter has none.
    pub fn type_or_label(&self) -> &str {
        match (&self.error_type, self.author) {
            (Some(error_type), _) => error_type,
            (None, Author::Unknown) => "no cause in its headers",
            (None, _) => "no type in its headers",
        }
    }

    fn unknown(author: Author) -> Self {
        Self { author, ..Self::default() }
    }
}

/// Reads the headers of one letter.
struct HeaderReader<'a> {
    headers: &'a [RawHeader<'a>],
}

impl HeaderReader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        text_of(self.headers, name).map(str::to_owned)
    }

    fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        text_of(self.headers, name)?.parse().ok()
    }

    fn time_ms(&self, name: &str) -> Option<i64> {
        let text = text_of(self.headers, name)?;
        let time = DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis());
        time.ok().or_else(|| text.parse().ok())
    }

    fn spring_number<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        let (_, bytes) = self.headers.iter().rfind(|(other, _)| *other == name.as_bytes())?;
        spring_number((*bytes)?)?.try_into().ok()
    }

    fn ours(&self) -> Cause {
        Cause {
            error_type: self.text(names::ERROR_TYPE),
            class: self.text(names::ERROR_CLASS),
            stage: self.text(names::ERROR_STAGE),
            attempts: self.number(names::ATTEMPTS),
            produced_at_ms: self.time_ms(names::ORIGINAL_TIMESTAMP),
            failed_at_ms: self.time_ms(names::FAILED_AT),
            author: Author::OrderProcessor,
            ..self.share_group()
        }
    }

    fn share_group(&self) -> Cause {
        let message = self.text(names::MESSAGE);
        Cause {
            error_type: message.as_deref().map(type_of_message),
            message,
            topic: self.text(names::TOPIC),
            partition: self.number(names::PARTITION),
            offset: self.number(names::OFFSET),
            group: self.text(names::GROUP),
            attempts: self.number(names::DELIVERY_COUNT),
            ..Cause::unknown(Author::ShareGroup)
        }
    }

    /// Prefers the cause to the listener's exception, which only wraps it.
    fn spring(&self, author: Author, prefix: &str) -> Cause {
        let text = |name: &str| self.text(&format!("{prefix}{name}"));
        let original = |name: &str| format!("{prefix}original-{name}");
        let error_type = text("exception-cause-fqcn")
            .or_else(|| text("exception-fqcn"))
            .or_else(|| text("key-exception-fqcn"));
        Cause {
            error_type,
            message: text("exception-message").or_else(|| text("key-exception-message")),
            topic: self.text(&original("topic")),
            partition: self.spring_number(&original("partition")),
            offset: self.spring_number(&original("offset")),
            // The group's header has this name with @RetryableTopic, too.
            group: self.text("kafka_dlt-original-consumer-group"),
            attempts: self
                .spring_number("retry_topic-attempts")
                .or_else(|| self.spring_number("kafka_deliveryAttempt")),
            produced_at_ms: self
                .spring_number("retry_topic-original-timestamp")
                .or_else(|| self.spring_number(&original("timestamp"))),
            ..Cause::unknown(author)
        }
    }

    fn connect(&self) -> Cause {
        let text = |name: &str| self.text(&format!("__connect.errors.{name}"));
        Cause {
            error_type: text("exception.class.name"),
            stage: text("stage"),
            message: text("exception.message"),
            topic: text("topic"),
            partition: self.number("__connect.errors.partition"),
            offset: self.number("__connect.errors.offset"),
            group: text("connector.name"),
            ..Cause::unknown(Author::Connect)
        }
    }

    fn streams(&self) -> Cause {
        let text = |name: &str| self.text(&format!("__streams.errors.{name}"));
        Cause {
            error_type: text("exception"),
            message: text("message"),
            topic: text("topic"),
            partition: self.number("__streams.errors.partition"),
            offset: self.number("__streams.errors.offset"),
            ..Cause::unknown(Author::Streams)
        }
    }

    fn plain(&self) -> Cause {
        let message = self.text(names::PLAIN_REASON);
        Cause {
            error_type: message.as_deref().map(type_of_message),
            message,
            topic: self.text(names::PLAIN_TOPIC),
            partition: self.number(names::PLAIN_PARTITION),
            offset: self.number(names::PLAIN_OFFSET),
            failed_at_ms: self.time_ms(names::PLAIN_TIMESTAMP),
            ..Cause::unknown(Author::Plain)
        }
    }
}

/// Derives an error type from a message: the text before the first colon or line break, truncated.
fn type_of_message(message: &str) -> String {
    let first = message.split([':', '\n']).next().unwrap_or_default().trim();
    first[..first.floor_char_boundary(TYPE_BYTES_MAX)].to_owned()
}

/// Reads a number of a Spring header: big-endian, one to eight bytes.
///
/// Programs that imitate Spring write decimal digits, which are read, too. The big-endian form of no plausible
/// partition, offset, time or count consists of digits alone.
pub fn spring_number(bytes: &[u8]) -> Option<i64> {
    if !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
        return str::from_utf8(bytes).ok()?.parse().ok();
    }
    let [first, ..] = bytes else { return None };
    let sign = if first & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [sign; size_of::<i64>()];
    let start = wide.len().checked_sub(bytes.len())?;
    wide[start..].copy_from_slice(bytes);
    Some(i64::from_be_bytes(wide))
}

/// Returns whether a header of that name holds a number in Spring's form.
pub fn is_spring_number(name: &[u8]) -> bool {
    const NAMES: &[&str] = &[
        "kafka_deliveryAttempt",
        "kafka_dlt-original-offset",
        "kafka_dlt-original-partition",
        "kafka_dlt-original-timestamp",
        "kafka_original-offset",
        "kafka_original-partition",
        "kafka_original-timestamp",
        "retry_topic-attempts",
        "retry_topic-backoff-timestamp",
        "retry_topic-original-timestamp",
    ];
    NAMES.iter().any(|known| known.as_bytes() == name)
}

#[cfg(test)]
mod tests;
