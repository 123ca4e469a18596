//! The record batches (format 2) of which a fetch response consists, read in place.
//!
//! [`batches`] splits what was fetched into [`RawBatch`]es, [`RawBatch::open`] checks and unpacks one, and
//! [`RecordBatch::records`] walks its records: slices of the response, no allocation and no copy for each. What cannot
//! be decoded is handed on as raw bytes with its offsets, so that nothing stops a partition. A consumer goes on at
//! [`RawBatch::next_offset`], never at its last record + 1: compaction removes records, and control batches have none
//! to deliver. A consumer that has to survive damage of the log itself reads by [`FetchedPartition`].
//!
//! ```
//! # use kafka_core::record_batch::{batches, AbortedTransactions, BatchBuilder};
//! # let response = BatchBuilder::new(7).record(0, None, Some(b"value"), &[]).build().unwrap();
//! # let (listed, mut position) = (Vec::new(), 7);
//! let mut aborted = AbortedTransactions::new(listed);
//! for raw in batches(response) {
//!     let batch = raw.open(8 << 20)?;
//!     if aborted.delivers(&batch) {
//!         for item in batch.records_from(position) {
//!             match item {
//!                 Ok(record) => assert_eq!(record.value, Some(&b"value"[..])),
//!                 Err(undecodable) => unreachable!("{undecodable:?}"),
//!             }
//!         }
//!     }
//!     position = raw.next_offset();
//! }
//! # assert_eq!(position, 8);
//! # Ok::<(), kafka_core::record_batch::BatchError>(())
//! ```
//!
//! The format: <https://kafka.apache.org/documentation/#messageformat>.

mod aborted;
mod builder;
mod fetched_partition;
mod headers;
mod records;
mod varint;

use std::iter::FusedIterator;

use bytes::Bytes;

pub use self::aborted::AbortedTransactions;
pub use self::builder::BatchBuilder;
pub use self::fetched_partition::{DamagedBatch, FetchedPartition, VerifiedBatches};
pub use self::headers::{Header, HeaderIter, Headers};
pub use self::records::{
    ControlMarker, Record, RecordBatch, RecordFault, Records, UndecodableRecord,
};
use crate::compression::{Compression, DecompressionError};

/// Base offset and length: what stands before the bytes that the length counts.
const FRAME_PREFIX_BYTES: usize = 12;
/// Where the checksum of the formats before batches is; it covers everything from the magic byte on.
const LEGACY_CRC_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// The checksum covers everything from here on.
const ATTRIBUTES_AT: usize = 21;
const HEADER_BYTES: usize = 61;
/// The shortest entry of the formats before batches, counted as its length field does.
const LEGACY_ENTRY_BYTES: usize = 14;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Splits the `records` of a fetch response into batches.
///
/// Every frame that is there as a whole is yielded, also one that cannot be read: [`RawBatch::open`] tells. A broker
/// cuts the last batch off where the response is full; that tail is not yielded.
pub fn batches(records: Bytes) -> Batches {
    Batches { rest: records }
}

/// Iterates over the batches of a fetch response.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Returns how many bytes have not been yielded; after the end, the length of the batch that was cut off. A
    /// response of nothing but such a tail has to be fetched again with more room.
    pub fn unread_bytes(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for Batches {
    type Item = RawBatch;

    fn next(&mut self) -> Option<RawBatch> {
        let prefix = self.rest.first_chunk::<FRAME_PREFIX_BYTES>()?;
        let [.., b0, b1, b2, b3] = *prefix;
        let Ok(length) = usize::try_from(i32::from_be_bytes([b0, b1, b2, b3])) else {
            return Some(self.broken());
        };
        if length < LEGACY_ENTRY_BYTES {
            return Some(self.broken());
        }
        let total = FRAME_PREFIX_BYTES.checked_add(length)?;
        if self.rest.len() < total {
            return None;
        }
        Some(RawBatch::parse(self.rest.split_to(total)))
    }
}

impl Batches {
    /// Takes everything that is left, because nothing tells where the next batch would begin.
    fn broken(&mut self) -> RawBatch {
        let raw = RawBatch::parse(std::mem::take(&mut self.rest));
        RawBatch { readability: Readability::Malformed, ..raw }
    }
}

impl FusedIterator for Batches {}

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record when the batch was written; compaction may have removed it since.
    pub base_offset: i64,
    /// The last offset that the batch covers, whether or not its record is still there.
    pub last_offset: i64,
    /// The epoch of the leader that appended the batch, or −1.
    pub leader_epoch: i32,
    /// The format: 2, or an older one that cannot be opened.
    pub magic: i8,
    /// Compression, kind of timestamp, transactional, control: see the methods.
    pub attributes: i16,
    /// The timestamp to which records add theirs, in milliseconds since 1970.
    pub base_timestamp_ms: i64,
    /// The largest timestamp, or the time of appending, in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// The idempotent or transactional producer's id, or −1.
    pub producer_id: i64,
    /// That producer's epoch, or −1.
    pub producer_epoch: i16,
    /// That producer's sequence number of the first record, or −1.
    pub base_sequence: i32,
    /// How many records the batch claims to have.
    pub record_count: i32,
}

