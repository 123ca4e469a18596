//! The place in a fetch: which record is next, and what it waits for.

use std::vec;

use kafka_client::reader::FetchedBatches;
use kafka_core::record_batch::{
    AbortedTransactions, DamagedBatch, RawBatch, RecordBatch, RecordPosition,
};
use order_avro::SchemaId;

use super::arrival::Arrival;
use crate::telemetry::partition_status::Full;

/// The most bytes that one batch may unpack to, so that a compressed batch cannot claim more memory.
const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;

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
