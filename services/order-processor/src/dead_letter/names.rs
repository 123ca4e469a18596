//! The headers of dead letters.

/// Whose letter it was when this record was sent again: the coordinates of [`super::ReplayOf`]. Only on replays.
pub const REPLAY_OF_HEADER: &str = "dlq.replay.of";
/// How often the order was sent again. On letters and replays.
pub const REPLAY_COUNT_HEADER: &str = "dlq.replay.count";

pub(crate) const TOPIC: &str = "__dlq.errors.topic";
pub(crate) const PARTITION: &str = "__dlq.errors.partition";
pub(crate) const OFFSET: &str = "__dlq.errors.offset";
pub(crate) const GROUP: &str = "__dlq.errors.group";
pub(crate) const DELIVERY_COUNT: &str = "__dlq.errors.delivery.count";
pub(crate) const MESSAGE: &str = "__dlq.errors.message";

pub(crate) const ERROR_TYPE: &str = "dlq.error.type";
pub(crate) const ERROR_CLASS: &str = "dlq.error.class";
pub(crate) const ERROR_STAGE: &str = "dlq.error.stage";
pub(crate) const TOPIC_ID: &str = "dlq.topic-id";
pub(crate) const ORIGINAL_TIMESTAMP: &str = "dlq.original.timestamp";
pub(crate) const FAILED_AT: &str = "dlq.failed-at";
pub(crate) const ATTEMPTS: &str = "dlq.attempts";
pub(crate) const SCHEMA_ID: &str = "dlq.schema-id";

/// All original headers, where their plain copies are not the same.
pub(crate) const ORIGINAL_HEADERS: &str = "dlq.original.headers";
/// [`OMITTED`] if the original headers were too many to keep exactly.
pub(crate) const HEADERS: &str = "dlq.headers";
/// [`OMITTED`] if the value was too large.
pub(crate) const VALUE: &str = "dlq.value";
pub(crate) const VALUE_BYTES: &str = "dlq.value.bytes";
pub(crate) const VALUE_SHA256: &str = "dlq.value.sha256";
/// [`OMITTED`] if the key was too large besides; [`NO_KEY`] if the record had none, and the letter's key is made up.
pub(crate) const KEY: &str = "dlq.key";
pub(crate) const KEY_BYTES: &str = "dlq.key.bytes";
pub(crate) const KEY_SHA256: &str = "dlq.key.sha256";
pub(crate) const OMITTED: &str = "omitted";
pub(crate) const NO_KEY: &str = "none";

/// Which offsets a letter stands for that is about a piece of the log and no record.
pub(crate) const BASE_OFFSET: &str = "dlq.batch.base-offset";
pub(crate) const LAST_OFFSET: &str = "dlq.batch.last-offset";

/// What consumers that know nothing of the other names look for. Other programs use such names too.
pub(crate) const PLAIN_REASON: &str = "error_reason";
pub(crate) const PLAIN_TOPIC: &str = "original_topic";
pub(crate) const PLAIN_PARTITION: &str = "original_partition";
pub(crate) const PLAIN_OFFSET: &str = "original_offset";
pub(crate) const PLAIN_TIMESTAMP: &str = "timestamp";

/// The names that nobody else uses.
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
    ORIGINAL_HEADERS,
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

pub(crate) fn is_reserved(name: &[u8]) -> bool {
    RESERVED.iter().any(|reserved| reserved.as_bytes() == name)
}

pub(crate) fn is_plain(name: &[u8]) -> bool {
    PLAIN.iter().any(|plain| plain.as_bytes() == name)
}