impl BatchHeader {
    /// Returns the offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset.saturating_add(1)
    }

    /// Returns whether the batch holds markers of transactions, which are never delivered.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Returns whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Returns whether records carry the time at which the broker appended them.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Returns how the records are packed.
    ///
    /// # Errors
    /// With the number, when it is none of the codecs known.
    pub fn compression(&self) -> Result<Compression, u8> {
        let [code, _] = (self.attributes & COMPRESSION_MASK).to_le_bytes();
        Compression::from_code(code).ok_or(code)
    }

    /// Reads a header of format 2; `None` when it contradicts itself.
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut fields = Fields { rest: bytes };
        let base_offset = i64::from_be_bytes(fields.take()?);
        let _length: [u8; 4] = fields.take()?;
        let leader_epoch = i32::from_be_bytes(fields.take()?);
        let magic = i8::from_be_bytes(fields.take()?);
        let _crc: [u8; 4] = fields.take()?;
        let attributes = i16::from_be_bytes(fields.take()?);
        let last_offset_delta = i32::from_be_bytes(fields.take()?);
        let last_offset = base_offset.checked_add(i64::from(last_offset_delta))?;
        let sound = (0 <= base_offset) && (0 <= last_offset_delta) && (last_offset < i64::MAX);
        sound.then_some(())?;
        Some(Self {
            base_offset,
            last_offset,
            leader_epoch,
            magic,
            attributes,
            base_timestamp_ms: i64::from_be_bytes(fields.take()?),
            max_timestamp_ms: i64::from_be_bytes(fields.take()?),
            producer_id: i64::from_be_bytes(fields.take()?),
            producer_epoch: i16::from_be_bytes(fields.take()?),
            base_sequence: i32::from_be_bytes(fields.take()?),
            record_count: i32::from_be_bytes(fields.take()?),
        })
    }

    /// The header of something that is no batch of format 2: little more than its offset.
    fn unreadable(base_offset: i64, magic: i8) -> Self {
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

/// The fixed-width fields of a header, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*field)
    }
}

/// One batch as it was received, with its header read and nothing else checked. Cloning copies pointers.
#[derive(Clone, Debug)]
pub struct RawBatch {
    bytes: Bytes,
    header: BatchHeader,
    readability: Readability,
    /// The checksum was found to be right.
    is_verified: bool,
}

#[derive(Clone, Copy, Debug)]
enum Readability {
    Readable,
    OtherMagic,
    Malformed,
}

impl RawBatch {
    fn parse(bytes: Bytes) -> Self {
        let base_offset = bytes.first_chunk().map_or(-1, |first| i64::from_be_bytes(*first));
        let magic = bytes.get(MAGIC_AT).map_or(-1, |magic| i8::from_be_bytes([*magic]));
        let header = bytes.first_chunk().and_then(BatchHeader::parse);
        let (header, readability) = match (magic, header) {
            (2, Some(header)) => (header, Readability::Readable),
            (2, None) => (BatchHeader::unreadable(base_offset, magic), Readability::Malformed),
            _ => (BatchHeader::unreadable(base_offset, magic), Readability::OtherMagic),
        };
        Self { bytes, header, readability, is_verified: false }
    }

    /// Returns the whole batch, byte for byte as received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns what the batch says about itself; of one that is not of format 2, only offset and magic are real.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Returns the offset after the batch: where to go on once it has been taken.
    pub fn next_offset(&self) -> i64 {
        self.header.next_offset()
    }

    /// Checks the batch against its checksum, unless that was done, and unpacks its records, to at most
    /// `unpacked_bytes_max` bytes. The bytes of a batch that is not packed are shared, not copied.
    ///
    /// # Errors
    /// With the batch's offsets. What [`FetchedPartition::read`] handed out fails only for what is in it, and its offsets are
    /// true; of any other batch all of it may be damaged.
    pub fn open(&self, unpacked_bytes_max: usize) -> Result<RecordBatch, BatchError> {
        self.unpack(unpacked_bytes_max)
            .map(|records| RecordBatch::new(self.header, records))
            .map_err(|kind| BatchError {
                base_offset: self.header.base_offset,
                last_offset: self.header.last_offset,
                kind,
            })
    }

