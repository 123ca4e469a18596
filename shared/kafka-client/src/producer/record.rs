//! Records to write, one by one.

use bytes::Bytes;
use kafka_core::compression::Compression;
use kafka_core::record_batch::{BatchEncoder, EncodedBatch, Fit, NewRecord};

/// The most bytes of a batch that every broker takes: its default for `max.message.bytes` is 1,048,588.
pub const BATCH_BYTES_MAX: usize = 1_048_576;

/// The most bytes that lengths, deltas and attributes of one record take.
const RECORD_OVERHEAD_BYTES: usize = 36;
/// The most bytes that the two lengths of one header take.
const HEADER_OVERHEAD_BYTES: usize = 10;

/// A record to write, with its headers as they will be in the log. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerRecord {
    /// The record's time, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key; null and empty are different keys.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values in their order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl ProducerRecord {
    /// Returns how many bytes the record takes in a batch at most.
    pub fn encoded_bytes_max(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let header = |(name, value): &(Bytes, Option<Bytes>)| {
            HEADER_OVERHEAD_BYTES + name.len() + length(value)
        };
        RECORD_OVERHEAD_BYTES
            + length(&self.key)
            + length(&self.value)
            + self.headers.iter().map(header).sum::<usize>()
    }
}

/// Encodes records as one batch, however large it gets: the broker has the last word on its limit.
pub(super) fn encode(
    records: &[ProducerRecord],
    compression: Compression,
) -> Result<EncodedBatch, String> {
    let bytes = records.iter().map(ProducerRecord::encoded_bytes_max).sum();
    let mut encoder = BatchEncoder::with_capacity(usize::MAX, bytes);
    for record in records {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref())).collect();
        let new = NewRecord {
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        match encoder.append(&new) {
            Fit::Appended => {}
            Fit::Full | Fit::TooLarge => return Err("the batch is too long for Kafka".to_owned()),
        }
    }
    encoder.finish(compression).map_err(|error| error.to_string())
}
