//! Building batches: for records that must be written byte for byte, for brokers in tests, and for tests of readers.

use std::io;

use bytes::Bytes;

use super::header::{CONTROL, HEADER_BYTES, LOG_APPEND_TIME, TRANSACTIONAL};
use super::records::ControlMarker;
use super::varint::write_varlong;
use crate::compression::Compression;

const MAGIC: u8 = 2;
/// Leader epoch, magic and checksum, which the length counts besides the bytes under the checksum.
const BEFORE_CHECKED_BYTES: usize = 9;

/// Builds one batch of format 2, record by record.
///
/// It can write what client libraries do not: binary header names, gaps in the offsets, transaction markers, damage.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    base_offset: i64,
    next_offset: i64,
    leader_epoch: i32,
    attributes: i16,
    compression: Compression,
    base_timestamp_ms: Option<i64>,
    max_timestamp_ms: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    record_count: i32,
    records: Vec<u8>,
}

impl BatchBuilder {
    /// Creates an uncompressed batch whose first record has the offset `base_offset`.
    pub fn new(base_offset: i64) -> Self {
        Self {
            base_offset,
            next_offset: base_offset,
            leader_epoch: 0,
            attributes: 0,
            compression: Compression::None,
            base_timestamp_ms: None,
            max_timestamp_ms: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
            records: Vec::new(),
        }
    }

    /// Returns the control batch that ends a producer's transaction.
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn marker(
        base_offset: i64,
        producer_id: i64,
        producer_epoch: i16,
        marker: ControlMarker,
    ) -> io::Result<Bytes> {
        const VERSION: [u8; 2] = [0, 0];
        const COORDINATOR_EPOCH: [u8; 4] = [0; 4];
        let [high, low] = marker.code().to_be_bytes();
        let value = [&VERSION[..], &COORDINATOR_EPOCH].concat();
        let mut batch = Self::new(base_offset).transaction(producer_id, producer_epoch, -1);
        batch.attributes |= CONTROL;
        batch.record(0, Some(&[0, 0, high, low]), Some(&value), &[]).build()
    }

    /// Sets the codec; the records are compressed when the batch is built.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the epoch of the partition leader that appends the batch.
    #[must_use]
    pub fn leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// Sets the idempotent producer, its epoch and the sequence number of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Makes the batch a part of a transaction of this producer.
    #[must_use]
    pub fn transaction(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.attributes |= TRANSACTIONAL;
        self.producer(id, epoch, base_sequence)
    }

    /// Gives all records the time of the append, in milliseconds since 1970.
    #[must_use]
    pub fn log_append_time(mut self, appended_ms: i64) -> Self {
        self.attributes |= LOG_APPEND_TIME;
        self.max_timestamp_ms = appended_ms;
        self
    }

    /// Appends a record. The timestamp is in milliseconds since 1970; the headers keep their order.
    #[must_use]
    pub fn record(
        mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Self {
        let base_timestamp_ms = *self.base_timestamp_ms.get_or_insert(timestamp_ms);
        if self.attributes & LOG_APPEND_TIME == 0 {
            self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        }
        let mut body = vec![0];
        write_varlong(timestamp_ms.wrapping_sub(base_timestamp_ms), &mut body);
        write_varlong(self.next_offset - self.base_offset, &mut body);
        write_nullable(key, &mut body);
        write_nullable(value, &mut body);
        write_length(headers.len(), &mut body);
        for (name, value) in headers {
            write_nullable(Some(name), &mut body);
            write_nullable(*value, &mut body);
        }
        self.raw_record(&body)
    }

    /// Appends any bytes as a record, with the right length prefix.
    #[must_use]
    pub fn raw_record(mut self, body: &[u8]) -> Self {
        write_nullable(Some(body), &mut self.records);
        self.record_count += 1;
        self.next_offset += 1;
        self
    }

    /// Appends bytes that are not counted as a record.
    #[must_use]
    pub fn raw_bytes(mut self, bytes: &[u8]) -> Self {
        self.records.extend_from_slice(bytes);
        self
    }

    /// Declares another number of records than there are.
    #[must_use]
    pub fn declare_records(mut self, count: i32) -> Self {
        self.record_count = count;
        self
    }

    /// Leaves a gap in the offsets, as compaction does, also after the last record.
    #[must_use]
    pub fn skip_offsets(mut self, count: u32) -> Self {
        self.next_offset += i64::from(count);
        self
    }

    /// Returns the encoded batch.
    ///
    /// # Errors
    /// When the codec fails, or the batch is too long for its length fields.
    pub fn build(self) -> io::Result<Bytes> {
        let packed = self.compression.compress(&self.records)?;
        let last_delta = (self.next_offset - self.base_offset - 1).max(0);
        let last_delta = i32::try_from(last_delta).map_err(io::Error::other)?;
        let attributes = self.attributes | i16::from(self.compression.code());

        let mut checked = Vec::with_capacity(HEADER_BYTES + packed.len());
        checked.extend_from_slice(&attributes.to_be_bytes());
        checked.extend_from_slice(&last_delta.to_be_bytes());
        checked.extend_from_slice(&self.base_timestamp_ms.unwrap_or(-1).to_be_bytes());
        checked.extend_from_slice(&self.max_timestamp_ms.to_be_bytes());
        checked.extend_from_slice(&self.producer_id.to_be_bytes());
        checked.extend_from_slice(&self.producer_epoch.to_be_bytes());
        checked.extend_from_slice(&self.base_sequence.to_be_bytes());
        checked.extend_from_slice(&self.record_count.to_be_bytes());
        checked.extend_from_slice(&packed);

        let length = i32::try_from(BEFORE_CHECKED_BYTES + checked.len());
        let mut batch = Vec::with_capacity(HEADER_BYTES + packed.len());
        batch.extend_from_slice(&self.base_offset.to_be_bytes());
        batch.extend_from_slice(&length.map_err(io::Error::other)?.to_be_bytes());
        batch.extend_from_slice(&self.leader_epoch.to_be_bytes());
        batch.push(MAGIC);
        batch.extend_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
        batch.extend_from_slice(&checked);
        Ok(batch.into())
    }
}

fn write_nullable(bytes: Option<&[u8]>, into: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => {
            write_length(bytes.len(), into);
            into.extend_from_slice(bytes);
        }
        None => write_varlong(-1, into),
    }
}

fn write_length(length: usize, into: &mut Vec<u8>) {
    // Every slice's length fits in an i64.
    write_varlong(i64::try_from(length).unwrap_or(i64::MAX), into);
}
