//! Batches that cannot be read.

use bytes::Bytes;

use crate::compression::DecompressionError;

/// A batch could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the batch of offsets {base_offset} to {last_offset} cannot be read")]
pub struct BatchError {
    /// The first offset of the batch, as far as its header can be read.
    pub base_offset: i64,
    /// The last offset of the batch, as far as its header can be read.
    pub last_offset: i64,
    /// What is wrong with the batch.
    #[source]
    pub kind: BatchErrorKind,
}

impl BatchError {
    /// Returns the damaged batch with these bytes, which could not be opened.
    pub fn into_damaged(self, bytes: Bytes) -> DamagedBatch {
        let (first_offset, last_offset) = (self.base_offset, self.last_offset);
        DamagedBatch { first_offset, last_offset, bytes, fault: self.kind }
    }
}

/// What is wrong with a batch.
#[derive(Debug, thiserror::Error)]
pub enum BatchErrorKind {
    /// The checksum does not match the bytes.
    #[error("wrong checksum")]
    Crc,
    /// Lengths, counts or offsets contradict each other.
    #[error("malformed header")]
    Malformed,
    /// The batch's offsets contradict those of the batch before it.
    #[error("offsets do not follow those of the batch before")]
    Offsets,
    /// The batch is complete, but damage before it may have hidden the end of an aborted transaction.
    #[error("unknown whether its transaction was aborted")]
    Transaction,
    /// The batch is a message of format 0 or 1 (before Kafka 0.11; its offset is that of the last message in it), or of
    /// an unknown format.
    #[error("format {0} instead of 2")]
    Magic(i8),
    /// The records are compressed by an unknown codec.
    #[error("unknown compression {0}")]
    UnknownCompression(u8),
    /// The records cannot be decompressed.
    #[error("decompression failed")]
    Decompression(#[from] DecompressionError),
}

impl BatchErrorKind {
    /// Returns a short label for metrics and log lines.
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

/// Bytes of a log that are no readable batch, and the offsets that they stand for.
#[derive(Debug)]
pub struct DamagedBatch {
    /// The first offset that the bytes stand for.
    pub first_offset: i64,
    /// The last offset that the bytes stand for.
    pub last_offset: i64,
    /// The bytes as they were received, up to the next intact batch.
    pub bytes: Bytes,
    /// What is wrong with them.
    pub fault: BatchErrorKind,
}

impl DamagedBatch {
    /// Returns the offset after the damage.
    pub fn next_offset(&self) -> i64 {
        self.last_offset.saturating_add(1)
    }
}
