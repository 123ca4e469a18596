//! The header of a batch of format 2.
//!
//! Layout: <https://kafka.apache.org/documentation/#recordbatch>.

use super::varint::Cursor;
use crate::compression::Compression;

/// The offset of the magic byte, the same in all formats.
pub(super) const MAGIC_AT: usize = 16;
/// The length of a header of format 2.
pub const HEADER_BYTES: usize = 61;

const COMPRESSION_MASK: i16 = 0x07;
pub(super) const LOG_APPEND_TIME: i16 = 0x08;
pub(super) const TRANSACTIONAL: i16 = 0x10;
pub(super) const CONTROL: i16 = 0x20;

/// The header of a batch, as the batch declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record when the batch was written; compaction may have removed that record.
    pub base_offset: i64,
    /// The last offset of the batch, whether or not compaction has removed its record.
    pub last_offset: i64,
    /// The epoch of the partition leader that appended the batch, or −1.
    pub leader_epoch: i32,
    /// The format: 2, or an older one, which cannot be opened.
    pub magic: i8,
    /// Bit field: compression (bits 0 to 2), timestamp type (3), transactional (4), control (5).
    pub attributes: i16,
    /// The timestamp to which each record adds its delta, in milliseconds since 1970.
    pub base_timestamp_ms: i64,
    /// The largest timestamp of the records, or with `LogAppendTime` the time of the append, in milliseconds since
    /// 1970.
    pub max_timestamp_ms: i64,
    /// The idempotent or transactional producer's id, or −1.
    pub producer_id: i64,
    /// That producer's epoch, or −1.
    pub producer_epoch: i16,
    /// The sequence number of the first record, or −1 without such a producer.
    pub base_sequence: i32,
    /// The number of records, as the batch declares it.
    pub record_count: i32,
}

impl BatchHeader {
    /// Returns the offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset.saturating_add(1)
    }

    /// Returns whether this is a control batch. Its records, such as transaction markers, are never delivered.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Returns whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Returns whether the records' timestamp is the time at which the broker appended them.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Returns the codec that compressed the records.
    ///
    /// # Errors
    /// The codec's number, if it is unknown.
    pub fn compression(&self) -> Result<Compression, u8> {
        let [code, _] = (self.attributes & COMPRESSION_MASK).to_le_bytes();
        Compression::from_code(code).ok_or(code)
    }

    /// Reads a header of format 2; `None` when it contradicts itself.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut fields = Cursor::new(bytes);
        let base_offset = i64::from_be_bytes(fields.array()?);
        let _length: [u8; 4] = fields.array()?;
        let leader_epoch = i32::from_be_bytes(fields.array()?);
        let magic = i8::from_be_bytes(fields.array()?);
        let _crc: [u8; 4] = fields.array()?;
        let attributes = i16::from_be_bytes(fields.array()?);
        let last_offset_delta = i32::from_be_bytes(fields.array()?);
        let last_offset = base_offset.checked_add(i64::from(last_offset_delta))?;
        let sound = (0 <= base_offset) && (0 <= last_offset_delta) && (last_offset < i64::MAX);
        sound.then_some(())?;
        Some(Self {
            base_offset,
            last_offset,
            leader_epoch,
            magic,
            attributes,
            base_timestamp_ms: i64::from_be_bytes(fields.array()?),
            max_timestamp_ms: i64::from_be_bytes(fields.array()?),
            producer_id: i64::from_be_bytes(fields.array()?),
            producer_epoch: i16::from_be_bytes(fields.array()?),
            base_sequence: i32::from_be_bytes(fields.array()?),
            record_count: i32::from_be_bytes(fields.array()?),
        })
    }

    /// Returns the header of what is not a batch of format 2: only offset and magic are real.
    pub(super) fn unreadable(base_offset: i64, magic: i8) -> Self {
        Self {
            base_offset,
            last_offset: base_offset,
            leader_epoch: -1,
            magic,
            attributes: 0,
            base_timestamp_ms: -1,
            max_timestamp_ms: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        }
    }
}
