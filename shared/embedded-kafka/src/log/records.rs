//! Walking the records of an uncompressed batch.
//!
//! Layout: <https://kafka.apache.org/documentation/#record>.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::log::header::{BatchHeader, HEADER_BYTES};
use crate::refusal::Refusal;

/// The longest encoding of a 64-bit variable-length integer.
const VARINT_BYTES_MAX: usize = 10;

/// The parts of a record that the broker uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordSketch {
    /// The offset relative to the batch's first.
    pub(crate) offset_delta: i64,
    pub(crate) timestamp: i64,
    /// Whether the record has a key; an empty key is one.
    pub(crate) has_key: bool,
}

/// Iterates over the records of an uncompressed batch and ends after the first unreadable one.
pub(crate) struct RecordWalker<'a> {
    rest: &'a [u8],
    base_timestamp: i64,
    records_left: i32,
}

impl<'a> RecordWalker<'a> {
    /// Starts at the first record of `batch`.
    pub(crate) fn new(batch: &'a Bytes, header: &BatchHeader) -> Self {
        Self {
            rest: batch.get(HEADER_BYTES..).unwrap_or_default(),
            base_timestamp: header.base_timestamp,
            records_left: header.record_count,
        }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn read_record(&mut self) -> Option<RecordSketch> {
        let length = usize::try_from(read_varint(&mut self.rest)?).ok()?;
        let (mut record, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        record = record.get(1..)?;
        let timestamp_delta = read_varint(&mut record)?;
        let offset_delta = read_varint(&mut record)?;
        let key_length = read_varint(&mut record)?;
        Some(RecordSketch {
            offset_delta,
            timestamp: self.base_timestamp.checked_add(timestamp_delta)?,
            has_key: 0 <= key_length,
        })
    }
}

impl Iterator for RecordWalker<'_> {
    type Item = Result<RecordSketch, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.records_left == 0 {
            return None;
        }
        self.records_left -= 1;
        let record = self.read_record();
        if record.is_none() {
            self.records_left = 0;
        }
        Some(record.ok_or_else(|| {
            Refusal::new(ResponseError::InvalidRecord, "the records of the batch cannot be read")
        }))
    }
}

/// Reads a zigzag-encoded variable-length integer from the front of `bytes`.
fn read_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value: u64 = 0;
    for (index, byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = bytes.get(index + 1..)?;
            let magnitude = i64::try_from(value >> 1).ok()?;
            return Some(if value & 1 == 0 { magnitude } else { -magnitude - 1 });
        }
    }
    None
}
