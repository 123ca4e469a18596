//! Splitting a fetch response into batches, and verifying and decompressing one.

use std::iter::FusedIterator;

use bytes::Bytes;

use super::error::{BatchError, BatchErrorKind};
use super::header::{BatchHeader, HEADER_BYTES, MAGIC_AT};
use super::records::RecordBatch;
use crate::compression::Compression;

/// Base offset and length: the bytes before those that the length counts.
const FRAME_PREFIX_BYTES: usize = 12;
/// The offset of the checksum in formats 0 and 1; it covers everything from the magic byte on.
const LEGACY_CRC_AT: usize = 12;
/// The offset of the checksum in format 2.
pub(super) const CRC_AT: usize = 17;
/// The offset of the attributes, where the bytes under the checksum begin.
pub(super) const ATTRIBUTES_AT: usize = 21;
/// The length of the shortest entry of formats 0 and 1, as its length field counts it.
const LEGACY_ENTRY_BYTES: usize = 14;

/// Splits the `records` of a fetch response into batches.
///
/// Every complete frame is yielded; [`RawBatch::open`] fails for one that cannot be read. A broker cuts the last batch
/// off where the response is full. This tail is not yielded.
pub fn batches(records: Bytes) -> Batches {
    Batches { rest: records }
}

/// Iterates over the batches of a fetch response.
#[derive(Clone, Debug)]
pub struct Batches {
    pub(super) rest: Bytes,
}

impl Batches {
    /// Returns how many bytes have not been yielded. After the end it is the length of the batch that was cut off: if
    /// the response holds nothing else, it has to be fetched again with a higher limit.
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
    /// Takes all remaining bytes, because nothing shows where the next batch begins.
    fn broken(&mut self) -> RawBatch {
        let raw = RawBatch::parse(std::mem::take(&mut self.rest));
        RawBatch { readability: Readability::Malformed, ..raw }
    }
}

impl FusedIterator for Batches {}

/// One batch as it was received: its header is read, nothing else is checked. Cloning copies pointers.
#[derive(Clone, Debug)]
pub struct RawBatch {
    bytes: Bytes,
    header: BatchHeader,
    readability: Readability,
    /// Whether the checksum was verified.
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

    /// Returns the whole batch as received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the batch's header; if the batch is not of format 2, only offset and magic are real.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Returns the offset after the batch: the position of a consumer that has read it.
    pub fn next_offset(&self) -> i64 {
        self.header.next_offset()
    }

    /// Verifies the checksum, unless that was done, and decompresses the records to at most `unpacked_bytes_max` bytes.
    /// The bytes of an uncompressed batch are shared, not copied.
    ///
    /// # Errors
    /// When the batch is damaged, too large or of an unknown format or codec; the error names its offsets. The offsets
    /// of a batch from [`FetchedPartition::read`](super::FetchedPartition::read) are right. Those of any other batch
    /// may be damaged, too.
    pub fn open(&self, unpacked_bytes_max: usize) -> Result<RecordBatch, BatchError> {
        self.unpack(unpacked_bytes_max)
            .map(|records| RecordBatch::new(self.header, records))
            .map_err(|kind| BatchError {
                base_offset: self.header.base_offset,
                last_offset: self.header.last_offset,
                kind,
            })
    }

    /// Verifies the batch's checksum; formats 0 and 1 have another than format 2.
    ///
    /// # Errors
    /// When the checksum is wrong, the header contradicts itself, or the format is unknown.
    pub fn verified(self) -> Result<Self, BatchErrorKind> {
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
