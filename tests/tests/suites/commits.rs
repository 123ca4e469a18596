//! When a processor commits: once an interval while it works, and once more when it stops.

use std::time::Duration;

use anyhow::{Context, Result};
use end_to_end::proxy::{ApiKey, Fault, Proxy};
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use end_to_end::{Metrics, Scenario, Service, Stats, topic};
use tokio::time::{Instant, timeout};

const ORDERS: u32 = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_committed_once_an_interval_and_at_a_stop() -> Result<()> {
    const INTERVAL_SECONDS: u64 = 60;
    let scenario = Scenario::open_behind_proxy("commit-interval")
        .await?
        .with("COMMIT_INTERVAL_MS", &(INTERVAL_SECONDS * 1_000).to_string())
        .with("HTTP_ADDR", "127.0.0.1:0")
        .with("ORDER_RATE", "200")
        .with("ORDER_COUNT", &ORDERS.to_string());
    let begun = Instant::now();
    let processor = scenario.processor("processor-1")?.start()?;
    processor.line("partitions assigned").await?;
    scenario.generator("generator")?.start()?.expect_exit(0).await?;
    all_are_processed(&processor).await?;

    // The processor commits its start offsets after the assignment, and the interval may end meanwhile.
    let allowed = 2 + begun.elapsed().as_secs() / INTERVAL_SECONDS;
    let commits = scenario.proxy()?.requests(ApiKey::OffsetCommit);
    assert!(commits <= allowed, "{commits} commits of {ORDERS} orders, {allowed} are allowed");
    processor.drain().await?;
    assert_eq!(scenario.stats().await?.orders, u64::from(ORDERS), "a stop commits what was done");
    scenario.check_exact(ORDERS.into(), Simulation::OFF).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_is_retried_before_the_interval_ends() -> Result<()> {
    const INTERVAL: Duration = Duration::from_mins(1);
    let scenario = Scenario::open_behind_proxy("commit-again")
        .await?
        .with("COMMIT_INTERVAL_MS", &INTERVAL.as_millis().to_string());
    let proxy = scenario.proxy()?;
    proxy.inject(ApiKey::OffsetCommit, Fault::LoseRequest, 0, 3);
    let processor = scenario.processor("processor-1")?.start()?;
    proxy.hit(ApiKey::OffsetCommit, 3).await;
    timeout(INTERVAL / 2, proxy.more_requests(ApiKey::OffsetCommit, 1)).await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn completed_records_before_a_full_window_are_committed_within_the_interval() -> Result<()> {
    let scenario = Scenario::open("full-window")
        .await?
        .with("TOPIC_PARTITIONS", "1")
        // The smallest window.
        .with("OFFSET_METADATA_MAX_BYTES", "1600")
        .with("TRANSIENT_PRICE_RANGE", "10..20")
        .with("RETRY_BACKOFF_SECONDS", "3600")
        .with("RETRY_MAX_BACKOFF_SECONDS", "3600");
    let schema_id = scenario.register_order_schema().await?;
    let processor = scenario.processor("processor")?.start()?;
    // The processor commits its start offsets first.
    let is_begun = |stats: &Stats| stats.partitions.iter().any(|p| p["committed_offset"] == 0);
    scenario.stats_when("a commit", is_begun).await?;
    // One batch, so that the processor gets all records at once.
    let order = |id: u32| {
        let price = if id.is_multiple_of(10) { 15.0 } else { 25.0 };
        let value = topic::order_value(schema_id, &id.to_string(), "tea", price)?;
        anyhow::Ok((Some(id.to_string().into_bytes()), Some(value)))
    };
    let batch = (0..5 * ORDERS).map(order).collect::<Result<_>>()?;
    let servers = scenario.platform().bootstrap_servers();
    topic::write_batches(servers, scenario.orders_topic(), 0, vec![batch]).await?;
    let line = processor.line("takes nothing in").await?;
    let number = |name| anyhow::Ok(field(&line, name)?.as_u64().context("a number")?);
    let (taken_in, incomplete) = (number("offset")?, number("incomplete")?);
    assert!(incomplete < taken_in, "{line}");
    let is_committed = |stats: &Stats| stats.orders == taken_in - incomplete;
    scenario.stats_when("a commit of what was done", is_committed).await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_within_its_timeout_with_a_silent_broker() -> Result<()> {
    const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
    /// The documented extra time of a stop, with a margin for a busy machine.
    const GRACE: Duration = Duration::from_secs(5 + 4);
    let scenario = Scenario::open_behind_proxy("silent-stop")
        .await?
        .with("DRAIN_TIMEOUT_MS", &DRAIN_TIMEOUT.as_millis().to_string())
        .with("ORDER_RATE", "1000")
        .with("ORDER_COUNT", &ORDERS.to_string());
    let mut processor = scenario.processor("processor-1")?.start()?;
    processor.line("partitions assigned").await?;
    scenario.generator("generator-1")?.start()?.expect_exit(0).await?;
    scenario.stats_at_end(ORDERS.into()).await?;

    let proxy = scenario.proxy()?;
    proxy.inject(ApiKey::OffsetCommit, Fault::Hold, 0, u32::MAX);
    scenario.generator("generator-2")?.start()?.expect_exit(0).await?;
    proxy.hit(ApiKey::OffsetCommit, 1).await;
    fall_silent(proxy);
    processor.terminate()?;
    timeout(DRAIN_TIMEOUT + GRACE, processor.expect_exit(0)).await.context("stop in time")??;

    proxy.heal();
    let processor = scenario.processor("processor-2")?.start()?;
    scenario.check_exact((2 * ORDERS).into(), Simulation::OFF).await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_refusals_of_a_commit_are_reported_at_a_limited_rate() -> Result<()> {
    const REFUSALS: u64 = 6;
    let scenario = Scenario::open_behind_proxy("refused-commit")
        .await?
        .with("COMMIT_INTERVAL_MS", "60000")
        .with("HTTP_ADDR", "127.0.0.1:0")
        .with("ORDER_RATE", "0")
        .with("ORDER_COUNT", &ORDERS.to_string());
    let processor = scenario.processor("processor-1")?.start()?;
    processor.line("partitions assigned").await?;
    scenario.generator("generator")?.start()?.expect_exit(0).await?;
    all_are_processed(&processor).await?;
    let orders = scenario.orders_topic();
    topic::delete(scenario.platform().bootstrap_servers(), orders).await?;

    // A pause commits at once, and the broker refuses commits for a deleted topic.
    let _control = scenario.console("control")?.args(["control", "pause"]).start()?;
    scenario.proxy()?.more_requests(ApiKey::OffsetCommit, REFUSALS).await;
    let line = processor.line("the coordinator refused to commit").await?;
    let (partitions, error) = (field(&line, "partitions")?, field(&line, "error")?);
    assert!(partitions.as_str().is_some_and(|found| found.contains(orders)), "{line}");
    assert_eq!((field(&line, "level")?, error), ("WARN".into(), "UnknownTopicOrPartition".into()));
    let is_report = |line: &&String| line.contains("the coordinator refused to commit");
    let reports = processor.lines().iter().filter(is_report).count();
    assert!(u64::try_from(reports)? <= REFUSALS / 2, "{reports} lines about {REFUSALS} refusals");
    Ok(())
}

async fn all_are_processed(processor: &Service) -> Result<()> {
    let processed = |says: &Metrics| says.sum("orders_records_total", &[("outcome", "processed")]);
    let are_all_done = |says: &Metrics| processed(says) > f64::from(ORDERS) - 0.5;
    Metrics::when(processor, "the last order", are_all_done).await?;
    Ok(())
}

/// Makes the broker take all later requests and answer none.
fn fall_silent(proxy: &Proxy) {
    for api in ApiKey::iter() {
        proxy.inject(api, Fault::Hold, 0, u32::MAX);
    }
}
