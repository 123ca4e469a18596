//! The group's statistics are exact through kills, stops, joins and a restart of the broker.

use anyhow::{Context, Result};
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use end_to_end::{Scenario, Service, Verdict};

const ORDERS: u64 = 200_000;
const SIMULATION: Simulation = Simulation { rate: 0.1, retries_max: 3 };

/// The first run needs time for its failures.
const TURBULENT_RATE: &str = "8000";
const FULL_RATE: &str = "0";

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_exact_through_crashes_and_the_same_in_a_second_run() -> Result<()> {
    let turbulent = turbulent_run().await?;
    let calm = calm_run().await?;
    assert_eq!((turbulent.records, calm.records), (ORDERS, ORDERS), "every order is written once");
    assert_eq!(turbulent.orders, calm.orders);
    assert_eq!(turbulent.sum_micros, calm.sum_micros);
    assert_eq!(turbulent.dead_order_ids_digest, calm.dead_order_ids_digest);
    Ok(())
}

/// Three processors, of which one is killed and one stopped while another joins, and a broker that is killed.
async fn turbulent_run() -> Result<Verdict> {
    let mut scenario = with_failures(Scenario::open_restartable("turbulent").await?);
    let mut killed = scenario.processor("processor-1-killed")?.start()?;
    let stopped = scenario.processor("processor-2-stopped")?.start()?;
    let steady = scenario.processor("processor-3")?.start()?;
    let mut generator =
        scenario.generator("generator")?.env("ORDER_RATE", TURBULENT_RATE).start()?;

    scenario.stats_when("a tenth of the orders", |stats| stats.orders > ORDERS / 10).await?;
    killed.kill().await?;
    scenario.stats_when("a third of the orders", |stats| stats.orders > ORDERS / 3).await?;
    let joined = scenario.processor("processor-4-joined")?.start()?;
    stopped.drain().await?;
    scenario.stats_when("half of the orders", |stats| stats.orders > ORDERS / 2).await?;
    scenario.restart_broker().await?;

    let verdict = conclude(&scenario, &mut generator).await?;
    steady.drain().await?;
    joined.drain().await?;
    verdict.check(&scenario.stats().await?).context("after the last processor has ended")?;
    Ok(verdict)
}

async fn calm_run() -> Result<Verdict> {
    let scenario = with_failures(Scenario::open("calm").await?);
    let processors = ["processor-1", "processor-2"].map(|name| scenario.processor(name)?.start());
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", FULL_RATE).start()?;
    let verdict = conclude(&scenario, &mut generator).await?;
    for processor in processors {
        processor?.drain().await?;
    }
    Ok(verdict)
}

fn with_failures(scenario: Scenario) -> Scenario {
    scenario
        .with("TOPIC_PARTITIONS", "6")
        .with("SESSION_TIMEOUT_MS", "6000")
        .with("ERROR_SIMULATION_RATE", &SIMULATION.rate.to_string())
        .with("MAX_RETRIES", &SIMULATION.retries_max.to_string())
        .with("RETRY_BACKOFF_SECONDS", "0.1")
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("SEED", "20261121")
}

/// Waits for the end of the generator and of the group's work, and checks the statistics.
async fn conclude(scenario: &Scenario, generator: &mut Service) -> Result<Verdict> {
    generator.expect_exit(0).await?;
    let acknowledged = field(&generator.line("final statistics").await?, "acknowledged")?;
    assert_eq!(acknowledged.as_u64(), Some(ORDERS));
    let (stats, verdict) = scenario.check_exact(ORDERS, SIMULATION).await?;
    assert_eq!(stats.orders + stats.dead_letters, ORDERS);
    Ok(verdict)
}
