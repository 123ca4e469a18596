//! The names of a dead letter's headers.
//!
//! `__dlq.errors.*` are the names of KIP-1191; the others are this product's own, but for the plain ones.
#![expect(missing_docs, reason = "a name says what its header holds; the others are documented")]

/// The coordinates of the first failure, as [`super::ReplayOf`]. Only on replays.
pub const REPLAY_OF_HEADER: &str = "dlq.replay.of";
/// How often the order was replayed, in decimal. On letters and replays.
pub const REPLAY_COUNT_HEADER: &str = "dlq.replay.count";

pub const TOPIC: &str = "__dlq.errors.topic";
pub const PARTITION: &str = "__dlq.errors.partition";
pub const OFFSET: &str = "__dlq.errors.offset";
pub const GROUP: &str = "__dlq.errors.group";
pub const DELIVERY_COUNT: &str = "__dlq.errors.delivery.count";
pub const MESSAGE: &str = "__dlq.errors.message";

/// The first of a letter's own headers.
pub const ERROR_TYPE: &str = "dlq.error.type";
pub const ERROR_CLASS: &str = "dlq.error.class";
pub const ERROR_STAGE: &str = "dlq.error.stage";
pub const TOPIC_ID: &str = "dlq.topic-id";
pub const ORIGINAL_TIMESTAMP: &str = "dlq.original.timestamp";
pub const FAILED_AT: &str = "dlq.failed-at";
pub const ATTEMPTS: &str = "dlq.attempts";
pub const SCHEMA_ID: &str = "dlq.schema-id";

/// [`OMITTED`] if the record's headers are too large.
pub const HEADERS: &str = "dlq.headers";
/// [`OMITTED`] if the value is too large.
pub const VALUE: &str = "dlq.value";
pub const VALUE_BYTES: &str = "dlq.value.bytes";
pub const VALUE_SHA256: &str = "dlq.value.sha256";
/// [`OMITTED`] if the key is too large, too; [`NO_KEY`] if the record has none and the letter's key is generated.
pub const KEY: &str = "dlq.key";
pub const KEY_BYTES: &str = "dlq.key.bytes";
pub const KEY_SHA256: &str = "dlq.key.sha256";
pub const OMITTED: &str = "omitted";
pub const NO_KEY: &str = "none";

/// First offset of the unreadable range that a letter is about.
pub const BASE_OFFSET: &str = "dlq.batch.base-offset";
/// Last offset of that range.
pub const LAST_OFFSET: &str = "dlq.batch.last-offset";

/// Plain copies for consumers that do not know the other names. Other programs use these names, too.
pub const PLAIN_REASON: &str = "error_reason";
pub const PLAIN_TOPIC: &str = "original_topic";
pub const PLAIN_PARTITION: &str = "original_partition";
pub const PLAIN_OFFSET: &str = "original_offset";
pub const PLAIN_TIMESTAMP: &str = "timestamp";

/// The names that only letters and replays have.
const RESERVED: &[&str] = &[
    TOPIC,
    PARTITION,
    OFFSET,
    GROUP,
    DELIVERY_COUNT,
    MESSAGE,
    ERROR_TYPE,
    ERROR_CLASS,
    ERROR_STAGE,
    TOPIC_ID,
    ORIGINAL_TIMESTAMP,
    FAILED_AT,
    ATTEMPTS,
    SCHEMA_ID,
    REPLAY_OF_HEADER,
    REPLAY_COUNT_HEADER,
    HEADERS,
    VALUE,
    VALUE_BYTES,
    VALUE_SHA256,
    KEY,
    KEY_BYTES,
    KEY_SHA256,
    BASE_OFFSET,
    LAST_OFFSET,
];

const PLAIN: &[&str] = &[PLAIN_REASON, PLAIN_TOPIC, PLAIN_PARTITION, PLAIN_OFFSET, PLAIN_TIMESTAMP];

pub fn is_reserved(name: &[u8]) -> bool {
    RESERVED.iter().any(|reserved| reserved.as_bytes() == name)
}

pub fn is_plain(name: &[u8]) -> bool {
    PLAIN.iter().any(|plain| plain.as_bytes() == name)
}
