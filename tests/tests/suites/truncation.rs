//! Logs that lose processed records in an unclean election: the numbers are kept and marked, and all new orders are read.

use anyhow::{Context, Result, ensure};
use end_to_end::metrics::get;
use end_to_end::service::field;
use end_to_end::{Scenario, topic};
use serde_json::Value;

const ORDERS: u64 = 1_000;
const NEW_ORDERS: u64 = 700;
const CUT: i64 = 500;

#[tokio::test(flavor = "multi_thread")]
async fn new_orders_are_read_after_a_truncation_under_way() -> Result<()> {
    let scenario = with_orders("truncated").await?;
    let processor = scenario.processor("processor")?.env("HTTP_ADDR", "127.0.0.1:0").start()?;
    scenario.stats_at_end(ORDERS).await?;

    let lost = lose_records(&scenario).await?;
    let line = processor.line("the log was truncated below the processed records").await?;
    assert_eq!((field(&line, "level")?, field(&line, "truncated")?), ("ERROR".into(), lost.into()));
    check(&scenario, lost).await?;
    let (_, metrics) = get(&processor, "/metrics").await?;
    ensure!(metrics.contains(&format!("orders_truncated_offsets_total {lost}\n")), "{metrics}");

    processor.drain().await?;
    let again = scenario.processor("again")?.start()?;
    again.line("\"reading\"").await?;
    check(&scenario, lost).await?;
    let lines = again.lines();
    ensure!(!lines.iter().any(|line| line.contains("truncated below")), "{lines:?}");
    again.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn new_orders_are_read_after_a_truncation_while_nobody_reads() -> Result<()> {
    let scenario = with_orders("truncated-away").await?;
    let processor = scenario.processor("processor")?.start()?;
    scenario.stats_at_end(ORDERS).await?;
    processor.drain().await?;

    let lost = lose_records(&scenario).await?;
    let processor = scenario.processor("later")?.start()?;
    check(&scenario, lost).await?;
    processor.drain().await
}

/// The committed offset is below the truncation, and the checkpoint covers records above it.
#[tokio::test(flavor = "multi_thread")]
async fn records_in_the_place_of_lost_ones_are_not_taken_for_complete() -> Result<()> {
    let scenario = with_orders("truncated-window").await?;
    let failing = scenario
        .processor("failing")?
        .env("ERROR_SIMULATION_RATE", "0.02")
        .env("RETRY_BACKOFF_SECONDS", "3600")
        .env("RETRY_MAX_BACKOFF_SECONDS", "3600")
        .start()?;
    let stats = scenario.stats_when("all but some orders", |stats| stats.orders > 900).await?;
    failing.drain().await?;
    let committed = stats.partitions[0]["committed_offset"].as_i64();
    ensure!(committed.is_some_and(|committed| committed < CUT), "{stats:?}");

    lose_records(&scenario).await?;
    let processor = scenario.processor("later")?.start()?;
    let (log, stats) = settled(&scenario).await?;
    let partition = &stats["partitions"][0];
    let truncated = partition["truncated"].as_u64().context("truncated")?;
    ensure!(truncated > 400 && partition["complete"] == false, "{stats}");
    let records = stats["orders"].as_u64().zip(stats["dead_letters"].as_u64());
    assert_eq!(records.map(|(orders, letters)| orders + letters), Some(log + truncated), "{stats}");
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_ends_the_process_if_the_settings_say_so() -> Result<()> {
    let scenario = with_orders("truncated-fail").await?;
    let processor = scenario.processor("processor")?.start()?;
    scenario.stats_at_end(ORDERS).await?;
    processor.drain().await?;
    lose_records(&scenario).await?;
    let strict = scenario.processor("strict")?.env("CHECKPOINT_ON_MISMATCH", "fail");
    let mut strict = strict.start()?;
    strict.expect_exit(1).await?;
    strict.line("the log was truncated at offset").await?;
    Ok(())
}

async fn with_orders(name: &str) -> Result<Scenario> {
    let scenario = Scenario::open_nodes(name, 3).await?.with("TOPIC_PARTITIONS", "1");
    publish(&scenario, ORDERS).await?;
    Ok(scenario)
}

async fn publish(scenario: &Scenario, orders: u64) -> Result<()> {
    let generator = scenario.generator("generator")?.env("ORDER_COUNT", &orders.to_string());
    let generator = generator.env("ORDER_RATE", "2000");
    generator.start()?.expect_exit(0).await
}

/// Elects a leader that misses records, writes new orders, and returns how many offsets were lost.
async fn lose_records(scenario: &Scenario) -> Result<u64> {
    let (broker, name) = (scenario.embedded_broker()?, scenario.orders_topic());
    let leader = broker.leader(name, 0).context("it has a leader")?;
    broker.elect_unclean(name, 0, leader % 3 + 1, CUT)?;
    let left = topic::read(scenario.platform().bootstrap_servers(), name).await?.len();
    publish(scenario, NEW_ORDERS).await?;
    Ok(ORDERS - u64::try_from(left)?)
}

/// Waits until all is read, and returns how many records the log has, and the statistics.
async fn settled(scenario: &Scenario) -> Result<(u64, Value)> {
    let log = topic::read(scenario.platform().bootstrap_servers(), scenario.orders_topic()).await?;
    let log = u64::try_from(log.len())?;
    scenario.stats_when("all orders", |stats| stats.lag == Some(0)).await?;
    let stats = scenario.console("stats")?.args(["stats", "--json"]).output().await?;
    Ok((log, serde_json::from_str(&stats)?))
}

/// Checks that the numbers are those of all orders, lost and new, and that they are marked.
async fn check(scenario: &Scenario, lost: u64) -> Result<()> {
    scenario.stats_when("all orders", |stats| stats.orders == ORDERS + NEW_ORDERS).await?;
    let (log, stats) = settled(scenario).await?;
    assert_eq!((stats["orders"].as_u64(), log), (Some(log + lost), ORDERS + NEW_ORDERS - lost));
    let partition = &stats["partitions"][0];
    assert_eq!((&stats["complete"], &partition["truncated"]), (&Value::Bool(false), &lost.into()));
    let table = scenario.console("table")?.args(["stats"]).output().await?;
    let named = format!(
        "incomplete: {}-0 counts {lost} offsets that its log has lost\n",
        scenario.orders_topic()
    );
    ensure!(table.contains(&named), "{table}");
    Ok(())
}
