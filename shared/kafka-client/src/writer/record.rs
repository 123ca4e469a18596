//! Records on their way out, and how large they will be.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rskafka::record::Record;

/// The most bytes that the records of one batch may have together: brokers refuse batches over 1 MiB by default.
pub const BATCH_BYTES_MAX: usize = 900 * 1024;

/// The bytes that a batch has besides its records.
pub const BATCH_OVERHEAD_BYTES: usize = 61;

/// Between these sizes, in bytes, batches are slow: several that are smaller are faster than one.
///
/// rskafka writes a request over 8 KiB in two pieces without `TCP_NODELAY`. On a connection with large segments, such as
/// one on the same machine, the second piece then waits for a delayed acknowledgement, 40 ms, unless it is so large that
/// the first of its segments is acknowledged at once, from 64 KiB on.
pub const SLOW_BATCH_BYTES: Range<usize> = 7_600..66_000;

/// A header's name and value.
pub type RecordHeader = (Cow<'static, str>, Bytes);

/// A record to be written. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingRecord {
    /// The key, which other clients choose the partition by.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, each name once; they are written sorted by name.
    pub headers: Vec<RecordHeader>,
    /// The record's time, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl OutgoingRecord {
    /// Returns how many bytes the record takes in a batch, uncompressed: exactly, or a few bytes more.
    ///
    /// Record format: <https://kafka.apache.org/documentation/#record>.
    pub fn encoded_bytes(&self) -> usize {
        // Attributes, and the longest timestamp and offset deltas that a batch will have.
        const DELTAS_BYTES: usize = 1 + 5 + 3;
        let header =
            |(name, value): &RecordHeader| with_length(name.len()) + with_length(value.len());
        let body = DELTAS_BYTES
            + with_length(self.key.as_ref().map_or(0, Bytes::len))
            + with_length(self.value.as_ref().map_or(0, Bytes::len))
            + varint_bytes(self.headers.len())
            + self.headers.iter().map(header).sum::<usize>();
        with_length(body)
    }

    pub(super) fn to_rskafka(&self) -> Record {
        let header = |(name, value): &RecordHeader| (name.to_string(), value.to_vec());
        Record {
            key: self.key.as_ref().map(|key| key.to_vec()),
            value: self.value.as_ref().map(|value| value.to_vec()),
            headers: self.headers.iter().map(header).collect::<BTreeMap<_, _>>(),
            // chrono holds times up to 262,000 years away.
            timestamp: DateTime::<Utc>::from_timestamp_millis(self.timestamp_ms)
                .unwrap_or_default(),
        }
    }
}

fn with_length(bytes: usize) -> usize {
    varint_bytes(bytes) + bytes
}

/// Returns the bytes of a length as a zigzag varint, which has 6 bits in its first byte and 7 in each further one.
fn varint_bytes(length: usize) -> usize {
    let bits = usize::BITS - length.leading_zeros();
    let further = bits.saturating_sub(6).div_ceil(7);
    1 + usize::try_from(further).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::StrBytes;
    use kafka_protocol::records::{
        Compression, Record as EncodedRecord, RecordBatchEncoder, RecordEncodeOptions,
        TimestampType,
    };

    use super::*;

    #[test]
    fn the_size_of_a_record_is_that_of_another_encoder_or_a_few_bytes_more() {
        for key_bytes in [None, Some(0), Some(36), Some(63), Some(64)] {
            for value_bytes in [None, Some(0), Some(8191), Some(8192), Some(1 << 20)] {
                for header_count in [0, 1, 70] {
                    check(&record(key_bytes, value_bytes, header_count));
                }
            }
        }
    }

    #[test]
    fn a_record_reaches_rskafka_whole() {
        let mut outgoing = record(Some(3), None, 2);
        outgoing.timestamp_ms = 1_700_000_000_123;

        let record = outgoing.to_rskafka();

        assert_eq!(record.key, Some(vec![7; 3]));
        assert_eq!(record.value, None);
        assert_eq!(record.timestamp.timestamp_millis(), 1_700_000_000_123);
        let headers: Vec<_> = record.headers.into_iter().collect();
        let value = b"value".to_vec();
        assert_eq!(headers, [("header-0".into(), value.clone()), ("header-1".into(), value)]);
    }

    fn check(outgoing: &OutgoingRecord) {
        let mut batch = BytesMut::new();
        let version = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut batch, [&encoded(outgoing)], &version).unwrap();

        let exact = batch.len() - BATCH_OVERHEAD_BYTES;
        let estimate = outgoing.encoded_bytes();
        // The deltas of a record on its own take 6 bytes less, and with them its length may take one less.
        assert!((exact + 6..=exact + 7).contains(&estimate), "{estimate} for {exact}");
    }

    fn encoded(outgoing: &OutgoingRecord) -> EncodedRecord {
        let header = |(name, value): &RecordHeader| {
            (StrBytes::from_string(name.to_string()), Some(value.clone()))
        };
        EncodedRecord {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset: 0,
            sequence: -1,
            timestamp: outgoing.timestamp_ms,
            key: outgoing.key.clone(),
            value: outgoing.value.clone(),
            headers: outgoing.headers.iter().map(header).collect(),
        }
    }

    fn record(
        key_bytes: Option<usize>,
        value_bytes: Option<usize>,
        header_count: usize,
    ) -> OutgoingRecord {
        let bytes = |length| Bytes::from(vec![7; length]);
        let header = |n| (Cow::Owned(format!("header-{n}")), Bytes::from_static(b"value"));
        OutgoingRecord {
            key: key_bytes.map(bytes),
            value: value_bytes.map(bytes),
            headers: (0..header_count).map(header).collect(),
            timestamp_ms: 0,
        }
    }
}
