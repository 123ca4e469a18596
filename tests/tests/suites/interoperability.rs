//! Kafka's own tools and clients on librdkafka and Java work with our topics and our group, and ours with theirs.

#![cfg(feature = "outsiders")]

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use end_to_end::outsiders::{CONFIGS, CONSUMER_GROUPS, TOPICS, kafka_tool, python};
use end_to_end::verdict::Simulation;
use end_to_end::{Scenario, Service, topic};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn aborted_transactions_are_not_counted() -> Result<()> {
    let scenario = Scenario::open_behind_proxy("transactions").await?;
    let processor = ready_processor(&scenario).await?;
    // The log ends with an abort marker: the last order is followed by no record, and the lag is 0.
    let steps = ["plain:300", "commit:400", "abort:900", "plain:50", "abort:10"];
    let written = write_orders(&scenario, "none", &steps).await?;
    let (stats, _) = scenario.check_exact(orders_of(&written)?, Simulation::OFF).await?;
    assert_eq!(Some(stats.orders), written["orders"].as_u64());
    assert_eq!(Some(stats.sum_micros()?), written["sum_micros"].as_i64().map(i128::from));
    scenario.fetches_are_calm().await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_behind_an_open_transaction_wait_for_its_end() -> Result<()> {
    let scenario =
        Scenario::open_behind_proxy("open-transaction").await?.with("TOPIC_PARTITIONS", "1");
    let processor = ready_processor(&scenario).await?;
    let topic = scenario.orders_topic();
    let producer = python(&scenario, "producer.py")?.args([
        "--topic",
        topic,
        "plain:100",
        "hold:20",
        "plain:30",
    ]);
    let mut producer = producer.start()?;
    producer.line("held").await?;
    let before = scenario.stats_at_end(100).await?;
    assert_eq!((before.orders, before.lag), (100, Some(0)));
    scenario.fetches_are_calm().await?;

    producer.terminate()?;
    producer.expect_exit(0).await?;
    let (after, _) = scenario.check_exact(150, Simulation::OFF).await?;
    assert_eq!(after.orders, 150);
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_codec_is_read() -> Result<()> {
    let scenario = Scenario::open("codecs").await?;
    let processor = ready_processor(&scenario).await?;
    let mut expected = 0;
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        expected += orders_of(&write_orders(&scenario, codec, &["plain:1000"]).await?)?;
        expected += write_java_orders(&scenario, codec, 500).await?;
    }
    let (stats, verdict) = scenario.check_exact(expected, Simulation::OFF).await?;
    assert_eq!((stats.orders, verdict.poison), (expected, 0));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkas_tool_describes_and_resets_the_group() -> Result<()> {
    const ORDERS: u64 = 10_000;
    let scenario = Scenario::open("reset")
        .await?
        .with("ERROR_SIMULATION_RATE", "0.1")
        .with("RETRY_BACKOFF_SECONDS", "0.05")
        .with("ORDER_COUNT", &ORDERS.to_string());
    let simulation = Simulation { rate: 0.1, retries_max: 3 };
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
    generator.expect_exit(0).await?;
    let processor = scenario.processor("processor-1")?.start()?;
    let (first, _) = scenario.check_exact(ORDERS, simulation).await?;

    let described = consumer_groups(&scenario, &["--describe"]).await?;
    let rows = rows_of(&described, scenario.orders_topic());
    assert_eq!(rows.len(), 3, "{described}");
    for row in &rows {
        // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
        assert_eq!((row[3], row[5]), (row[4], "0"), "{described}");
        assert!(row[8].contains("order-processor"), "{described}");
    }
    let ends: u64 = rows.iter().filter_map(|row| row[4].parse::<u64>().ok()).sum();
    assert_eq!(ends, ORDERS);
    processor.drain().await?;

    consumer_groups(&scenario, &["--reset-offsets", "--to-earliest", "--all-topics", "--execute"])
        .await?;
    let reset = scenario.stats().await?;
    assert_eq!((reset.orders, reset.lag), (0, Some(i64::try_from(ORDERS)?)));
    let processor = scenario.processor("processor-2")?.start()?;
    let second = scenario.stats_at_end(ORDERS).await?;
    assert_eq!(
        (&first.sum, first.orders, first.retries),
        (&second.sum, second.orders, second.retries)
    );
    assert_eq!(first.dead_letters, second.dead_letters);
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_librdkafka_consumer_joins_our_group_and_its_partitions_are_marked() -> Result<()> {
    for assignor in ["cooperative-sticky", "range"] {
        let scenario = shared_group(&format!("guest-{assignor}"), assignor).await?;
        let processor = ready_processor(&scenario).await?;
        let mut generator = scenario.generator("generator")?.start()?;
        scenario
            .stats_when("the first orders", |stats| stats.orders > ORDERS_TO_SHARE / 10)
            .await?;
        let guest = start_guest(&scenario, assignor)?;
        guest.line(&format!(r#""consuming", "places": {}"#, PARTITIONS_TO_SHARE / 2)).await?;
        processor.line("members of another kind are in the group").await?;

        let consumed = end_guest(guest).await?;
        assert_eq!(
            consumed.len(),
            PARTITIONS_TO_SHARE / 2,
            "the guest's share by {assignor}: {consumed:?}"
        );
        generator.expect_exit(0).await?;
        check_shares(&scenario, &consumed)
            .await
            .with_context(|| format!("a group shared by {assignor}"))?;
        processor.drain().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_processor_joins_the_group_of_a_librdkafka_consumer() -> Result<()> {
    let scenario = shared_group("host", "cooperative-sticky").await?;
    // A first processor creates the topics of the subscription.
    ready_processor(&scenario).await?.drain().await?;
    let mut generator = scenario.generator("generator")?.start()?;
    let host = start_guest(&scenario, "cooperative-sticky")?;
    host.line("committed").await?;
    let processor = ready_processor(&scenario).await?;

    let consumed = end_guest(host).await?;
    generator.expect_exit(0).await?;
    check_shares(&scenario, &consumed).await?;
    processor.drain().await
}

const PARTITIONS_TO_SHARE: usize = 4;
const ORDERS_TO_SHARE: u64 = 4_000;

async fn shared_group(name: &str, assignor: &str) -> Result<Scenario> {
    Ok(Scenario::open(name)
        .await?
        .with("ASSIGNOR", assignor)
        .with("TOPIC_PARTITIONS", &PARTITIONS_TO_SHARE.to_string())
        .with("ORDER_RATE", "500")
        .with("ORDER_COUNT", &ORDERS_TO_SHARE.to_string()))
}

/// Starts a librdkafka consumer in the group, with the same subscription as our processors.
fn start_guest(scenario: &Scenario, strategy: &str) -> Result<Service> {
    let orders = scenario.orders_topic();
    let replay = scenario.replay_topic();
    let arguments = ["--group", scenario.group(), "--strategy", strategy, orders, &replay];
    python(scenario, "guest.py")?.args(arguments).start()
}

/// Ends a guest and returns the next offset after what it consumed, of each partition, written `topic:partition`.
async fn end_guest(mut guest: Service) -> Result<BTreeMap<String, i64>> {
    guest.terminate()?;
    guest.expect_exit(0).await?;
    let left: Value = serde_json::from_str(&guest.line("left").await?)?;
    let consumed = left["consumed"].as_object().context("read what the guest consumed")?;
    let next = |range: &Value| range[1].as_i64().map(|last| last + 1);
    consumed
        .iter()
        .map(|(place, range)| Ok((place.clone(), next(range).context("read an offset")?)))
        .collect()
}

/// Checks that the statistics cover each of the guest's partitions from its last commit on, and the others wholly.
async fn check_shares(scenario: &Scenario, consumed: &BTreeMap<String, i64>) -> Result<()> {
    let stats = scenario
        .stats_when("the end of the log", |stats| (stats.lag == Some(0)) && !stats.complete)
        .await?;
    let mut covered = 0;
    for partition in &stats.partitions {
        let number = |name: &str| {
            partition[name].as_i64().with_context(|| format!("read {name} of {partition}"))
        };
        let place = format!(
            "{}:{}",
            partition["topic"].as_str().unwrap_or_default(),
            partition["partition"]
        );
        let since = consumed.get(&place).copied().unwrap_or(0);
        let end = number("log_end")?;
        assert_eq!(
            (number("since")?, number("orders")?),
            (since, end - since),
            "{place} in {stats:#?}"
        );
        assert_eq!(partition["complete"].as_bool(), Some(since == 0), "{place} in {stats:#?}");
        covered += end;
    }
    assert_eq!(u64::try_from(covered)?, ORDERS_TO_SHARE);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letter_topic_has_the_configuration_that_it_needs() -> Result<()> {
    let scenario = Scenario::open("topic-configuration").await?;
    let orders = ["--create", "--topic", scenario.orders_topic(), "--partitions", "2"];
    let larger = ["--config", "max.message.bytes=3000000"];
    kafka_tool(&scenario, TOPICS).args(orders).args(larger).output().await?;
    let processor = ready_processor(&scenario).await?;
    let command = kafka_tool(&scenario, CONFIGS);
    let topic = scenario.dead_letter_topic();
    let told = command
        .args(["--describe", "--entity-type", "topics", "--entity-name", topic])
        .output()
        .await?;
    for expected in ["cleanup.policy=delete", "retention.ms=-1", "max.message.bytes=3008192"] {
        assert!(told.contains(expected), "{expected} is not in:\n{told}");
    }
    processor.drain().await
}

/// Starts a processor and waits until it has created its topics and joined the group.
async fn ready_processor(scenario: &Scenario) -> Result<Service> {
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    Ok(processor)
}

/// Writes orders with librdkafka, and returns its report.
async fn write_orders(scenario: &Scenario, codec: &str, steps: &[&str]) -> Result<Value> {
    let command = python(scenario, "producer.py")?.args([
        "--topic",
        scenario.orders_topic(),
        "--codec",
        codec,
    ]);
    let told = command.args(steps.iter().copied()).output().await?;
    serde_json::from_str(&told).with_context(|| format!("read what the producer told: {told}"))
}

fn orders_of(written: &Value) -> Result<u64> {
    written["orders"].as_u64().context("read how many orders were written")
}

/// Writes `count` equal orders with Java's producer. Its tool takes text, and the bytes of this order are text.
async fn write_java_orders(scenario: &Scenario, codec: &str, count: u64) -> Result<u64> {
    let order = topic::order_value(scenario.register_order_schema().await?, "java", "Item1", 12.5)?;
    ensure!(order.is_ascii(), "the schema's id makes the order no text");
    let payload = scenario.log_folder().join(format!("order-{codec}.bin"));
    std::fs::write(&payload, order)?;
    let told = kafka_tool(scenario, "org.apache.kafka.tools.ProducerPerformance")
        .args([
            "--topic",
            scenario.orders_topic(),
            "--throughput",
            "-1",
            "--num-records",
            &count.to_string(),
        ])
        .args(["--payload-file", &payload.to_string_lossy(), "--payload-delimiter", "END"])
        .args(["--command-property", &format!("compression.type={codec}")])
        .output()
        .await?;
    ensure!(told.contains("records sent"), "{told}");
    Ok(count)
}

async fn consumer_groups(scenario: &Scenario, arguments: &[&str]) -> Result<String> {
    let command = kafka_tool(scenario, CONSUMER_GROUPS).args(["--group", scenario.group()]);
    command.args(arguments.iter().copied()).output().await
}

/// Returns the columns of the lines about `topic`.
fn rows_of<'a>(described: &'a str, topic: &str) -> Vec<Vec<&'a str>> {
    let rows = described.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|columns| columns.get(1) == Some(&topic)).collect()
}
