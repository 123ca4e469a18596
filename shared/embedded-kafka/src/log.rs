//! The log of one partition: record batches in memory, in offset order.
//!
//! The log keeps the bytes of the produce request. [`Batch::write_to`] replaces the broker's own fields in them: base
//! offset and partition leader epoch.

pub(crate) mod epochs;
pub(crate) mod limits;
mod producers;
mod validation;

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_core::record_batch::RawBatch;
use kafka_protocol::error::ResponseError;

use crate::log::epochs::{EpochEnd, Epochs};
use crate::log::limits::LogLimits;
use crate::log::producers::Producers;
use crate::log::validation::is_compressed;
use crate::refusal::Refusal;

/// Where the length of a batch is in its header.
const LENGTH: Range<usize> = 8..12;
/// The size of the fields that the broker rewrites: base offset, length and leader epoch.
const REWRITTEN_BYTES: usize = 16;

/// A record batch in the log.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    base_offset: i64,
    leader_epoch: i32,
    /// As the producer sent it, with base offset 0.
    sent: RawBatch,
}

impl Batch {
    fn last_offset(&self) -> i64 {
        self.base_offset + self.sent.header().last_offset
    }

    fn max_timestamp(&self) -> i64 {
        self.sent.header().max_timestamp_ms
    }

    /// Returns the size on the wire in bytes.
    pub(crate) fn len(&self) -> usize {
        self.sent.bytes().len()
    }

    /// Appends the batch as a consumer gets it.
    pub(crate) fn write_to(&self, buffer: &mut BytesMut) {
        let sent = self.sent.bytes();
        buffer.put_i64(self.base_offset);
        buffer.put_slice(&sent[LENGTH]);
        buffer.put_i32(self.leader_epoch);
        buffer.put_slice(&sent[REWRITTEN_BYTES..]);
    }
}

/// The result of a search by timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimestampedOffset {
    pub(crate) offset: i64,
    /// Milliseconds since the Unix epoch.
    pub(crate) timestamp: i64,
}

/// The log of one partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionLog {
    batches: VecDeque<Batch>,
    log_start_offset: i64,
    log_end_offset: i64,
    bytes: usize,
    producers: Producers,
    epochs: Epochs,
}

impl PartitionLog {
    /// Returns the first offset that can be fetched.
    pub(crate) fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// Returns the offset of the next record; with a single replica also the high watermark and the last stable offset.
    pub(crate) fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    /// Begins a leader epoch at the end of the log.
    pub(crate) fn begin_epoch(&mut self, epoch: i32) {
        self.epochs.begin(epoch, self.log_end_offset);
    }

    /// Returns the leader epoch of the record at an offset.
    pub(crate) fn epoch_at(&self, offset: i64) -> Option<i32> {
        self.epochs.at(offset)
    }

    /// Returns the largest leader epoch up to `epoch` with its end, `None` if the log knows none.
    pub(crate) fn end_of_epoch(&self, epoch: i32) -> Option<EpochEnd> {
        self.epochs.end_of(epoch, self.log_end_offset)
    }

    /// Drops the records from `end_offset` on; a batch that holds it goes as a whole.
    pub(crate) fn truncate(&mut self, end_offset: i64) {
        while let Some(batch) = self.batches.pop_back_if(|batch| end_offset <= batch.last_offset())
        {
            self.bytes -= batch.len();
            self.log_end_offset = batch.base_offset;
        }
        self.log_end_offset = self.log_end_offset.min(end_offset.max(0));
        self.log_start_offset = self.log_start_offset.min(self.log_end_offset);
        self.epochs.truncate_end(self.log_end_offset);
        self.producers = Producers::default();
        for batch in self.batches.iter().filter(|batch| 0 <= batch.sent.header().producer_id) {
            self.producers.record(batch.sent.header(), batch.base_offset);
        }
    }

    /// Appends the batch of a produce request and returns the offset of its first record.
    ///
    /// A batch that its idempotent producer repeats is not appended again; the result is its first offset.
    ///
    /// # Errors
    /// As [`validation::validate`] and [`Producers::check`].
    pub(crate) fn append(&mut self, bytes: Bytes, limits: &LogLimits) -> Result<i64, Refusal> {
        let sent = validation::validate(bytes, limits)?;
        let header = sent.header();
        let is_idempotent = 0 <= header.producer_id;
        if is_idempotent && let Some(offset) = self.producers.check(header)? {
            return Ok(offset);
        }
        let base_offset = self.log_end_offset;
        self.log_end_offset += i64::from(header.record_count);
        if is_idempotent {
            self.producers.record(header, base_offset);
        }
        let batch = Batch { base_offset, leader_epoch: self.epochs.latest(), sent };
        self.bytes += batch.len();
        self.batches.push_back(batch);
        if let Some(retention_bytes) = limits.retention_bytes {
            self.retain(retention_bytes);
        }
        Ok(base_offset)
    }

