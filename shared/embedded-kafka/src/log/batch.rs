//! Record batches as they arrive in a produce request.
//!
//! The broker looks into the records of a batch only to see that they are what the header says and to answer a search by
//! timestamp; everything else is in the header, whose layout is in
//! <https://kafka.apache.org/documentation/#recordbatch>.

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;

use crate::log::LogLimits;
use crate::log::records::RecordWalker;
use crate::refusal::Refusal;

/// The bytes of a batch header, up to the first record.
pub(crate) const HEADER_BYTES: usize = 61;
/// Where the part of a batch begins that the broker does not rewrite: after base offset, length and leader epoch.
pub(crate) const REWRITTEN_BYTES: usize = 16;
/// Base offset and batch length, which the length field does not count.
const LENGTH_EXCLUDED_BYTES: usize = 12;
/// Where the bytes covered by the checksum begin: at the attributes.
const CHECKSUMMED_FROM: usize = 21;
const MAGIC: i8 = 2;

const COMPRESSION_MASK: i16 = 0b0000_0111;
const TRANSACTIONAL_FLAG: i16 = 0b0001_0000;
const CONTROL_FLAG: i16 = 0b0010_0000;

/// The fields of a batch header the broker works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// The offset the client wrote, 0 for a producer that follows the protocol.
    pub(crate) base_offset: i64,
    /// Compression, timestamp type, transactional and control flags.
    pub(crate) attributes: i16,
    /// The last offset of the batch relative to its first.
    pub(crate) last_offset_delta: i32,
    /// The timestamp the records' deltas count from, in milliseconds since the epoch.
    pub(crate) base_timestamp: i64,
    /// The largest timestamp of the batch, in milliseconds since the epoch.
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
    /// Returns whether a compression codec is set.
    pub(crate) fn is_compressed(&self) -> bool {
        self.attributes & COMPRESSION_MASK != 0
    }

    /// Returns whether the batch belongs to a transaction.
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_FLAG != 0
    }

    /// Returns whether the batch is a control batch, which only brokers write.
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

/// Reads and validates the single record batch a produce request carries for a partition.
///
/// # Errors
/// `CORRUPT_MESSAGE` when the checksum is wrong, `MESSAGE_TOO_LARGE` above `max_bytes`, `INVALID_RECORD` when the batch is
/// not what a producer may send, `TRANSACTIONAL_ID_AUTHORIZATION_FAILED` for a transactional batch.
pub(crate) fn validate(bytes: &Bytes, max_bytes: usize) -> Result<BatchHeader, Refusal> {
    let length = batch_bytes(bytes)?;
    if length > max_bytes {
        return Err(Refusal::new(
            ResponseError::MessageTooLarge,
            format!("the record batch has {length} bytes, the topic allows {max_bytes}"),
        ));
    }
    if length != bytes.len() {
        return Err(Refusal::new(
            ResponseError::InvalidRecord,
            "a produce request must contain exactly one record batch per partition",
        ));
    }
    let header = read_header(bytes)?;
    check_what_producers_may_send(&header)?;
    Ok(header)
}

/// Walks the records of a batch that is not compressed: there have to be as many as the header says, each with a key if the
/// topic is compacted.
///
/// Compressed batches pass: the broker has no codecs.
///
/// # Errors
/// `INVALID_RECORD`.
pub(crate) fn validate_records(
    bytes: &Bytes,
    header: &BatchHeader,
    limits: &LogLimits,
) -> Result<(), Refusal> {
    if header.is_compressed() {
        return Ok(());
    }
    let mut records = RecordWalker::new(bytes, header);
    for (index, record) in records.by_ref().enumerate() {
        if !record?.has_key && limits.compacted {
            return Err(invalid(format!(
                "record {index} of the batch has no key, which a compacted topic requires"
            )));
        }
    }
    if records.is_at_end() {
        Ok(())
    } else {
        Err(invalid("bytes follow the last record of the batch"))
    }
}

/// Returns the length of the first batch by its own length field.
fn batch_bytes(bytes: &Bytes) -> Result<usize, Refusal> {
    if bytes.len() < HEADER_BYTES {
        return Err(invalid(format!("{} bytes are too few for a record batch", bytes.len())));
    }
    let mut field = bytes.slice(8..LENGTH_EXCLUDED_BYTES);
    let length = usize::try_from(field.get_i32())
        .ok()
        .and_then(|length| length.checked_add(LENGTH_EXCLUDED_BYTES))
        .filter(|length| (HEADER_BYTES..=bytes.len()).contains(length));
    length.ok_or_else(|| invalid("the batch length does not fit the records of the request"))
}

fn read_header(bytes: &Bytes) -> Result<BatchHeader, Refusal> {
    let mut fields = bytes.slice(..HEADER_BYTES);
    let base_offset = fields.get_i64();
    fields.advance(8);
    let magic = fields.get_i8();
    if magic != MAGIC {
        return Err(invalid(format!(
            "record batches of magic {magic} are not accepted, only {MAGIC}"
        )));
    }
    let checksum = fields.get_u32();
    let computed = crc32c::crc32c(bytes.get(CHECKSUMMED_FROM..).unwrap_or_default());
    if checksum != computed {
        return Err(corrupt(format!(
            "the record batch has checksum {checksum:#010x}, its bytes {computed:#010x}"
        )));
    }
    Ok(BatchHeader {
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

fn check_what_producers_may_send(header: &BatchHeader) -> Result<(), Refusal> {
    if header.base_offset != 0 {
        return Err(invalid(format!(
            "the base offset of a produced batch must be 0, not {}",
            header.base_offset
        )));
    }
    if header.record_count < 1 {
        return Err(invalid(format!("a record batch cannot hold {} records", header.record_count)));
    }
    if header.last_offset_delta != header.record_count - 1 {
        return Err(invalid(format!(
            "{} records do not fit a last offset delta of {}",
            header.record_count, header.last_offset_delta
        )));
    }
    if header.is_control() {
        return Err(invalid("clients are not allowed to write control records"));
    }
    if (header.producer_id >= 0) && (header.base_sequence < 0) {
        return Err(invalid(format!(
            "producer {} sent the sequence number {}",
            header.producer_id, header.base_sequence
        )));
    }
    if header.is_transactional() {
        return Err(Refusal::new(
            ResponseError::TransactionalIdAuthorizationFailed,
            "the batch belongs to a transaction, which this broker does not support",
        ));
    }
    Ok(())
}

fn corrupt(message: impl Into<String>) -> Refusal {
    Refusal::new(ResponseError::CorruptMessage, message)
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ResponseError::InvalidRecord, message)
}
