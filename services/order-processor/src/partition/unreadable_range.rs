//! Bytes of the log that are no records: one dead letter for all the offsets of such a range.
//!
//! A range counts as one record, at the first of its offsets that is not complete. Once its letter is written the other
//! offsets count as absent, like records that compaction has removed. No record behind the range is taken in before: the
//! next owner of the partition may be able to read the range, and then finds all its records still incomplete.

use dead_letter::{ErrorType, NO_TIMESTAMP};
use kafka_client::error::chain;
use kafka_core::record_batch::{DamagedBatch, Headers, Record, UndecodableRecord};

use super::poison::Poison;

/// Bytes that cannot be read as records.
pub(super) struct UnreadableRange<'a> {
    pub(super) first_offset: i64,
    pub(super) last_offset: i64,
    raw: &'a [u8],
    timestamp_ms: i64,
    error_type: ErrorType,
    pub(super) message: String,
}

impl<'a> UnreadableRange<'a> {
    /// Takes a part of a batch that is whole otherwise; `timestamp_ms` is the batch's.
    pub(super) fn of_record(record: &UndecodableRecord<'a>, timestamp_ms: i64) -> Self {
        let UndecodableRecord { first_offset, last_offset, raw, fault } = *record;
        let mut message = fault.as_str().to_owned();
        if last_offset > first_offset {
            message = format!("{message}: stands for offsets {first_offset} to {last_offset}");
        }
        let error_type = ErrorType::UndecodableRecord;
        Self { first_offset, last_offset, raw, timestamp_ms, error_type, message }
    }

    pub(super) fn of_batch(damaged: &'a DamagedBatch) -> Self {
        let DamagedBatch { first_offset, last_offset, ref bytes, ref fault } = *damaged;
        let fault = chain(fault);
        Self {
            first_offset,
            last_offset,
            raw: bytes,
            // No field of a damaged batch can be trusted.
            timestamp_ms: NO_TIMESTAMP,
            error_type: ErrorType::CorruptBatch,
            message: format!(
                "the batch of offsets {first_offset} to {last_offset} cannot be read: {fault}"
            ),
        }
    }

    /// Returns the bytes as the value of a record at `offset`.
    pub(super) fn as_record(&self, offset: i64) -> Record<'_> {
        Record {
            offset,
            timestamp_ms: self.timestamp_ms,
            key: None,
            value: Some(self.raw),
            headers: Headers::EMPTY,
        }
    }

    pub(super) fn poison(&self) -> Poison {
        Poison {
            error_type: self.error_type,
            message: self.message.clone(),
            schema_id: None,
            offsets: self.offsets(),
        }
    }

    /// Returns the offsets that its letter has to name; a letter names the offset of one record anyway.
    fn offsets(&self) -> Option<(i64, i64)> {
        let is_record = self.error_type == ErrorType::UndecodableRecord
            && self.first_offset == self.last_offset;
        (!is_record).then_some((self.first_offset, self.last_offset))
    }
}
