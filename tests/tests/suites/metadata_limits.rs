//! A coordinator with an `offset.metadata.max.bytes` below Kafka's default or below the setting.
//!
//! On a real Kafka, the suite also runs on a broker of its own with `offset.metadata.max.bytes=2048`.

use anyhow::{Result, ensure};
use end_to_end::metrics::Metrics;
use end_to_end::service::{ServiceCommand, field};
use end_to_end::verdict::Simulation;
use end_to_end::{Scenario, Service};
use serde_json::json;

/// Half of the orders wait for an hour, which makes the checkpoint as long as possible.
const ORDERS: u64 = 30_000;

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_fit_the_limit_of_the_coordinator() -> Result<()> {
    const CHARS: usize = 2_048;
    let scenario = Scenario::open_embedded("metadata-asked").await?;
    scenario.embedded_broker()?.limit_offset_metadata(CHARS);
    let scenario = written(scenario).await?;
    let processor = half_waits(&scenario)?.start()?;
    let line = processor.line("the coordinator stores so many characters").await?;
    assert_eq!(field(&line, "chars")?, json!(CHARS));
    fills_its_window(&scenario, &processor).await?;
    processor.drain().await?;
    each_order_counts_once(&scenario).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_checkpoint_is_refused_whatever_the_coordinators_limit() -> Result<()> {
    let scenario = written(Scenario::open("metadata-fits").await?).await?;
    let processor = half_waits(&scenario)?.start()?;
    fills_its_window(&scenario, &processor).await?;
    processor.drain().await?;
    each_order_counts_once(&scenario).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_refused_for_its_length_makes_later_ones_shorter() -> Result<()> {
    let scenario = written(Scenario::open("metadata-refused").await?).await?;
    let believing = half_waits(&scenario)?.env("OFFSET_METADATA_MAX_BYTES", "16384");
    let processor = believing.start()?;
    let warned = processor.line("stores less beside an offset than was assumed").await?;
    let chars = |name| field(&warned, name).map(|chars| chars.as_u64());
    ensure!(
        chars("chars")? < chars("refused_chars")? && chars("chars")? <= Some(4_096),
        "{warned}"
    );
    scenario.stats_when("what the shorter ones have room for", |stats| stats.orders > 100).await?;
    processor.drain().await?;
    each_order_counts_once(&scenario).await
}

async fn written(scenario: Scenario) -> Result<Scenario> {
    let scenario = scenario.with("TOPIC_PARTITIONS", "1").with("ORDER_RATE", "0");
    let scenario = scenario.with("PRICE_MIN", "1").with("PRICE_MAX", "100");
    let scenario = scenario.with("ORDER_COUNT", &ORDERS.to_string());
    scenario.generator("generator")?.start()?.expect_exit(0).await?;
    Ok(scenario)
}

/// Returns the command of a processor in which every second order waits for an hour.
fn half_waits(scenario: &Scenario) -> Result<ServiceCommand> {
    let processor = scenario.processor("processor-waiting")?;
    Ok(processor
        .env("HTTP_ADDR", "127.0.0.1:0")
        .env("ORDERING", "none")
        .env("MAX_IN_FLIGHT_BYTES", "67108864")
        .env("TRANSIENT_PRICE_RANGE", "0..50")
        .env("RETRY_BACKOFF_SECONDS", "3600")
        .env("RETRY_MAX_BACKOFF_SECONDS", "3600"))
}

/// Waits until a processor's window is full and its completed records are committed.
async fn fills_its_window(scenario: &Scenario, processor: &Service) -> Result<()> {
    let window = [("topic", scenario.orders_topic()), ("reason", "window")];
    Metrics::when(processor, "a full window", |metrics| {
        metrics.sum("orders_partition_paused", &window) > 0.0
    })
    .await?;
    let first = scenario.stats().await?.orders;
    scenario.stats_when("a commit", |stats| stats.orders > first.min(100)).await?;
    let metrics = Metrics::of(processor).await?;
    ensure!(metrics.sum("kafka_consumer_commit_failures_total", &[]) <= 0.0, "{metrics:#?}");
    Ok(())
}

/// Completes all orders, and checks that each counts once.
async fn each_order_counts_once(scenario: &Scenario) -> Result<()> {
    let processor = scenario.processor("processor")?.env("RETRY_BACKOFF_SECONDS", "0.01");
    let processor = processor.start()?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    let verdict = scenario.verdict(Simulation::OFF).await?;
    assert_eq!((stats.orders, stats.sum_micros()?), (ORDERS, verdict.sum_micros));
    processor.drain().await
}
