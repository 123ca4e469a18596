//! A processor that is killed between any two steps of process, dead letter, commit: nothing is lost, nothing counts twice.
//!
//! The fault proxy holds the request, or the answer, that stands for the point; the processor stands still there and is
//! killed. A held request may even reach the broker afterwards, when another processor has taken over.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::Scenario;
use end_to_end::proxy::{ApiKey, Fault};
use end_to_end::verdict::Simulation;

const ORDERS: u64 = 3_000;
const SIMULATION: Simulation = Simulation { rate: 0.1, retries_max: 3 };

/// An answer that never comes, as far as the processor can tell.
const NEVER: Duration = Duration::from_hours(1);

/// When a held request reaches the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Never,
    AfterTheKill,
    AfterTheTakeover,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_a_dead_letter_is_written() -> Result<()> {
    killed_at("letter-unwritten", ApiKey::Produce, Fault::Hold, Delivery::Never).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_dead_letter_is_on_its_way() -> Result<()> {
    killed_at("letter-late", ApiKey::Produce, Fault::Hold, Delivery::AfterTheTakeover).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_it_knows_that_a_dead_letter_is_written() -> Result<()> {
    let fault = Fault::DelayAnswer(NEVER);
    killed_at("letter-unknown", ApiKey::Produce, fault, Delivery::Never).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_a_commit() -> Result<()> {
    killed_at("commit-unwritten", ApiKey::OffsetCommit, Fault::Hold, Delivery::Never).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_commit_is_on_its_way() -> Result<()> {
    killed_at("commit-late", ApiKey::OffsetCommit, Fault::Hold, Delivery::AfterTheKill).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_commit_is_overtaken_by_another_member() -> Result<()> {
    killed_at("commit-fenced", ApiKey::OffsetCommit, Fault::Hold, Delivery::AfterTheTakeover).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_it_knows_of_a_commit() -> Result<()> {
    let fault = Fault::DelayAnswer(NEVER);
    killed_at("commit-unknown", ApiKey::OffsetCommit, fault, Delivery::Never).await
}

async fn killed_at(name: &str, api: ApiKey, fault: Fault, delivery: Delivery) -> Result<()> {
    let scenario = Scenario::open_behind_proxy(name)
        .await?
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "1000")
        .with("SESSION_TIMEOUT_MS", "6000")
        .with("COMMIT_INTERVAL_MS", "100")
        .with("ERROR_SIMULATION_RATE", &SIMULATION.rate.to_string())
        .with("RETRY_BACKOFF_SECONDS", "0.1");
    let proxy = scenario.proxy()?;
    // Only what the processor sends is to be held.
    let broker = scenario.platform().bootstrap_servers();
    let mut generator =
        scenario.generator("generator")?.env("BOOTSTRAP_SERVERS", broker).start()?;
    let mut killed = scenario.processor("processor-killed")?.start()?;
    scenario.stats_when("a sixth of the orders", |stats| stats.orders > ORDERS / 6).await?;
    proxy.inject(api, fault, 0, 1);
    proxy.hit(api, 1).await;
    scenario.stats_when("another look, so that much is at stake", |_| true).await?;
    killed.kill().await?;

    if delivery == Delivery::AfterTheKill {
        ensure!(proxy.deliver_held().await? == 1, "nothing was held");
    }
    let heir = scenario.processor("processor-heir")?.start()?;
    heir.line("partitions assigned").await?;
    if delivery == Delivery::AfterTheTakeover {
        ensure!(proxy.deliver_held().await? == 1, "nothing was held");
    }
    generator.expect_exit(0).await?;
    let (stats, verdict) = scenario.check_exact(ORDERS, SIMULATION).await?;
    assert_eq!(stats.orders + stats.dead_letters, ORDERS);
    assert_eq!(verdict.dead_letters, verdict.expected_dead, "letters by identity: {verdict:#?}");
    // The letters of a batch that reached the broker and was not known to have are written again.
    let has_landed = (fault != Fault::Hold) || (delivery == Delivery::AfterTheTakeover);
    if (api == ApiKey::Produce) && has_landed {
        ensure!(verdict.dead_letter_repeats > 0, "no letter was there before: {verdict:#?}");
    }
    heir.drain().await
}
