//! Orders of other producers are processed as they come: in every wire format, under other names of the record, with
//! keys and without, on topics of any name, whatever the subject of the orders holds already.

#![cfg(feature = "outsiders")]

use anyhow::{Context, Result, ensure};
use end_to_end::outsiders::python;
use end_to_end::{Scenario, topic};
use serde_json::Value;

const ORDERS: u64 = 500;
const PARTITIONS: i32 = 3;

/// How a team writes its orders.
struct Dialect {
    name: &'static str,
    format: &'static str,
    /// The record's full name.
    record: &'static str,
    keys: &'static str,
    /// What follows the name of the orders' topic in that of the dead letters'.
    dead_letters: &'static str,
}

const DIALECTS: [Dialect; 6] = [
    Dialect {
        name: "datums",
        format: "bare",
        record: "order.OrderRecord",
        keys: "none",
        dead_letters: "-dlq",
    },
    Dialect {
        name: "keyed-datums",
        format: "bare",
        record: "Order",
        keys: "order-id",
        dead_letters: "-dlq",
    },
    Dialect {
        name: "namespace",
        format: "confluent",
        record: "com.kafka.orders.Order",
        keys: "order-id",
        dead_letters: "-dlq",
    },
    Dialect {
        name: "files",
        format: "container",
        record: "Order",
        keys: "order-id",
        dead_letters: "-dlq",
    },
    Dialect {
        name: "plain-name",
        format: "confluent",
        record: "Order",
        keys: "order-id",
        dead_letters: "_dlq",
    },
    Dialect {
        name: "single-object",
        format: "single-object",
        record: "Order",
        keys: "order-id",
        dead_letters: "-dlq",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_is_understood_without_being_named() -> Result<()> {
    for dialect in &DIALECTS {
        processes(dialect, "auto")
            .await
            .with_context(|| format!("take {} as they come", dialect.name))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_is_understood_by_its_name() -> Result<()> {
    for dialect in &DIALECTS {
        processes(dialect, dialect.format)
            .await
            .with_context(|| format!("take {}", dialect.name))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_topic_may_hold_orders_of_all_dialects() -> Result<()> {
    let scenario = Scenario::open("dialects").await?;
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    let mut sum = 0;
    for dialect in &DIALECTS {
        sum += write(&scenario, dialect).await?;
    }
    let count = ORDERS * u64::try_from(DIALECTS.len())?;
    let stats = scenario.stats_at_end(count).await?;
    assert_eq!((stats.orders, stats.sum_micros()?), (count, sum), "{stats:#?}");
    processor.drain().await
}

/// Lets a team write first, its schema registered before ours, and a processor with no settings but names read it.
async fn processes(dialect: &Dialect, payload_format: &str) -> Result<()> {
    let scenario = Scenario::open(dialect.name).await?.with("PAYLOAD_FORMAT", payload_format);
    let dead_letters = format!("{}{}", scenario.orders_topic(), dialect.dead_letters);
    let scenario = scenario.with("ORDERS_DLQ_TOPIC", &dead_letters);
    let servers = scenario.platform().bootstrap_servers();
    topic::create(servers, scenario.orders_topic(), PARTITIONS).await?;
    let sum = write(&scenario, dialect).await?;
    let processor = scenario.processor("processor")?.start()?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS, 0), "{stats:#?}");
    assert_eq!(stats.sum_micros()?, sum, "{stats:#?}");
    processor.drain().await
}

/// Writes orders and returns the sum of their prices in millionths.
async fn write(scenario: &Scenario, dialect: &Dialect) -> Result<i128> {
    let command = python(scenario, "producer.py")?
        .args(["--topic", scenario.orders_topic(), "--format", dialect.format])
        .args(["--record", dialect.record, "--keys", dialect.keys, &format!("plain:{ORDERS}")]);
    let told = command.output().await?;
    let told: Value = serde_json::from_str(&told).with_context(|| format!("read {told}"))?;
    ensure!(told["orders"] == ORDERS, "the producer wrote something else: {told}");
    told["sum_micros"].as_i64().map(i128::from).context("read the sum")
}
