//! What a reader delivers.

use kafka_core::record_batch::{DamagedBatch, RawBatch};
use uuid::Uuid;

use crate::fetch::EpochEnd;

/// An event of one partition.
#[derive(Debug)]
pub enum Fetched {
    /// The next batches of the log.
    Batches(FetchedBatches),
    /// The position is outside the log. The reader delivers nothing more until the partition is added again.
    OutOfRange {
        /// The requested offset.
        position: i64,
    },
    /// The log has another history from an offset below the position on: it was truncated, and records that were read are
    /// gone. The reader delivers nothing more until the partition is added again.
    Truncated {
        /// The offset of the next fetch.
        position: i64,
        /// Where the leader epoch of the last read record ends in the log, or an earlier epoch if the log has no record of that
        /// one.
        diverging: EpochEnd,
    },
    /// The topic was deleted and created again. The reader delivers nothing more until the partition is added again.
    Recreated {
        /// The id of the topic that has the name at present.
        topic_id: Uuid,
    },
}

/// Batches of one partition in offset order, and where the log ended when they were read.
#[derive(Debug)]
pub struct FetchedBatches {
    /// The batches as stored: compressed, with control batches and aborted ones. The first may begin below the requested
    /// position. Empty if only the log's ends have changed.
    pub batches: Vec<RawBatch>,
    /// The damaged batch that follows them: two fetches returned the same bytes.
    pub damaged: Option<DamagedBatch>,
    /// Transactions aborted within these batches, as `(producer id, first offset)`.
    pub aborted: Vec<(i64, i64)>,
    /// The offset of the next fetch.
    pub next_offset: i64,
    /// The leader epoch of the last batch, if it has one. It belongs to `next_offset`: a later reader that starts there
    /// can find out whether the log was truncated meanwhile.
    pub leader_epoch: Option<i32>,
    /// The last stable offset: no transaction below it is open.
    pub last_stable_offset: i64,
    /// The end of the log; larger than `last_stable_offset` while a transaction is open.
    pub high_watermark: i64,
    /// The first offset that is still in the log.
    pub log_start_offset: i64,
}
