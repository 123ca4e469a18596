//! Writes of records to the control topic.

use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
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

fn record(entry: &Entry) -> ExactRecord {
    ExactRecord {
        timestamp_ms: Utc::now().timestamp_millis(),
        key: Some(Bytes::from(entry.key())),
        value: entry.value().map(Bytes::from),
        headers: Vec::new(),
    }
}