    /// Returns the batches from the one that holds `offset` on, as many as begin within `max_bytes`.
    ///
    /// A first batch that does not fit is left out, or with `at_least_one` alone in the result, so that a consumer makes
    /// progress.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` outside log start … log end.
    pub(crate) fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: AtLeastOne,
    ) -> Result<Vec<Batch>, ResponseError> {
        if !(self.log_start_offset..=self.log_end_offset).contains(&offset) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let first = self.batches.partition_point(|batch| batch.last_offset() < offset);
        let mut budget = max_bytes;
        let mut batches = Vec::new();
        for batch in self.batches.range(first..) {
            let is_first = batches.is_empty();
            let needed = if is_first { batch.len() } else { 1 };
            if (budget < needed) && !(is_first && (at_least_one == AtLeastOne::Yes)) {
                break;
            }
            budget = budget.saturating_sub(batch.len());
            batches.push(batch.clone());
        }
        Ok(batches)
    }

    /// Moves the log start to `offset` and drops the batches that lie below it entirely.
    ///
    /// An offset below the log start changes nothing.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` beyond the log end.
    pub(crate) fn delete_records_before(&mut self, offset: i64) -> Result<(), ResponseError> {
        if !(0..=self.log_end_offset).contains(&offset) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        self.log_start_offset = self.log_start_offset.max(offset);
        while self.batches.front().is_some_and(|batch| batch.last_offset() < self.log_start_offset)
        {
            self.drop_oldest();
        }
        self.epochs.truncate_start(self.log_start_offset);
        Ok(())
    }

    /// Finds the first record at or after the log start whose timestamp is at least `timestamp`.
    pub(crate) fn first_at_or_after(&self, timestamp: i64) -> Option<TimestampedOffset> {
        self.batches
            .iter()
            .filter(|batch| timestamp <= batch.max_timestamp())
            .find_map(|batch| self.first_in(batch, |found| timestamp <= found))
    }

    /// Finds the first record with the largest timestamp of the log.
    pub(crate) fn largest_timestamp(&self) -> Option<TimestampedOffset> {
        let largest = self.batches.iter().map(Batch::max_timestamp).max()?;
        self.batches
            .iter()
            .filter(|batch| batch.max_timestamp() == largest)
            .find_map(|batch| self.first_in(batch, |found| found == largest))
    }

    /// Finds the first record of a batch with a matching timestamp.
    ///
    /// The broker unpacks nothing: a compressed batch matches with its first offset, so that a search skips no record.
    fn first_in(
        &self,
        batch: &Batch,
        is_wanted: impl Fn(i64) -> bool,
    ) -> Option<TimestampedOffset> {
        if is_compressed(batch.sent.header()) {
            return Some(TimestampedOffset {
                offset: batch.base_offset.max(self.log_start_offset),
                timestamp: batch.max_timestamp(),
            });
        }
        let records = batch.sent.open(batch.len()).ok()?;
        let mut found = records.records().map_while(Result::ok).map(|record| TimestampedOffset {
            offset: batch.base_offset + record.offset,
            timestamp: record.timestamp_ms,
        });
        found.find(|found| (self.log_start_offset <= found.offset) && is_wanted(found.timestamp))
    }

    fn retain(&mut self, retention_bytes: usize) {
        while (retention_bytes < self.bytes) && (1 < self.batches.len()) {
            self.drop_oldest();
            let oldest =
                self.batches.front().map_or(self.log_end_offset, |batch| batch.base_offset);
            self.log_start_offset = self.log_start_offset.max(oldest);
        }
        self.epochs.truncate_start(self.log_start_offset);
    }

    fn drop_oldest(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.bytes -= batch.len();
        }
    }
}

/// Whether a read returns a first batch that exceeds the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtLeastOne {
    Yes,
    No,
}

#[cfg(test)]
pub(crate) mod tests;
