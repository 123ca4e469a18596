//! Encoding of batches for a producer: each record is written once, straight into the bytes that go to the broker.
//!
//! The header is reserved at the front of the buffer. Lengths are computed before they are written, so a record needs no
//! buffer of its own. An idempotent producer knows its sequence numbers only when it sends, and may have to change them:
//! [`EncodedBatch::stamped`] writes them into the finished batch, in place.
//!
//! Layout: <https://kafka.apache.org/documentation/#recordbatch>, sequence numbers:
//! [KIP-98](https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging).

use std::{io, mem};

use bytes::{Bytes, BytesMut};

use super::header::HEADER_BYTES;
use super::raw::{ATTRIBUTES_AT, CRC_AT};
use super::varint::{varlong_bytes, write_varlong};
use crate::compression::Compression;

const MAGIC: u8 = 2;
const LENGTH_AT: usize = 8;
/// What the length field does not count: the base offset and the field itself.
const BEFORE_LENGTH_BYTES: usize = 12;
/// Producer id (8 bytes), producer epoch (2) and base sequence (4).
const PRODUCER_AT: usize = 43;
const RECORD_COUNT_AT: usize = 57;
/// The broker sets base offset and leader epoch. −1 means that the producer does not know the epoch.
const NO_LEADER_EPOCH: i32 = -1;
/// The attributes byte of a record; no bit of it is in use.
const RECORD_ATTRIBUTES: u8 = 0;

/// A record to append to a batch.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Null and empty differ.
    pub key: Option<&'a [u8]>,
    /// Null and empty differ; null deletes the key in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Names, which may repeat, and values in their order. A name should be UTF-8: Kafka's Java client decodes it.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// Whether a record went into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a record that does not fit is not in the batch"]
pub enum Fit {
    /// The record is in the batch.
    Appended,
    /// It is not, for lack of room. It fits in an empty batch.
    Full,
    /// It is not, and would not fit in an empty batch either.
    TooLarge,
}

/// Encodes the records of one batch after the other.
#[derive(Debug)]
pub struct BatchEncoder {
    /// Empty, or a header's room and the records.
    bytes: Vec<u8>,
    /// What the next buffer allocates at once.
    capacity: usize,
    batch_bytes_max: usize,
    record_count: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

/// A finished batch: its header lacks only producer id, epoch and base sequence, and the checksum over them.
#[derive(Debug)]
pub struct EncodedBatch {
    bytes: Bytes,
    record_count: i32,
    uncompressed_bytes: usize,
    stamp: Option<Stamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    producer_id: i64,
    epoch: i16,
    base_sequence: i32,
}

impl BatchEncoder {
    /// Creates an encoder of batches of at most `batch_bytes_max` bytes, header included, before compression. It
    /// allocates when the first record comes.
    pub fn new(batch_bytes_max: usize) -> Self {
        Self::with_buffer(batch_bytes_max, Vec::new())
    }

    /// Creates an encoder that allocates `capacity` bytes at once: as much as a batch is expected to take.
    pub fn with_capacity(batch_bytes_max: usize, capacity: usize) -> Self {
        Self::with_buffer(batch_bytes_max, Vec::with_capacity(capacity))
    }

    /// Creates an encoder that writes the first batch into `buffer`, for instance that of
    /// [`EncodedBatch::into_buffer`]. What is in it is discarded.
    pub fn with_buffer(batch_bytes_max: usize, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self {
            capacity: buffer.capacity(),
            bytes: buffer,
            // The format's lengths are 32-bit integers.
            batch_bytes_max: batch_bytes_max.min(usize::try_from(i32::MAX).unwrap_or(usize::MAX)),
            record_count: 0,
            base_timestamp_ms: -1,
            max_timestamp_ms: -1,
        }
    }

