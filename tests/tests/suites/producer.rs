//! The idempotent producer on a broker, through faults: every batch is in the log once, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use end_to_end::proxy::{ApiKey, Fault};
use end_to_end::service::PATIENCE;
use end_to_end::{Scenario, topic};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::producer::{Delivery, Producer};
use kafka_core::TopicPartition;
use kafka_core::compression::Compression;
use kafka_core::record_batch::{BatchEncoder, EncodedBatch, Fit, NewRecord};
use service_runtime::now_ms;
use tokio::time::Instant;

const PARTITIONS: i32 = 2;
const BATCHES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn every_batch_is_once_in_the_log_and_in_order_whatever_happens_to_requests() -> Result<()> {
    for fault in [Fault::LoseAnswer, Fault::LoseRequest, Fault::TruncateAnswer] {
        let scenario = open("producer-faults").await?;
        let proxy = scenario.proxy()?;
        let producer = producer(&proxy.address(), Duration::from_secs(2));
        for skipped in [1, 4, 9, 10, 16] {
            proxy.inject(ApiKey::Produce, fault, skipped, 1);
        }
        write_all(&producer, scenario.orders_topic(), &Bytes::from_static(b"x")).await?;
        ensure!(proxy.hits(ApiKey::Produce) > 0, "{fault:?} hit no request");
        check_log(&scenario).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_arrives_after_the_ones_that_were_sent_again_is_dropped() -> Result<()> {
    let scenario = open("producer-late").await?;
    let proxy = scenario.proxy()?;
    let producer = producer(&proxy.address(), Duration::from_secs(2));
    proxy.inject(ApiKey::Produce, Fault::Hold, 5, 1);
    write_all(&producer, scenario.orders_topic(), &Bytes::from_static(b"x")).await?;
    proxy.deliver_held().await?;
    check_log(&scenario).await
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_wait_for_a_topic_that_is_created_later() -> Result<()> {
    let scenario = Scenario::open("producer-early").await?;
    let servers = scenario.platform().bootstrap_servers();
    let producer = producer(servers, PATIENCE);
    let target = TopicPartition::new(scenario.orders_topic(), 0);
    let delivery = producer.enqueue(target.clone(), batch(0, b"x")?, deadline()).await;
    let mut failures = producer.failures();
    failures.wait_for(|failures| failures.contains_key(&target)).await?;
    topic::create(servers, scenario.orders_topic(), PARTITIONS).await?;
    assert_eq!(delivery.outcome().await?.base_offset, Some(0));
    failures.wait_for(BTreeMap::is_empty).await?;
    Ok(())
}

/// Exceeds a quota many times over: a producer that takes a throttled answer for a failure writes its batches again and again.
#[cfg(feature = "outsiders")]
#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_producer_writes_every_batch_once() -> Result<()> {
    use end_to_end::outsiders::{CONFIGS, kafka_tool};

    const CLIENT: &str = "throttled-producer";
    let scenario = open("producer-quota").await?;
    let quota = async |change: &'static str, value: &'static str| {
        let command = kafka_tool(&scenario, CONFIGS)
            .args(["--alter", "--entity-type", "clients", "--entity-name", CLIENT])
            .args([change, value]);
        command.output().await
    };
    quota("--add-config", "producer_byte_rate=50000").await?;
    let servers = scenario.platform().bootstrap_servers();
    let mut config = BrokerConfig::new(vec![servers.to_owned()], CLIENT);
    config.request_timeout = PATIENCE;
    let producer = Producer::start(Cluster::new(config), None);
    let value = Bytes::from(vec![b'x'; 4_000]);
    let written = write_all(&producer, scenario.orders_topic(), &value).await;
    quota("--delete-config", "producer_byte_rate").await?;
    written?;
    check_log(&scenario).await
}

async fn open(name: &str) -> Result<Scenario> {
    let scenario = Scenario::open_behind_proxy(name).await?;
    let servers = scenario.platform().bootstrap_servers();
    topic::create(servers, scenario.orders_topic(), PARTITIONS).await?;
    Ok(scenario)
}

fn producer(servers: &str, request_timeout: Duration) -> Producer {
    let mut config = BrokerConfig::new(vec![servers.to_owned()], "tests");
    config.request_timeout = request_timeout;
    Producer::start(Cluster::new(config), None)
}

/// Writes numbered batches to each partition and waits until all are acknowledged.
async fn write_all(producer: &Producer, topic: &str, value: &Bytes) -> Result<()> {
    let mut deliveries: Vec<Delivery> = Vec::new();
    for number in 0..BATCHES {
        for partition in 0..PARTITIONS {
            let target = TopicPartition::new(topic, partition);
            deliveries.push(producer.enqueue(target, batch(number, value)?, deadline()).await);
        }
    }
    for delivery in deliveries {
        delivery.outcome().await?;
    }
    Ok(())
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_mins(2)
}

/// A batch of two records whose keys are `number`.
fn batch(number: usize, value: &[u8]) -> Result<EncodedBatch> {
    let key = number.to_string();
    let mut encoder = BatchEncoder::new(1 << 20);
    for _ in 0..2 {
        let (key, value) = (Some(key.as_bytes()), Some(value));
        let record = NewRecord { timestamp_ms: now_ms(), key, value, headers: &[] };
        ensure!(encoder.append(&record) == Fit::Appended, "a small record fits");
    }
    Ok(encoder.finish(Compression::None)?)
}

/// Checks that each partition has every batch once, in the order of their numbers.
async fn check_log(scenario: &Scenario) -> Result<()> {
    let servers = scenario.platform().bootstrap_servers();
    let records = topic::read(servers, scenario.orders_topic()).await?;
    let written: Vec<String> =
        (0..BATCHES).flat_map(|number| [number.to_string(), number.to_string()]).collect();
    for partition in 0..PARTITIONS {
        let keys = records.iter().filter(|record| record.partition == partition);
        let keys: Vec<String> = keys
            .map(|record| String::from_utf8_lossy(record.key.as_deref().unwrap_or(b"")).into())
            .collect();
        assert_eq!(keys, written, "partition {partition}");
    }
    Ok(())
}