    /// Checks the batch against its checksum; also one of an old format, which has another.
    fn verified(self) -> Result<Self, BatchErrorKind> {
        let is_right = match (self.readability, self.header.magic) {
            (Readability::Readable, _) => self.has_right_checksum(),
            (Readability::OtherMagic, 0 | 1) => self.has_right_legacy_checksum(),
            (Readability::OtherMagic, magic) => return Err(BatchErrorKind::Magic(magic)),
            (Readability::Malformed, _) => return Err(BatchErrorKind::Malformed),
        };
        if is_right { Ok(Self { is_verified: true, ..self }) } else { Err(BatchErrorKind::Crc) }
    }

    fn has_right_checksum(&self) -> bool {
        let stored = self.bytes[CRC_AT..].first_chunk().map(|crc| u32::from_be_bytes(*crc));
        stored == Some(crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]))
    }

    fn has_right_legacy_checksum(&self) -> bool {
        let stored = self.bytes[LEGACY_CRC_AT..].first_chunk().map(|crc| u32::from_be_bytes(*crc));
        let mut checksum = flate2::Crc::new();
        checksum.update(&self.bytes[MAGIC_AT..]);
        stored == Some(checksum.sum())
    }

    fn unpack(&self, unpacked_bytes_max: usize) -> Result<Bytes, BatchErrorKind> {
        match self.readability {
            Readability::Readable => {}
            Readability::OtherMagic => return Err(BatchErrorKind::Magic(self.header.magic)),
            Readability::Malformed => return Err(BatchErrorKind::Malformed),
        }
        if !(self.is_verified || self.has_right_checksum()) {
            return Err(BatchErrorKind::Crc);
        }
        if self.header.record_count < 0 {
            return Err(BatchErrorKind::Malformed);
        }
        let compression = self.header.compression().map_err(BatchErrorKind::UnknownCompression)?;
        match compression {
            Compression::None => Ok(self.bytes.slice(HEADER_BYTES..)),
            Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd => {
                let unpacked =
                    compression.decompress(&self.bytes[HEADER_BYTES..], unpacked_bytes_max)?;
                Ok(unpacked.into())
            }
        }
    }
}

/// A batch that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the batch of offsets {base_offset} to {last_offset} cannot be read")]
pub struct BatchError {
    /// The first offset of the batch, as far as it can be told.
    pub base_offset: i64,
    /// The last offset of the batch, as far as it can be told.
    pub last_offset: i64,
    /// What is wrong.
    #[source]
    pub kind: BatchErrorKind,
}

impl BatchError {
    /// Returns the batch that could not be opened, as a damaged one.
    pub fn into_damaged(self, raw: &RawBatch) -> DamagedBatch {
        let (first_offset, last_offset) = (self.base_offset, self.last_offset);
        DamagedBatch { first_offset, last_offset, bytes: raw.bytes().clone(), fault: self.kind }
    }
}

/// What is wrong with a batch.
#[derive(Debug, thiserror::Error)]
pub enum BatchErrorKind {
    /// The bytes are not those that the checksum was made of.
    #[error("wrong checksum")]
    Crc,
    /// Lengths, counts or offsets contradict each other.
    #[error("malformed header")]
    Malformed,
    /// The offsets cannot be those of a batch at this place of the log.
    #[error("offsets that do not follow those before")]
    Offsets,
    /// It is whole, but damage before it may have hidden whether its transaction was aborted.
    #[error("nothing tells whether its transaction was aborted")]
    Transaction,
    /// It is a message of the formats before Kafka 0.11 (0 or 1; its offset is that of the last message in it), or of
    /// one that is not known yet.
    #[error("format {0} instead of 2")]
    Magic(i8),
    /// The records are packed by a codec that is not known.
    #[error("unknown compression {0}")]
    UnknownCompression(u8),
    /// The records cannot be unpacked.
    #[error("decompression failed")]
    Decompression(#[from] DecompressionError),
}

impl BatchErrorKind {
    /// Returns a short name for metrics and dead letters.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Crc => "crc",
            Self::Malformed => "malformed",
            Self::Offsets => "offsets",
            Self::Transaction => "transaction",
            Self::Magic(_) => "magic",
            Self::UnknownCompression(_) => "unknown-compression",
            Self::Decompression(_) => "decompression",
        }
    }
}

#[cfg(test)]
mod tests;
