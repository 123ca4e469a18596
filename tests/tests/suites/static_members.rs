//! Static members, such as the pods of a `StatefulSet`: a member that restarts in time keeps its partitions.

use anyhow::{Context, Result};
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use end_to_end::{Scenario, Service};
use serde_json::Value;

const ORDERS: u64 = 3_000;

/// Long enough for any restart.
const SESSION_TIMEOUT_MS: &str = "45000";

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_restarts_moves_no_partition() -> Result<()> {
    let scenario = Scenario::open("static-restart")
        .await?
        .with("SESSION_TIMEOUT_MS", SESSION_TIMEOUT_MS)
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "1000");
    let [first, second] = start_both(&scenario).await?;
    let mut generator = scenario.generator("generator")?.start()?;
    scenario.stats_when("a third of the orders", |stats| stats.orders > ORDERS / 3).await?;
    let before = generation(&second)?;

    first.drain().await?;
    let first = member(&scenario, 0, "processor-0-restarted")?;
    first.line("partitions assigned").await?;
    generator.expect_exit(0).await?;
    scenario.check_exact(ORDERS, Simulation::OFF).await?;

    assert_eq!(generation(&first)?, before);
    assert_eq!(generation(&second)?, before);
    first.drain().await?;
    second.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_added_around_a_restart_of_a_static_leader_are_read() -> Result<()> {
    let scenario = Scenario::open("static-growth")
        .await?
        .with("SESSION_TIMEOUT_MS", SESSION_TIMEOUT_MS)
        .with("METADATA_MAX_AGE_MS", "100")
        // More orders than the test needs: it stops the generator.
        .with("ORDER_COUNT", "600000")
        .with("ORDER_RATE", "1000");
    let [first, second] = start_both(&scenario).await?;
    let before = generation(&second)?;
    let mut generator = scenario.generator("generator")?.start()?;
    all_are_read(&scenario, 3).await?;

    first.drain().await?;
    scenario.grow_orders_topic(4).await?;
    let first = member(&scenario, 0, "processor-0-restarted")?;
    let joined = first.line("joined the group").await?;
    assert_eq!(field(&joined, "leader")?, true, "the member that leads was to restart");
    assert_eq!(field(&joined, "generation")?, before, "the restart caused a rebalance");
    all_are_read(&scenario, 4).await?;
    scenario.grow_orders_topic(6).await?;
    all_are_read(&scenario, 6).await?;

    generator.interrupt()?;
    generator.expect_exit(0).await?;
    let acknowledged = field(&generator.line("final statistics").await?, "acknowledged")?;
    let acknowledged = acknowledged.as_u64().context("read how many were acknowledged")?;
    let stats = scenario.stats_at_end(acknowledged).await?;
    assert_eq!(stats.orders, acknowledged);
    first.drain().await?;
    second.drain().await
}

/// Waits until the statistics have orders of each of `partitions` partitions.
async fn all_are_read(scenario: &Scenario, partitions: usize) -> Result<()> {
    let orders = scenario.orders_topic();
    let is_read =
        |partition: &&Value| partition["topic"] == orders && partition["orders"].as_u64() > Some(0);
    scenario
        .stats_when("orders of every partition", |stats| {
            stats.partitions.iter().filter(is_read).count() == partitions
        })
        .await?;
    Ok(())
}

/// Starts two members and waits until the second one has partitions.
async fn start_both(scenario: &Scenario) -> Result<[Service; 2]> {
    let first = member(scenario, 0, "processor-0")?;
    first.line("partitions assigned").await?;
    let second = member(scenario, 1, "processor-1")?;
    second.line("partitions assigned").await?;
    Ok([first, second])
}

fn member(scenario: &Scenario, ordinal: u32, name: &str) -> Result<Service> {
    let instance_id = format!("{}-{ordinal}", scenario.group());
    scenario.processor(name)?.env("GROUP_INSTANCE_ID", &instance_id).start()
}

/// Returns the last generation of the member.
fn generation(member: &Service) -> Result<u64> {
    let lines = member.lines();
    let joined = lines.iter().rfind(|line| line.contains("joined the group"));
    let generation = field(joined.context("find when it joined")?, "generation")?;
    generation.as_u64().context("read the generation")
}