    /// Appends `record`, unless the batch would exceed its limit. Nothing is written then.
    #[inline]
    pub fn append(&mut self, record: &NewRecord<'_>) -> Fit {
        let base_timestamp_ms =
            if self.record_count == 0 { record.timestamp_ms } else { self.base_timestamp_ms };
        let timestamp_delta = record.timestamp_ms.wrapping_sub(base_timestamp_ms);
        let offset_delta = i64::from(self.record_count);
        let Some(body_bytes) = body_bytes(record, timestamp_delta, offset_delta) else {
            return Fit::TooLarge;
        };
        let record_bytes = varlong_bytes(length(body_bytes)).saturating_add(body_bytes);
        if self.batch_bytes_max < self.bytes_len().saturating_add(record_bytes) {
            return self.refuse(record);
        }
        if self.bytes.is_empty() {
            self.bytes.reserve(self.capacity);
            self.bytes.resize(HEADER_BYTES, 0);
        }
        self.bytes.reserve(record_bytes);
        write_varlong(length(body_bytes), &mut self.bytes);
        self.bytes.push(RECORD_ATTRIBUTES);
        write_varlong(timestamp_delta, &mut self.bytes);
        write_varlong(offset_delta, &mut self.bytes);
        write_nullable(record.key, &mut self.bytes);
        write_nullable(record.value, &mut self.bytes);
        write_varlong(length(record.headers.len()), &mut self.bytes);
        for (name, value) in record.headers {
            write_nullable(Some(name), &mut self.bytes);
            write_nullable(*value, &mut self.bytes);
        }
        self.base_timestamp_ms = base_timestamp_ms;
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        self.record_count += 1;
        Fit::Appended
    }

    /// Tells a full batch from a record that fits in none.
    #[cold]
    fn refuse(&self, record: &NewRecord<'_>) -> Fit {
        let fits_alone = body_bytes(record, 0, 0).is_some_and(|body_bytes| {
            let record_bytes = varlong_bytes(length(body_bytes)).saturating_add(body_bytes);
            HEADER_BYTES.saturating_add(record_bytes) <= self.batch_bytes_max
        });
        if fits_alone { Fit::Full } else { Fit::TooLarge }
    }

    /// Returns how many records the batch has.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Returns whether the batch has no record.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Returns the length of the batch before compression, header included.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len().max(HEADER_BYTES)
    }

    /// Finishes the batch and starts the next one, with the same limit.
    ///
    /// Without compression the batch takes the buffer along, and the first record of the next batch allocates another
    /// of the same capacity. With compression the encoder keeps its buffer.
    ///
    /// # Errors
    /// When the codec fails, or makes the batch too long for its length field. The records are lost; no input is known
    /// to cause that.
    pub fn finish(&mut self, compression: Compression) -> io::Result<EncodedBatch> {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_BYTES, 0);
        }
        let uncompressed_bytes = self.bytes.len();
        let mut batch = match compression {
            Compression::None => {
                self.capacity = self.bytes.capacity();
                mem::take(&mut self.bytes)
            }
            Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd => {
                let mut packed = Vec::with_capacity(HEADER_BYTES + self.bytes.len() / 4);
                packed.resize(HEADER_BYTES, 0);
                let done = compression.compress_into(&self.bytes[HEADER_BYTES..], &mut packed);
                self.bytes.clear();
                done?;
                packed
            }
        };
        let record_count = mem::take(&mut self.record_count);
        let timestamps = (self.base_timestamp_ms, self.max_timestamp_ms);
        (self.base_timestamp_ms, self.max_timestamp_ms) = (-1, -1);
        let length = i32::try_from(batch.len() - BEFORE_LENGTH_BYTES).map_err(io::Error::other)?;
        write_header(&mut batch, length, compression, record_count, timestamps);
        Ok(EncodedBatch { bytes: batch.into(), record_count, uncompressed_bytes, stamp: None })
    }
}

impl EncodedBatch {
    /// Returns how many records the batch has.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Returns the length of the batch as it is sent.
    pub fn encoded_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the length of the batch before compression, header included.
    pub fn uncompressed_bytes(&self) -> usize {
        self.uncompressed_bytes
    }

