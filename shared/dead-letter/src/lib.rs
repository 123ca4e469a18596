//! Dead letters: records of the dead-letter topic, each about a record that could not be processed.
//!
//! A letter has the failed record's key, value and headers byte for byte. Headers of its own follow, which say where the
//! record was, what was wrong and when. The `__dlq.errors.*` names are those of
//! [KIP-1191](https://cwiki.apache.org/confluence/display/KAFKA/KIP-1191%3A+Dead-letter+queues+for+share+groups). The
//! values of its own headers are UTF-8: integers in decimal, times as RFC 3339 in UTC with milliseconds. Each name occurs
//! once among them. The headers of an earlier letter are replaced, so a letter does not grow from failure to failure.
//!
//! Reading order: [`error_type`](ErrorType) lists the failures, [`names`] the headers. [`DeadLetter`] is written,
//! [`cause`] reads it back, also if another program wrote it. [`actions`] is what operators do about letters, and
//! [`group_topics`] names the topics of a group.
//!
//! # Invariants
//!
//! - No two groups share a topic of their own, whatever the names of groups and topics, and Kafka accepts the names
//!   side by side.
//! - A dead letter names the true reason and holds the record's own bytes.

use chrono::{DateTime, SecondsFormat};
use order_avro::SchemaId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub mod actions;
pub mod cause;
mod error_type;
pub mod group_topics;
mod identity;
pub mod names;
mod original_headers;

pub use self::error_type::{ErrorClass, ErrorType, Stage};
pub use self::group_topics::GroupTopics;
pub use self::identity::{Identity, ParseIdentityError, ParseReplayOfError, ReplayOf, text_of};
pub use self::names::{REPLAY_COUNT_HEADER, REPLAY_OF_HEADER};
pub use self::original_headers::{OwnedHeader, original_headers};

/// A header's name and value as in the log: any bytes; the value may be null.
pub type RawHeader<'a> = (&'a [u8], Option<&'a [u8]>);

/// Kafka's value for a record without a timestamp.
pub const NO_TIMESTAMP: i64 = -1;
/// The most bytes of an error's message in a letter.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// The most bytes by which a letter exceeds its record, for topic names and group ids of up to 249 characters (Kafka's
/// limit for topics). The dead-letter topic's `max.message.bytes` has to exceed that of the orders' topic by as much.
pub const ADDED_BYTES_MAX: usize = 5 * 1024;

/// A record that could not be processed.
#[derive(Clone, Copy, Debug)]
pub struct FailedRecord<'a> {
    /// The topic that it was read from.
    pub topic: &'a str,
    /// The id of that topic.
    pub topic_id: Uuid,
    /// The partition that it was read from.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970, or [`NO_TIMESTAMP`].
    pub timestamp_ms: i64,
    /// Its key; `None` for null.
    pub key: Option<&'a [u8]>,
    /// Its value (`None` for null), or the bytes of an unreadable range.
    pub value: Option<&'a [u8]>,
    /// Its headers in the order of the record.
    pub headers: &'a [RawHeader<'a>],
}

/// Why, when and for which group a record failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The type of the failure.
    pub error_type: ErrorType,
    /// What happened, as a text for operators.
    pub message: &'a str,
    /// How many attempts were made; 0 for a record that could not be decoded.
    pub attempts: u32,
    /// The schema id in the value or a header.
    pub schema_id: Option<SchemaId>,
    /// The time of the failure, in milliseconds since 1970.
    pub failed_at_ms: i64,
    /// The consumer group that failed to process it.
    pub group: &'a str,
}

/// A record for the dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The failed record's key; `None` for null.
    pub key: Option<Vec<u8>>,
    /// The failed record's value; `None` for null.
    pub value: Option<Vec<u8>>,
    /// The failed record's headers, and the letter's own.
    pub headers: Vec<OwnedHeader>,
}

