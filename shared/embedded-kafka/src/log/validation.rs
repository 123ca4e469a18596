//! The checks of a record batch before the broker appends it.

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;

use crate::log::header::{BatchHeader, HEADER_BYTES};
use crate::log::limits::LogLimits;
use crate::log::records::RecordWalker;
use crate::refusal::Refusal;

/// Base offset and batch length, which the length field does not count.
const LENGTH_EXCLUDED_BYTES: usize = 12;

/// Reads and validates the single record batch of a produce request for a partition.
///
/// # Errors
/// `CORRUPT_MESSAGE` for a wrong checksum, `MESSAGE_TOO_LARGE` above `max_bytes`, `INVALID_RECORD` for a batch that
/// producers must not send, `TRANSACTIONAL_ID_AUTHORIZATION_FAILED` for a transactional batch.
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
    let header = BatchHeader::read(bytes)?;
    check_producer_rules(&header)?;
    Ok(header)
}

/// Checks that an uncompressed batch has as many records as its header says, each with a key if the topic is compacted.
///
/// The broker has no codecs and accepts compressed batches unchecked.
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

/// Returns the length of the first batch from its length field.
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

fn check_producer_rules(header: &BatchHeader) -> Result<(), Refusal> {
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

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ResponseError::InvalidRecord, message)
}
