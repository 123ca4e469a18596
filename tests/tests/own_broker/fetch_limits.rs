//! A real broker whose responses end inside a batch, because of `fetch.max.bytes` or a consumer's quota.
//!
//! The suite's broker has `fetch.max.bytes=1000000`. A batch of the generator has up to 0.67 MiB.

use anyhow::{Result, ensure};
use end_to_end::Scenario;
use end_to_end::outsiders::{CONFIGS, kafka_tool};
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use tokio::sync::Mutex;

const NONE_FAIL: Simulation = Simulation { rate: 0.0, retries_max: 0 };

/// The quota applies to all processors of the broker, so the tests run one after the other.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The quota allows the bytes of eleven seconds at once, which is less than two large batches.
const QUOTA: (u64, &str) = (18_000, "consumer_byte_rate=80000");

#[tokio::test(flavor = "multi_thread")]
async fn every_order_counts_where_the_broker_caps_fetches() -> Result<()> {
    const ORDERS: u64 = 60_000;
    let _alone = ALONE.lock().await;
    let scenario = Scenario::open("capped").await?;
    write(&scenario, ORDERS).await?;
    let processor = scenario.processor("processor")?.start()?;
    check(&scenario, ORDERS).await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_counts_where_a_quota_throttles_the_processor() -> Result<()> {
    let (orders, quota) = QUOTA;
    let _alone = ALONE.lock().await;
    let scenario = Scenario::open("throttled").await?.with("TOPIC_PARTITIONS", "1");
    write(&scenario, orders).await?;
    alter_clients(&scenario, "--add-config", quota).await?;
    let processor = scenario.processor("processor")?.start()?;
    let checked = check(&scenario, orders).await;
    alter_clients(&scenario, "--delete-config", "consumer_byte_rate").await?;
    checked?;
    processor.drain().await
}

/// Changes the configuration of every client with a processor's client id.
async fn alter_clients(scenario: &Scenario, change: &str, config: &str) -> Result<()> {
    let clients = ["--alter", "--entity-type", "clients", "--entity-name", "order-processor"];
    let command = kafka_tool(scenario, CONFIGS).args(clients).args([change, config]);
    command.output().await.map(drop)
}

/// Runs a generator at an unlimited rate, for large batches.
async fn write(scenario: &Scenario, orders: u64) -> Result<()> {
    let generator = scenario.generator("generator")?.env("ORDER_RATE", "0");
    let mut generator = generator.env("ORDER_COUNT", &orders.to_string()).start()?;
    generator.expect_exit(0).await?;
    let acknowledged = field(&generator.line("final statistics").await?, "acknowledged")?;
    ensure!(acknowledged.as_u64() == Some(orders), "{acknowledged} of {orders} were acknowledged");
    Ok(())
}

/// Waits until all orders count, and checks that no dead letter was written.
async fn check(scenario: &Scenario, orders: u64) -> Result<()> {
    let (stats, _) = scenario.check_exact(orders, NONE_FAIL).await?;
    assert_eq!((stats.orders, stats.dead_letters), (orders, 0));
    assert_eq!(scenario.letters(0).await?.len(), 0);
    Ok(())
}
