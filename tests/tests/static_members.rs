//! Static members, as the pods of a `StatefulSet` are: one that restarts in time finds its partitions where it left them.

use anyhow::{Context, Result};
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use end_to_end::{Scenario, Service};

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

/// Starts two members and waits until the later one has its share: the group is complete then.
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

/// Returns the generation that the member has joined last.
fn generation(member: &Service) -> Result<u64> {
    let lines = member.lines();
    let joined = lines.iter().rfind(|line| line.contains("joined the group"));
    let generation = field(joined.context("find when it joined")?, "generation")?;
    generation.as_u64().context("read the generation")
}