impl DeadLetter {
    /// Returns the letter about a failed record.
    ///
    /// Its coordinates are those of the record. If the record is a replay, they are those of the first failure.
    pub fn build(record: &FailedRecord<'_>, failure: &Failure<'_>) -> Self {
        let mut headers = original_headers(record.headers);
        let mut write = |name: &str, value: String| headers.push(header(name, value));
        let replay = replay_of(record.headers);
        let replayed_timestamp = replay.as_ref().and_then(|_| {
            let time = text_of(record.headers, names::ORIGINAL_TIMESTAMP)?;
            DateTime::parse_from_rfc3339(time).is_ok().then(|| time.to_owned())
        });
        let (of, replay_count) = replay.unwrap_or_else(|| {
            let FailedRecord { topic, topic_id, partition, offset, .. } = *record;
            (ReplayOf { topic: topic.to_owned(), topic_id, partition, offset }, 0)
        });
        let message = truncate(failure.message);
        let failed_at = rfc3339(failure.failed_at_ms);
        let deliveries = failure.attempts.max(1);

        write(names::ERROR_TYPE, failure.error_type.to_string());
        write(names::ERROR_CLASS, failure.error_type.class().as_str().to_owned());
        write(names::ERROR_STAGE, failure.error_type.stage().as_str().to_owned());
        write(names::TOPIC, of.topic.clone());
        write(names::PARTITION, of.partition.to_string());
        write(names::OFFSET, of.offset.to_string());
        write(names::GROUP, failure.group.to_owned());
        write(names::DELIVERY_COUNT, deliveries.to_string());
        write(names::MESSAGE, message.clone());
        write(names::TOPIC_ID, of.topic_id.to_string());
        let own_timestamp = (record.timestamp_ms != NO_TIMESTAMP).then_some(record.timestamp_ms);
        if let Some(timestamp) = replayed_timestamp.or(own_timestamp.map(rfc3339)) {
            write(names::ORIGINAL_TIMESTAMP, timestamp);
        }
        write(names::FAILED_AT, failed_at.clone());
        write(names::ATTEMPTS, failure.attempts.to_string());
        if let Some(schema_id) = failure.schema_id {
            write(names::SCHEMA_ID, schema_id.to_string());
        }
        write(REPLAY_COUNT_HEADER, replay_count.to_string());
        write(names::PLAIN_REASON, message);
        write(names::PLAIN_TOPIC, of.topic);
        write(names::PLAIN_PARTITION, of.partition.to_string());
        write(names::PLAIN_OFFSET, of.offset.to_string());
        write(names::PLAIN_TIMESTAMP, failed_at);

        Self {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers,
        }
    }

    /// Adds the headers of an unreadable range with these offsets.
    #[must_use]
    pub fn for_offsets(self, first: i64, last: i64) -> Self {
        self.with([(names::BASE_OFFSET, first.to_string()), (names::LAST_OFFSET, last.to_string())])
    }

    /// Returns the letter without its value, for a topic that refuses a record of that size. Size and SHA-256 of the
    /// value are added as headers.
    #[must_use]
    pub fn without_value(mut self) -> Self {
        let Some(value) = self.value.take() else { return self };
        self.with([
            (names::VALUE, names::OMITTED.to_owned()),
            (names::VALUE_BYTES, value.len().to_string()),
            (names::VALUE_SHA256, hex(&Sha256::digest(&value))),
        ])
    }

    /// Returns the letter without value, key and headers of its record, for one whose key or headers are too large,
    /// too. The letter's own headers remain, with size and SHA-256 of value and key.
    #[must_use]
    pub fn without_record(self) -> Self {
        let mut letter = self.without_value();
        let is_first_own = |(name, _): &OwnedHeader| name == names::ERROR_TYPE.as_bytes();
        let own = letter.headers.iter().rposition(is_first_own).unwrap_or(0);
        letter.headers.drain(..own);
        letter = letter.with([(names::HEADERS, names::OMITTED.to_owned())]);
        let Some(key) = letter.key.take() else { return letter };
        letter.with([
            (names::KEY, names::OMITTED.to_owned()),
            (names::KEY_BYTES, key.len().to_string()),
            (names::KEY_SHA256, hex(&Sha256::digest(&key))),
        ])
    }

    fn with<const N: usize>(mut self, added: [(&str, String); N]) -> Self {
        self.headers.extend(added.map(|(name, value)| header(name, value)));
        self
    }
}

fn header(name: &str, value: String) -> OwnedHeader {
    (name.as_bytes().to_vec(), Some(value.into_bytes()))
}

/// Returns the coordinates of a replay's first failure, and how often the order was replayed; `None` if the record is
/// not a replay.
pub fn replay_of(headers: &[RawHeader<'_>]) -> Option<(ReplayOf, u32)> {
    let of = ReplayOf::of(headers)?;
    let count = text_of(headers, REPLAY_COUNT_HEADER).and_then(|text| text.parse().ok());
    Some((of, count.unwrap_or(1)))
}

/// Returns whether a letter has a generated key because its record has none, by the letter's headers.
pub fn has_generated_key(headers: &[RawHeader<'_>]) -> bool {
    text_of(headers, names::KEY) == Some(names::NO_KEY)
}

/// Returns a time in milliseconds since 1970 as RFC 3339 in UTC with milliseconds, clamped to the years 0 to 9999.
pub fn rfc3339(timestamp_ms: i64) -> String {
    const EARLIEST_MS: i64 = -62_167_219_200_000;
    const LATEST_MS: i64 = 253_402_300_799_999;
    let time = DateTime::from_timestamp_millis(timestamp_ms.clamp(EARLIEST_MS, LATEST_MS));
    time.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Returns bytes as hexadecimal digits in lower case.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Truncates a long text after a whole character and appends `…`.
fn truncate(message: &str) -> String {
    const MARK: &str = "…";
    if message.len() <= MESSAGE_BYTES_MAX {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX - MARK.len());
    format!("{}{MARK}", &message[..end])
}

#[cfg(test)]
mod tests;
