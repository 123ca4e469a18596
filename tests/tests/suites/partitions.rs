//! New partitions of the topic of orders while all services run.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use anyhow::{Context, Result};
use end_to_end::service::field;
use end_to_end::topic::TopicRecord;
use end_to_end::verdict::Simulation;
use end_to_end::{Scenario, Verdict, topic};
use kafka_core::murmur2::partition_for_key;

const BEFORE: NonZeroU32 = NonZeroU32::new(2).unwrap();
const AFTER: NonZeroU32 = NonZeroU32::new(5).unwrap();

#[tokio::test(flavor = "multi_thread")]
async fn added_partitions_get_their_share_and_every_order_counts_once() -> Result<()> {
    let scenario = Scenario::open("growing")
        .await?
        .with("TOPIC_PARTITIONS", &BEFORE.to_string())
        .with("METADATA_MAX_AGE_MS", "100")
        // More orders than the test needs: it stops the generator.
        .with("ORDER_COUNT", "60000");
    let first = scenario.processor("processor-1")?.start()?;
    first.line("partitions assigned").await?;
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "1000").start()?;
    scenario.stats_when("the first orders", |stats| stats.orders > 500).await?;

    scenario.grow_orders_topic(AFTER.get()).await?;
    generator.line("the topic has more partitions").await?;
    // A rebalance makes the group see the partitions at once.
    let second = scenario.processor("processor-2")?.start()?;
    let is_read = |partition: &serde_json::Value| partition["orders"].as_u64() > Some(100);
    let all_are_read = "orders of every partition";
    scenario
        .stats_when(all_are_read, |stats| {
            let orders = scenario.orders_topic();
            let read = stats.partitions.iter().filter(|p| p["topic"] == orders && is_read(p));
            u32::try_from(read.count()) == Ok(AFTER.get())
        })
        .await?;
    generator.interrupt()?;
    generator.expect_exit(0).await?;
    assert!(!generator.lines().iter().any(|line| line.contains("\"ERROR\"")));
    let acknowledged = field(&generator.line("final statistics").await?, "acknowledged")?;
    let acknowledged = acknowledged.as_u64().context("read how many were acknowledged")?;

    let stats = scenario.stats_at_end(acknowledged).await?;
    let verdict = scenario.verdict(Simulation::OFF).await?;
    assert_eq!((stats.orders, verdict.orders), (acknowledged, acknowledged));
    let servers = scenario.platform().bootstrap_servers();
    let records = topic::read(servers, scenario.orders_topic()).await?;
    // Earlier orders stay in their partitions.
    assert_eq!(verdict.misplaced, u64::try_from(misplaced(&records, AFTER).count())?);
    Verdict { misplaced: 0, ..verdict }.check(&stats)?;
    keys_moved_at_one_time(&records);
    every_order_is_there_once(&records);
    first.drain().await?;
    second.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_skips_only_records_from_before_the_group() -> Result<()> {
    const EACH: u64 = 100;
    let scenario = Scenario::open("growing-latest")
        .await?
        .with("TOPIC_PARTITIONS", &BEFORE.to_string())
        .with("AUTO_OFFSET_RESET", "latest")
        .with("ORDER_COUNT", &EACH.to_string())
        .with("ORDER_RATE", "0");
    scenario.generator("generator-1")?.start()?.expect_exit(0).await?;
    let first = scenario.processor("processor-1")?.start()?;
    // The processor commits its start offsets at once.
    scenario.stats_when("the start at the end", |stats| stats.lag == Some(0)).await?;
    scenario.generator("generator-2")?.env("SEED", "2").start()?.expect_exit(0).await?;
    scenario.stats_at_end(EACH).await?;
    first.drain().await?;

    scenario.grow_orders_topic(AFTER.get()).await?;
    scenario.generator("generator-3")?.env("SEED", "3").start()?.expect_exit(0).await?;
    let second = scenario.processor("processor-2")?.start()?;
    let stats = scenario.stats_at_end(2 * EACH).await?;
    assert_eq!(stats.orders, 2 * EACH);
    second.drain().await
}

/// Checks that each record is in the partition of its key: among the old partitions up to some time, among all later.
fn keys_moved_at_one_time(records: &[TopicRecord]) {
    let last_before = misplaced(records, AFTER).map(|record| record.timestamp_ms).max();
    let first_after = misplaced(records, BEFORE).map(|record| record.timestamp_ms).min();
    assert!(last_before.is_some() && first_after.is_some(), "{last_before:?} {first_after:?}");
    assert!(last_before <= first_after, "{last_before:?} {first_after:?}");
}

fn misplaced(
    records: &[TopicRecord],
    partitions: NonZeroU32,
) -> impl Iterator<Item = &TopicRecord> {
    let home = move |key: &Vec<u8>| partition_for_key(key, partitions);
    records.iter().filter(move |record| record.key.as_ref().map(home) != Some(record.partition))
}

/// Checks that no order is in the topic twice.
fn every_order_is_there_once(records: &[TopicRecord]) {
    let orders: BTreeSet<_> = records.iter().map(|record| &record.key).collect();
    assert_eq!(orders.len(), records.len());
}
