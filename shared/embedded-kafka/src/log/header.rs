//! The header of a record batch.
//!
//! Layout: <https://kafka.apache.org/documentation/#recordbatch>.

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;

use crate::refusal::Refusal;

/// The size of a batch header in bytes.
pub(crate) const HEADER_BYTES: usize = 61;
/// The size of the fields that the broker rewrites: base offset, length and leader epoch.
pub(crate) const REWRITTEN_BYTES: usize = 16;
/// Where the checksummed bytes begin: at the attributes.
const CHECKSUMMED_FROM: usize = 21;
const MAGIC: i8 = 2;

const COMPRESSION_MASK: i16 = 0b0000_0111;
const TRANSACTIONAL_FLAG: i16 = 0b0001_0000;
const CONTROL_FLAG: i16 = 0b0010_0000;

/// The fields of a batch header the broker works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// The client's base offset; the protocol demands 0.
    pub(crate) base_offset: i64,
    /// Compression, timestamp type, transactional and control flags.
    pub(crate) attributes: i16,
    /// The last offset of the batch relative to its first.
    pub(crate) last_offset_delta: i32,
    /// The base of the records' timestamp deltas, in milliseconds since the Unix epoch.
    pub(crate) base_timestamp: i64,
    /// The largest timestamp of the batch, in milliseconds since the Unix epoch.
    pub(crate) max_timestamp: i64,
    /// The idempotent producer, or −1.
    pub(crate) producer_id: i64,
    /// The producer's epoch, or −1.
    pub(crate) producer_epoch: i16,
    /// The sequence number of the first record, or −1.
    pub(crate) base_sequence: i32,
    /// How many records the batch holds.
    pub(crate) record_count: i32,
}

impl BatchHeader {
    /// Reads the header of a batch of known length, and compares its checksum with its bytes.
    ///
    /// # Errors
    /// `INVALID_RECORD` for another magic, `CORRUPT_MESSAGE` when the checksum is wrong.
    pub(crate) fn read(bytes: &Bytes) -> Result<Self, Refusal> {
        let mut fields = bytes.slice(..HEADER_BYTES);
        let base_offset = fields.get_i64();
        fields.advance(8);
        let magic = fields.get_i8();
        if magic != MAGIC {
            return Err(Refusal::new(
                ResponseError::InvalidRecord,
                format!("record batches of magic {magic} are not accepted, only {MAGIC}"),
            ));
        }
        let checksum = fields.get_u32();
        let computed = crc32c::crc32c(bytes.get(CHECKSUMMED_FROM..).unwrap_or_default());
        if checksum != computed {
            return Err(Refusal::new(
                ResponseError::CorruptMessage,
                format!(
                    "the record batch has checksum {checksum:#010x}, its bytes {computed:#010x}"
                ),
            ));
        }
        Ok(Self {
            base_offset,
            attributes: fields.get_i16(),
            last_offset_delta: fields.get_i32(),
            base_timestamp: fields.get_i64(),
            max_timestamp: fields.get_i64(),
            producer_id: fields.get_i64(),
            producer_epoch: fields.get_i16(),
            base_sequence: fields.get_i32(),
            record_count: fields.get_i32(),
        })
    }

    /// Returns whether a compression codec is set.
    pub(crate) fn is_compressed(&self) -> bool {
        self.attributes & COMPRESSION_MASK != 0
    }

    /// Returns whether the batch belongs to a transaction.
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_FLAG != 0
    }

    /// Returns whether the batch is a control batch; only brokers write those.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL_FLAG != 0
    }

    /// Returns the sequence number of the last record; sequence numbers wrap to 0 after `i32::MAX`.
    pub(crate) fn last_sequence(&self) -> i32 {
        let to_wrap = i32::MAX - self.base_sequence;
        if self.last_offset_delta <= to_wrap {
            self.base_sequence + self.last_offset_delta
        } else {
            self.last_offset_delta - to_wrap - 1
        }
    }
}
