//! A broker that closes idle connections: the clients replace them without a warning, and write nothing twice.
//!
//! A real Kafka needs a `connections.max.idle.ms` of less than [`QUIET`].

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use end_to_end::{Metrics, Scenario, Stats, topic};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::producer::{Producer, ProducerRecord};
use kafka_core::TopicPartition;
use tokio::time::{Instant, sleep};

/// Less than the interval of heartbeats, so that the broker closes all connections of an idle processor.
const IDLE_MAX: Duration = Duration::from_millis(700);
/// The idle time.
const QUIET: Duration = Duration::from_secs(3);
const ROUNDS: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_commits_and_writes_dead_letters_after_idle_times() -> Result<()> {
    let scenario = open("idle-processor").await?.with("PERMANENT_PRICE_ABOVE", "50");
    let scenario = scenario.with("HTTP_ADDR", "127.0.0.1:0");
    let schema_id = scenario.register_order_schema().await?;
    let servers = scenario.platform().bootstrap_servers();
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    for round in 1..=ROUNDS {
        for price in [10.0, 100.0] {
            let order = topic::order_value(schema_id, &format!("{round}"), "tea", price)?;
            topic::write(servers, scenario.orders_topic(), 0, None, Some(&order)).await?;
        }
        let is_done = |stats: &Stats| (stats.orders, stats.dead_letters) == (round, round);
        scenario.stats_when("an order and a letter", is_done).await?;
        sleep(QUIET).await;
    }
    let failures = Metrics::of(&processor).await?.sum("kafka_consumer_commit_failures_total", &[]);
    ensure!(failures < 0.5, "{failures} commits failed");
    let is_of_a_letter = |line: &String| line.contains("\"order_id\"");
    let lines = processor.lines().into_iter();
    let trouble: Vec<_> = lines.filter(|l| is_trouble(l) && !is_of_a_letter(l)).collect();
    ensure!(trouble.is_empty(), "{trouble:#?}");
    let letters = topic::read(servers, scenario.dead_letter_topic()).await?.len();
    assert_eq!(u64::try_from(letters)?, ROUNDS, "each letter is written once");
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_writes_once_after_its_idle_connection_was_closed() -> Result<()> {
    let scenario = open("idle-writer").await?;
    let servers = scenario.platform().bootstrap_servers();
    topic::create(servers, scenario.orders_topic(), 1).await?;
    let config = BrokerConfig::new(vec![servers.to_owned()], "tests");
    let producer = Producer::start(Cluster::new(config), None);
    let target = TopicPartition::new(scenario.orders_topic(), 0);
    let value = Some(Bytes::from_static(b"value"));
    let record = [ProducerRecord { timestamp_ms: 0, key: None, value, headers: vec![] }];
    let mut offsets = Vec::new();
    for _ in 0..ROUNDS {
        let deadline = Instant::now() + QUIET;
        offsets.push(producer.produce(&target, &record, deadline).await?.base_offset);
        sleep(QUIET).await;
    }
    assert_eq!(offsets, [Some(0), Some(1), Some(2)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generator_sends_after_idle_times() -> Result<()> {
    let scenario = open("idle-generator").await?;
    let generator = scenario.generator("generator")?.env("ORDER_COUNT", "3");
    let mut generator = generator.env("ORDER_RATE", "0.3").start()?;
    generator.expect_exit(0).await?;
    let trouble: Vec<_> = generator.lines().into_iter().filter(|line| is_trouble(line)).collect();
    ensure!(trouble.is_empty(), "{trouble:#?}");
    let orders = topic::read(scenario.platform().bootstrap_servers(), scenario.orders_topic());
    assert_eq!(orders.await?.len(), 3);
    Ok(())
}

fn is_trouble(line: &str) -> bool {
    line.contains("\"WARN\"") || line.contains("\"ERROR\"")
}

async fn open(name: &str) -> Result<Scenario> {
    let scenario = Scenario::open(name).await?.with("TOPIC_PARTITIONS", "1");
    if let Ok(broker) = scenario.embedded_broker() {
        broker.limit_idle(IDLE_MAX);
    }
    Ok(scenario)
}
