//! The broker with rskafka, the client of the suites.

use std::collections::BTreeMap;
use std::time::Duration;

use rskafka::chrono::{DateTime, Utc};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, UnknownTopicHandling};
use rskafka::record::Record;

use crate::client::start;

fn record(index: i64) -> Record {
    let value = Some(format!("value {index}").into_bytes());
    let headers = BTreeMap::from([("producer-id".to_owned(), vec![1, 2])]);
    let timestamp: DateTime<Utc> =
        DateTime::from_timestamp_millis(1_700_000_000_000 + index).unwrap();
    Record { key: Some(vec![7]), value, headers, timestamp }
}

#[tokio::test]
async fn rskafka_creates_writes_reads_and_lists_offsets() {
    let broker = start().await;
    let client = ClientBuilder::new(vec![broker.bootstrap_servers()]).build().await.unwrap();
    let controller = client.controller_client().unwrap();
    controller.create_topic("orders", 2, 1, 5_000).await.unwrap();
    let topics = client.list_topics().await.unwrap();
    assert_eq!((topics[0].name.as_str(), topics[0].partitions.len()), ("orders", 2));
    let partition =
        client.partition_client("orders", 1, UnknownTopicHandling::Error).await.unwrap();
    let first = (0..3).map(record).collect();
    let offsets = partition.produce(first, Compression::NoCompression).await.unwrap();
    assert_eq!(offsets, [0, 1, 2]);
    let second = (3..5).map(record).collect();
    let offsets = partition.produce(second, Compression::NoCompression).await.unwrap();
    assert_eq!(offsets, [3, 4]);

    let (records, high_watermark) = partition.fetch_records(1, 1..1_000_000, 1_000).await.unwrap();
    let read: Vec<(i64, Record)> =
        records.into_iter().map(|record| (record.offset, record.record)).collect();
    let expected: Vec<(i64, Record)> = (1..5).map(|index| (index, record(index))).collect();
    assert_eq!((read, high_watermark), (expected, 5));

    assert_eq!(partition.get_offset(OffsetAt::Latest).await.unwrap(), 5);
    partition.delete_records(2, 1_000).await.unwrap();
    assert_eq!(partition.get_offset(OffsetAt::Earliest).await.unwrap(), 2);
    let at = record(3).timestamp + Duration::ZERO;
    assert_eq!(partition.get_offset(OffsetAt::Timestamp(at)).await.unwrap(), 3);
    controller.delete_topic("orders", 5_000).await.unwrap();
    assert!(client.list_topics().await.unwrap().is_empty());
}
