//! Bytes of the log that are no records: one dead letter for all the offsets of such a range.
//!
//! A range counts as one record, at the first of its offsets that is not complete. Once its letter is written the other
//! offsets count as absent, like records that compaction has removed. No record behind the range is taken in before: the
//! next owner of the partition may be able to read the range, and then finds all its records still incomplete.

use dead_letter::{ErrorType, NO_TIMESTAMP};
use kafka_client::error::chain;
use kafka_core::record_batch::{DamagedBatch, Headers, Record, UndecodableRecord};

use super::dead_letters::LetterCause;

/// Bytes that cannot be read as records.
pub(super) struct UnreadableRange<'a> {
    pub(super) first_offset: i64,
    pub(super) last_offset: i64,
    raw: &'a [u8],
    timestamp_ms: i64,
    pub(super) cause: LetterCause,
}

impl<'a> UnreadableRange<'a> {
    /// Takes a part of a batch that is whole otherwise; `timestamp_ms` is the batch's.
    pub(super) fn of_record(record: &UndecodableRecord<'a>, timestamp_ms: i64) -> Self {
        let UndecodableRecord { first_offset, last_offset, raw, fault } = *record;
        let mut cause = LetterCause::new(ErrorType::UndecodableRecord, fault.as_str(), None);
        // A letter names the offset of one record anyway.
        if last_offset > first_offset {
            cause.message = format!(
                "{fault}: stands for offsets {first_offset} to {last_offset}",
                fault = cause.message
            );
            cause.offsets = Some((first_offset, last_offset));
        }
        Self { first_offset, last_offset, raw, timestamp_ms, cause }
    }

    pub(super) fn of_batch(damaged: &'a DamagedBatch) -> Self {
        let DamagedBatch { first_offset, last_offset, ref bytes, ref fault } = *damaged;
        let fault = chain(fault);
        let message =
            format!("the batch of offsets {first_offset} to {last_offset} cannot be read: {fault}");
        let mut cause = LetterCause::new(ErrorType::CorruptBatch, message, None);
        cause.offsets = Some((first_offset, last_offset));
        // No field of a damaged batch can be trusted.
        Self { first_offset, last_offset, raw: bytes, timestamp_ms: NO_TIMESTAMP, cause }
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
}
