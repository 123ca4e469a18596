//! Orders of other producers: in every wire format, with other record names, with and without keys, on topics of any name,
//! and with any earlier versions of the subject.

#![cfg(feature = "outsiders")]

use anyhow::{Context, Result, ensure};
use end_to_end::outsiders::python;
use end_to_end::{Scenario, topic};
use serde_json::Value;

const ORDERS: u64 = 500;
const PARTITIONS: i32 = 3;

/// The wire format and the names of a team's orders.
struct Dialect {
    name: &'static str,
    format: &'static str,
    /// The record's full name.
    record: &'static str,
    keys: &'static str,
    /// The suffix of the dead-letter topic's name.
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
async fn every_wire_format_is_recognised() -> Result<()> {
    for dialect in &DIALECTS {
        processes(dialect, "auto")
            .await
            .with_context(|| format!("take {} as they come", dialect.name))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wire_format_is_read_by_its_setting() -> Result<()> {
    for dialect in &DIALECTS {
        processes(dialect, dialect.format)
            .await
            .with_context(|| format!("take {}", dialect.name))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_topic_can_have_orders_of_all_wire_formats() -> Result<()> {
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

/// Writes a team's orders after registering its schema before ours, and reads them with a processor that has only names
/// as settings.
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

/// Writes orders and returns the sum of their prices in micro-units.
async fn write(scenario: &Scenario, dialect: &Dialect) -> Result<i128> {
    let command = python(scenario, "producer.py")?
        .args(["--topic", scenario.orders_topic(), "--format", dialect.format])
        .args(["--record", dialect.record, "--keys", dialect.keys, &format!("plain:{ORDERS}")]);
    let output = command.output().await?;
    let output: Value = serde_json::from_str(&output).with_context(|| format!("read {output}"))?;
    ensure!(output["orders"] == ORDERS, "the producer wrote something else: {output}");
    output["sum_micros"].as_i64().map(i128::from).context("read the sum")
}
