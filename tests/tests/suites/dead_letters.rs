//! `order-console dlq`: lists, replays, and kills in between.

mod forgetful_topics;
mod group_topics;
mod locking;
mod looking;
mod odd_records;
mod outcomes;
mod replaying;
mod traces;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use end_to_end::service::PATIENCE;
use end_to_end::{Scenario, Service, Stats, topic};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::producer::{Producer, ProducerRecord};
use kafka_core::TopicPartition;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The highest price of orders that do not fail in the simulation.
const PRICE_LIMIT: &str = "50";

/// Pause between two reads of a topic.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Runs a processor over these numbers of failing and of other orders.
async fn make_dead_letters(scenario: &Scenario, failing: u64, good: u64) -> Result<()> {
    for (count, lowest, highest) in [(failing, "100", "200"), (good, "10", "40")] {
        if count > 0 {
            let generator = scenario
                .generator("generator")?
                .env("ORDER_COUNT", &count.to_string())
                .env("PRICE_MIN", lowest)
                .env("PRICE_MAX", highest);
            generator.env("ORDER_RATE", "0").start()?.expect_exit(0).await?;
        }
    }
    let processor = failing_processor(scenario)?;
    let stats = scenario.stats_at_end(failing + good).await?;
    assert_eq!((stats.orders, stats.dead_letters), (good, failing));
    processor.drain().await
}

async fn with_dead_letters(name: &str, failing: u64, good: u64) -> Result<Scenario> {
    let scenario = Scenario::open(name).await?;
    make_dead_letters(&scenario, failing, good).await?;
    Ok(scenario)
}

fn failing_processor(scenario: &Scenario) -> Result<Service> {
    scenario.processor("processor-failing")?.env("PERMANENT_PRICE_ABOVE", PRICE_LIMIT).start()
}

/// Starts `order-console dlq`.
fn dlq_start(scenario: &Scenario, name: &str, arguments: &[&str]) -> Result<Service> {
    scenario.console(name)?.args(["dlq"]).args(arguments.iter().copied()).start()
}

/// Runs `order-console dlq` to its end and returns what it printed.
async fn dlq(scenario: &Scenario, arguments: &[&str]) -> Result<String> {
    let command = scenario.console("dlq")?.args(["dlq"]).args(arguments.iter().copied());
    command.output().await
}

/// Runs `order-console dlq` to its end and returns the JSON object that it printed.
async fn dlq_json(scenario: &Scenario, arguments: &[&str]) -> Result<Value> {
    let printed = dlq(scenario, &[arguments, &["--json"]].concat()).await?;
    serde_json::from_str(&printed).with_context(|| format!("read what dlq printed: {printed}"))
}

/// Runs `order-console dlq`, checks its exit code, and returns its lines.
async fn dlq_ends_with(scenario: &Scenario, code: i32, arguments: &[&str]) -> Result<String> {
    let mut running = dlq_start(scenario, "dlq", arguments)?;
    running.expect_exit(code).await?;
    Ok(running.lines().join("\n"))
}

/// Returns the output of `dlq export` for any topic.
async fn exported(scenario: &Scenario, topic: &str) -> Result<Vec<Value>> {
    let command = scenario.console("dlq")?.env("ORDERS_DLQ_TOPIC", topic);
    let printed = command.args(["dlq", "export"]).output().await?;
    printed.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Returns the replays in the topic, sorted: the dead letter, and the number of the replay.
async fn replayed(scenario: &Scenario, topic: &str) -> Result<Vec<String>> {
    let servers = scenario.platform().bootstrap_servers();
    let mut replayed: Vec<String> = topic::read(servers, topic)
        .await?
        .iter()
        .filter_map(|record| {
            let of = record.header_text("dlq.replay.of")?;
            Some(format!("{of} {}", record.header_text("dlq.replay.count")?))
        })
        .collect();
    replayed.sort();
    Ok(replayed)
}

/// Checks that the topic has each replay once, and returns their number.
async fn replayed_once(scenario: &Scenario, topic: &str) -> Result<usize> {
    let mut replayed = replayed(scenario, topic).await?;
    let records = replayed.len();
    replayed.dedup();
    assert_eq!(replayed.len(), records, "letters were replayed to {topic} more than once");
    Ok(records)
}

/// Waits for a number of replays.
async fn until_replayed(scenario: &Scenario, count: usize) -> Result<()> {
    until_replayed_to(scenario, &scenario.replay_topic(), count).await
}

/// Waits for a number of replays in a topic.
async fn until_replayed_to(scenario: &Scenario, topic: &str, count: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while replayed(scenario, topic).await?.len() < count {
        if deadline < Instant::now() {
            bail!("{count} replays were not reached");
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// Waits until the statistics have a number of replays and the group has no lag.
async fn stats_after_replays(scenario: &Scenario, replayed: u64) -> Result<Stats> {
    let what = format!("the end of {replayed} replays");
    scenario.stats_when(&what, |stats| (stats.lag == Some(0)) && (stats.replayed >= replayed)).await
}

type Header = (&'static [u8], Option<&'static [u8]>);

/// Appends one unchanged record to partition 0.
async fn write_exactly(
    scenario: &Scenario,
    topic: &str,
    key: Option<&'static [u8]>,
    value: Option<Vec<u8>>,
    headers: &[Header],
) -> Result<i64> {
    let servers = vec![scenario.platform().bootstrap_servers().to_owned()];
    let producer = Producer::start(Cluster::new(BrokerConfig::new(servers, "tests")), None);
    let header = |(name, value): &Header| (Bytes::from_static(name), value.map(Bytes::from_static));
    let record = ProducerRecord {
        timestamp_ms: 1_700_000_000_123,
        key: key.map(Bytes::from_static),
        value: value.map(Bytes::from),
        headers: headers.iter().map(header).collect(),
    };
    let target = TopicPartition::new(topic, 0);
    let deadline = Instant::now() + PATIENCE;
    let appended = producer.produce(&target, std::slice::from_ref(&record), deadline).await?;
    appended.base_offset.context("an answer was lost")
}
