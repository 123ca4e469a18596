//! Writes of records to the control topic.

use bytes::Bytes;
use chrono::Utc;
use kafka_client::producer::ProduceError;
use kafka_client::producer::{Producer, ProducerRecord};
use kafka_core::TopicPartition;
use tokio::time::Instant;

use crate::record::Entry;

pub(crate) async fn write(
    producer: &Producer,
    topic: &str,
    partition: i32,
    entries: &[Entry],
    deadline: Instant,
) -> Result<(), ProduceError> {
    let records: Vec<ProducerRecord> = entries.iter().map(record).collect();
    let target = TopicPartition::new(topic, partition);
    producer.produce(&target, &records, deadline).await.map(drop)
}

fn record(entry: &Entry) -> ProducerRecord {
    ProducerRecord {
        timestamp_ms: Utc::now().timestamp_millis(),
        key: Some(Bytes::from(entry.key())),
        value: entry.value().map(Bytes::from),
        headers: Vec::new(),
    }
}
