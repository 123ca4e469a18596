//! The place in a fetch: which record is next, as of when it counts, and what it waits for.

use std::vec;

use kafka_client::reader::FetchedBatches;
use kafka_core::record_batch::{
    AbortedTransactions, DamagedBatch, RawBatch, RecordBatch, RecordPosition,
};
use order_avro::SchemaId;

use crate::telemetry::partition_status::Full;

/// The most bytes that one batch may unpack to, so that a compressed batch cannot claim more memory.
const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How far a producer's clock may be ahead of ours.
const AHEAD_MAX_MS: i64 = 3_600_000;

/// The batches of one fetch that are not taken in yet.
pub(super) struct Cursor {
    batches: vec::IntoIter<RawBatch>,
    aborted: AbortedTransactions,
    /// The damaged batch behind all of them.
    damaged: Option<DamagedBatch>,
    read_ms: i64,
    /// The batch at hand, when a record of it had to wait.
    at_hand: Option<Batch>,
}

/// A batch that is being taken in.
pub(super) struct Batch {
    pub(super) content: Content,
    pub(super) arrival: Arrival,
    /// The offset of the first record behind it.
    pub(super) next_offset: i64,
    /// How many records it delivers; 0 once that is counted.
    pub(super) delivered: u64,
    /// The time of its first record, until that is noted.
    pub(super) base_timestamp_ms: Option<i64>,
    pub(super) max_timestamp_ms: Option<i64>,
}

/// Who stamped records, and when they were read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    /// Their producers stamped them; they were read at this time, in milliseconds since 1970.
    Produced(i64),
    /// The broker stamped them when it appended them.
    Appended,
}

pub(super) enum Content {
    /// Records, of which those before the position are taken in.
    Records { batch: RecordBatch, position: RecordPosition },
    /// Bytes that cannot be read.
    Damaged { batch: DamagedBatch, is_reported: bool },
    /// Nothing to deliver: an aborted transaction, or a marker.
    Nothing,
}

/// What has to happen before the next record can be taken in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Block {
    /// An incomplete record has to be completed: there is no room for another one.
    Room(Full),
    /// The registry has to answer with the writer's schema.
    Schema(SchemaId),
    /// The limiter has to give a permit.
    Permit,
    /// The dead letter of an unreadable range has to be written.
    Letter,
    /// An operator has to release the partition.
    Release,
    /// An operator has to resume the replica.
    Paused,
}

impl Cursor {
    pub(super) fn new(fetched: FetchedBatches, read_ms: i64) -> Self {
        Self {
            batches: fetched.batches.into_iter(),
            aborted: AbortedTransactions::new(fetched.aborted),
            damaged: fetched.damaged,
            read_ms,
            at_hand: None,
        }
    }

    /// Keeps a batch whose next record has to wait.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.at_hand = Some(batch);
    }

    /// Takes the batch at hand, or else the next one.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        if let Some(batch) = self.at_hand.take() {
            return Some(batch);
        }
        let Some(raw) = self.batches.next() else {
            let batch = self.damaged.take()?;
            return Some(Batch {
                arrival: Arrival::Produced(self.read_ms),
                next_offset: batch.next_offset(),
                content: Content::Damaged { batch, is_reported: false },
                delivered: 0,
                base_timestamp_ms: None,
                max_timestamp_ms: None,
            });
        };
        let header = raw.header();
        let arrival = if header.is_log_append_time() {
            Arrival::Appended
        } else {
            Arrival::Produced(self.read_ms)
        };
        let (content, delivered) = self.open(&raw);
        Some(Batch {
            content,
            arrival,
            next_offset: raw.next_offset(),
            delivered,
            base_timestamp_ms: Some(header.base_timestamp_ms),
            max_timestamp_ms: Some(header.max_timestamp_ms),
        })
    }

    /// Returns what a batch holds, and how many records it delivers.
    fn open(&mut self, raw: &RawBatch) -> (Content, u64) {
        match raw.open(UNPACKED_BYTES_MAX) {
            Ok(batch) if self.aborted.delivers(&batch) => {
                let delivered = u64::try_from(raw.header().record_count).unwrap_or(0);
                let position = batch.records().position();
                (Content::Records { batch, position }, delivered)
            }
            Err(error) if self.aborted.delivers_unopened(raw.header()) => {
                let batch = error.into_damaged(raw.bytes().clone());
                (Content::Damaged { batch, is_reported: false }, 0)
            }
            Ok(_) | Err(_) => (Content::Nothing, 0),
        }
    }
}

impl Arrival {
    /// Returns the time as of which a record with this timestamp counts: its arrival, if it is from a clock that is far
    /// ahead.
    ///
    /// One that is read again after a crash arrives again. That changes the place of such records only.
    #[inline]
    pub(crate) fn time_of(self, timestamp_ms: i64) -> i64 {
        match self {
            Self::Produced(read_ms) if timestamp_ms > read_ms + AHEAD_MAX_MS => read_ms,
            Self::Produced(_) | Self::Appended => timestamp_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_producer_can_be_far_ahead() {
        let read_ms = 1_700_000_000_000;
        let ahead = |ms| Arrival::Produced(read_ms).time_of(read_ms + ms) - read_ms;
        assert_eq!([-1, 0, AHEAD_MAX_MS].map(ahead), [-1, 0, AHEAD_MAX_MS]);
        assert_eq!([AHEAD_MAX_MS + 1, i64::MAX - read_ms].map(ahead), [0, 0]);
        assert_eq!(Arrival::Appended.time_of(i64::MAX), i64::MAX);
    }
}