    /// Returns the batch with this producer id, epoch and base sequence, and its checksum.
    ///
    /// The same arguments give the very same bytes again, without a copy or another checksum. Other arguments change the
    /// batch in place if the caller has dropped what this method returned before. Otherwise the batch is copied, so bytes
    /// that are still being written never change.
    pub fn stamped(&mut self, producer_id: i64, epoch: i16, base_sequence: i32) -> Bytes {
        let stamp = Stamp { producer_id, epoch, base_sequence };
        if self.stamp != Some(stamp) {
            let mut batch = match mem::take(&mut self.bytes).try_into_mut() {
                Ok(batch) => batch,
                Err(shared) => BytesMut::from(shared),
            };
            write_at(&mut batch, PRODUCER_AT, &producer_id.to_be_bytes());
            write_at(&mut batch, PRODUCER_AT + 8, &epoch.to_be_bytes());
            write_at(&mut batch, PRODUCER_AT + 10, &base_sequence.to_be_bytes());
            let checksum = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
            write_at(&mut batch, CRC_AT, &checksum.to_be_bytes());
            self.bytes = batch.freeze();
            self.stamp = Some(stamp);
        }
        self.bytes.clone()
    }

    /// Returns the batch's buffer, emptied, for [`BatchEncoder::with_buffer`]. It is a new one, without capacity, if
    /// bytes of [`EncodedBatch::stamped`] are still in use.
    pub fn into_buffer(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        if !bytes.is_unique() {
            return Vec::new();
        }
        bytes.truncate(0);
        bytes.into()
    }
}

/// Returns the length of a record without its length prefix; `None` when a length is too large for the format.
#[inline]
fn body_bytes(record: &NewRecord<'_>, timestamp_delta: i64, offset_delta: i64) -> Option<usize> {
    let mut total = 1 + varlong_bytes(timestamp_delta) + varlong_bytes(offset_delta);
    total = total.checked_add(nullable_bytes(record.key))?;
    total = total.checked_add(nullable_bytes(record.value))?;
    total = total.checked_add(varlong_bytes(length(record.headers.len())))?;
    for (name, value) in record.headers {
        total = total.checked_add(nullable_bytes(Some(name)))?;
        total = total.checked_add(nullable_bytes(*value))?;
    }
    i32::try_from(total).is_ok().then_some(total)
}

#[inline]
fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varlong_bytes(length(bytes.len())).saturating_add(bytes.len()))
}

#[inline]
fn write_nullable(bytes: Option<&[u8]>, into: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => {
            write_varlong(length(bytes.len()), into);
            into.extend_from_slice(bytes);
        }
        None => write_varlong(-1, into),
    }
}

#[inline]
fn length(bytes: usize) -> i64 {
    // Every slice's length fits in an i64.
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Writes all of the header but producer and checksum. Base offset and an unset producer are zeros until then.
fn write_header(
    batch: &mut [u8],
    length: i32,
    compression: Compression,
    record_count: i32,
    (base_timestamp_ms, max_timestamp_ms): (i64, i64),
) {
    let last_offset_delta = (record_count - 1).max(0);
    write_at(batch, LENGTH_AT, &length.to_be_bytes());
    write_at(batch, 12, &NO_LEADER_EPOCH.to_be_bytes());
    write_at(batch, 16, &[MAGIC]);
    write_at(batch, ATTRIBUTES_AT, &i16::from(compression.code()).to_be_bytes());
    write_at(batch, 23, &last_offset_delta.to_be_bytes());
    write_at(batch, 27, &base_timestamp_ms.to_be_bytes());
    write_at(batch, 35, &max_timestamp_ms.to_be_bytes());
    write_at(batch, RECORD_COUNT_AT, &record_count.to_be_bytes());
}

fn write_at(batch: &mut [u8], at: usize, field: &[u8]) {
    batch[at..at + field.len()].copy_from_slice(field);
}

#[cfg(test)]
mod tests;
