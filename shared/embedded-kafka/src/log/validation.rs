//! The checks of a record batch before the broker appends it.

use bytes::Bytes;
use kafka_core::compression::Compression;
use kafka_core::record_batch::{BatchErrorKind, BatchHeader, RawBatch, batches};
use kafka_protocol::error::ResponseError;

use crate::log::limits::LogLimits;
use crate::refusal::Refusal;

/// The only format of batches that the broker accepts.
const MAGIC: i8 = 2;

/// Reads and validates the single record batch of a produce request for a partition.
///
/// # Errors
/// `CORRUPT_MESSAGE` for a wrong checksum, `MESSAGE_TOO_LARGE` above the limit, `INVALID_RECORD` for a batch that
/// producers must not send, `TRANSACTIONAL_ID_AUTHORIZATION_FAILED` for a transactional batch.
pub(crate) fn validate(bytes: Bytes, limits: &LogLimits) -> Result<RawBatch, Refusal> {
    let mut found = batches(bytes);
    let (Some(batch), 0) = (found.next(), found.unread_bytes()) else {
        return Err(invalid(
            "a produce request must contain exactly one record batch per partition",
        ));
    };
    let (length, length_max) = (batch.bytes().len(), limits.batch_bytes_max);
    if length > length_max {
        return Err(Refusal::new(
            ResponseError::MessageTooLarge,
            format!("the record batch has {length} bytes, the topic allows {length_max}"),
        ));
    }
    let magic = batch.header().magic;
    if magic != MAGIC {
        return Err(invalid(format!(
            "record batches of magic {magic} are not accepted, only {MAGIC}"
        )));
    }
    let batch = batch.verified().map_err(|kind| {
        let is_corrupt = matches!(kind, BatchErrorKind::Crc);
        let error =
            if is_corrupt { ResponseError::CorruptMessage } else { ResponseError::InvalidRecord };
        Refusal::new(error, kind.to_string())
    })?;
    check_producer_rules(batch.header())?;
    check_records(&batch, limits)?;
    Ok(batch)
}

/// Returns whether a compression codec is set.
pub(crate) fn is_compressed(header: &BatchHeader) -> bool {
    header.compression() != Ok(Compression::None)
}

/// Checks that an uncompressed batch has as many records as its header says, each with a key if the topic is compacted.
///
/// The broker accepts compressed batches unchecked.
fn check_records(batch: &RawBatch, limits: &LogLimits) -> Result<(), Refusal> {
    if is_compressed(batch.header()) {
        return Ok(());
    }
    let opened = batch.open(batch.bytes().len());
    let opened = opened.map_err(|error| invalid(error.kind.to_string()))?;
    let mut records = opened.records();
    for index in 0..batch.header().record_count {
        match records.next() {
            Some(Ok(record)) if record.key.is_none() && limits.compacted => {
                return Err(invalid(format!(
                    "record {index} of the batch has no key, which a compacted topic requires"
                )));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => {
                return Err(invalid("the records of the batch cannot be read"));
            }
        }
    }
    if records.unread_bytes() == 0 {
        Ok(())
    } else {
        Err(invalid("bytes follow the last record of the batch"))
    }
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
    if header.last_offset != i64::from(header.record_count) - 1 {
        return Err(invalid(format!(
            "{} records do not fit a last offset delta of {}",
            header.record_count, header.last_offset
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
