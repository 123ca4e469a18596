//! What a partition's producer hands out: attempts to send, and the outcome of each batch.

use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use crate::record_batch::EncodedBatch;

/// The producer id of `InitProducerId`, and an epoch of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id, unique in the cluster.
    pub id: i64,
    /// The epoch; a partition's leader refuses batches of an epoch below the newest it has seen.
    pub epoch: i16,
}

/// The name of one attempt to send a batch. Answers refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId(pub(super) u64);

/// A batch to send.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The name of this attempt.
    pub id: AttemptId,
    /// The batch with its producer, sequence number and checksum.
    pub bytes: Bytes,
    /// When the batch expires.
    pub deadline: Instant,
}

/// A batch whose outcome is known.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The caller's token.
    pub token: T,
    /// The batch, for its buffer, or to send its records in another way.
    pub batch: EncodedBatch,
    /// The outcome.
    pub delivery: Delivery,
}

/// The outcome of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The batch is in the log, once.
    Delivered {
        /// The offset of its first record. `None` when only a later answer proves the append.
        base_offset: Option<i64>,
        /// The time of the append in milliseconds since 1970, if the topic has `LogAppendTime`.
        log_append_time_ms: Option<i64>,
    },
    /// The leader refused the batch for good. It is not in the log.
    Refused(BrokerError),
    /// The batch's deadline passed.
    Expired {
        /// Whether the batch is in the log.
        written: Written,
        /// The last error that the broker answered, if any.
        last_error: Option<BrokerError>,
    },
    /// The batch can be sent neither with its sequence number, which the broker no longer accepts, nor with another,
    /// because it may be in the log, or a copy may still arrive there.
    InDoubt {
        /// The last error that the broker answered, if any.
        last_error: Option<BrokerError>,
    },
}

/// Whether a batch is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is not, and no copy of it is under way.
    No,
    /// It may be in the log once, or still arrive there.
    Unknown,
}

/// An error of a Produce response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerError {
    /// The code.
    pub error: ResponseError,
    /// The broker's words, if it sent any.
    pub message: Option<String>,
}
