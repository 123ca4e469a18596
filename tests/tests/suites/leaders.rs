//! Partitions without a leader: each blocks no other, and all tools name it.

use anyhow::{Context, Result, ensure};
use end_to_end::metrics::get;
use end_to_end::service::{PATIENCE, Service, field};
use end_to_end::{Scenario, Stats, topic};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PARTITIONS: usize = 4;
const LOST: i32 = 3;
const ORDERS: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn an_assigned_partition_without_a_leader_is_named_and_blocks_no_other() -> Result<()> {
    let scenario = with_orders("leaderless").await?;
    let (broker, orders_topic) = (scenario.embedded_broker()?, scenario.orders_topic());
    broker.lose_leader(orders_topic, LOST)?;
    let processor = scenario.processor("processor")?.env("HTTP_ADDR", "127.0.0.1:0").start()?;

    let stats = scenario.stats_when("the other partitions' orders", others_are_done).await?;
    ensure!(stats.orders > 0 && stats.orders < ORDERS, "{stats:?}");
    let missing = json!({"topic": orders_topic, "partition": LOST, "reason": "no leader"});
    assert_eq!((stats.unavailable, stats.lag), (vec![missing], None));
    let table = scenario.console("table")?.args(["stats"]).output().await?;
    let named = format!("unavailable: {orders_topic}-{LOST}: no leader\n");
    ensure!(table.contains(&named) && table.contains("lag unknown\n"), "{table}");
    let line = processor.line("partitions are unavailable").await?;
    assert_eq!(field(&line, "level")?, "WARN");
    assert_eq!(field(&line, "partitions")?, format!("{orders_topic} {LOST}"));
    assert_eq!(field(&line, "reason")?, "no leader");
    let readiness = progress_when(&processor, Value::is_string).await?;
    assert_eq!(readiness, format!("{orders_topic} {LOST} unavailable: no leader"));

    broker.elect_leader(orders_topic, LOST)?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    assert_eq!((stats.orders, stats.unavailable), (ORDERS, vec![]));
    processor.line("available again").await?;
    progress_when(&processor, Value::is_null).await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_loses_its_leader_is_named_and_read_again_later() -> Result<()> {
    let scenario = with_orders("leader-lost").await?;
    let (broker, orders_topic) = (scenario.embedded_broker()?, scenario.orders_topic());
    let processor = scenario.processor("processor")?.env("HTTP_ADDR", "127.0.0.1:0").start()?;
    scenario.stats_at_end(ORDERS).await?;
    let servers = scenario.platform().bootstrap_servers();
    let schema_id = scenario.register_order_schema().await?;
    let order = topic::order_value(schema_id, "later", "Desk", 1.0)?;

    broker.lose_leader(orders_topic, LOST)?;
    let readiness = progress_when(&processor, Value::is_string).await?;
    assert_eq!(readiness, format!("{orders_topic} {LOST} unavailable: no leader"));
    processor.line("partitions are unavailable").await?;
    topic::write(servers, orders_topic, 0, None, Some(&order)).await?;
    scenario.stats_when("an order of another partition", |s| s.orders == ORDERS + 1).await?;

    broker.elect_leader(orders_topic, LOST)?;
    topic::write(servers, orders_topic, LOST, None, Some(&order)).await?;
    scenario.stats_at_end(ORDERS + 2).await?;
    processor.line("available again").await?;
    progress_when(&processor, Value::is_null).await?;
    processor.drain().await
}

/// A topic with orders in each of its partitions.
async fn with_orders(name: &str) -> Result<Scenario> {
    let scenario = Scenario::open_embedded(name).await?;
    let scenario = scenario
        .with("TOPIC_PARTITIONS", &PARTITIONS.to_string())
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "0");
    scenario.generator("generator")?.start()?.expect_exit(0).await?;
    Ok(scenario)
}

fn others_are_done(stats: &Stats) -> bool {
    let lag = |number: i32| {
        let of_orders = stats
            .partitions
            .iter()
            .filter(|p| !p["topic"].as_str().unwrap_or_default().contains(".replay"));
        of_orders.filter(|p| p["partition"] == number).map(|p| p["lag"].clone()).next()
    };
    (0..LOST).all(|other| lag(other) == Some(json!(0))) && lag(LOST) == Some(Value::Null)
}

/// Returns the progress check of `/readyz` once it has the expected state.
async fn progress_when(service: &Service, is_reached: fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_status, body) = get(service, "/readyz").await?;
        let body: Value = serde_json::from_str(&body).context("read the body of /readyz")?;
        let progress = body["checks"]["progress"]["reason"].clone();
        if is_reached(&progress) {
            return Ok(progress);
        }
        ensure!(Instant::now() < deadline, "{body}");
        sleep(Duration::from_millis(100)).await;
    }
}
