//! Writes of records to the control topic.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kafka_client::exact_writer::{ExactRecord, ExactWriter};
use kafka_client::writer::ProduceError;
use kafka_core::TopicPartition;
use tokio::time::Instant;

use crate::record::Entry;

/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(8);

pub(crate) async fn write(
    writer: &mut ExactWriter,
    topic: &str,
    partition: i32,
    entries: &[Entry],
) -> Result<(), ProduceError> {
    let records: Vec<ExactRecord> = entries.iter().map(record).collect();
    let target = TopicPartition::new(topic, partition);
    writer.produce(&target, &records, Instant::now() + REQUEST_MAX).await.map(drop)
}

pub(crate) fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

fn record(entry: &Entry) -> ExactRecord {
    ExactRecord {
        timestamp_ms: now_ms(),
        key: Some(Bytes::from(entry.key())),
        value: entry.value().map(Bytes::from),
        headers: Vec::new(),
    }
}
