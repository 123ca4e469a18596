//! Handlers that panic, hang, or block their threads.

use anyhow::Result;
use end_to_end::{Scenario, metrics};

use super::{dead_letters, publish, write_orders};

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_or_a_timeout_of_the_handler_is_a_failed_attempt() -> Result<()> {
    let scenario = Scenario::open("odd-handler")
        .await?
        .with("TOPIC_PARTITIONS", "1")
        .with("HANDLER_TIMEOUT_MS", "200");
    let processor = scenario.odd_processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    write_orders(&scenario, &[(0, "good-1"), (0, "panics"), (0, "hangs-once"), (0, "good-2")])
        .await?;
    let stats = scenario.stats_at_end(4).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.retries), (3, 1, 1));
    let (error_type, reason) = &dead_letters(&scenario).await?["0:1"];
    assert_eq!(error_type, "panic");
    assert!(reason.contains("this order makes the handler panic"), "{reason}");
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_blocks_its_thread_ends_the_processor_and_another_takes_over() -> Result<()>
{
    let scenario = Scenario::open("stuck").await?.with("SESSION_TIMEOUT_MS", "6000");
    let mut stuck = scenario
        .odd_processor("stuck")?
        .env("TOKIO_WORKER_THREADS", "4")
        .env("HANDLER_TIMEOUT_MS", "300")
        .env("DRAIN_TIMEOUT_MS", "100")
        .env("HTTP_ADDR", "127.0.0.1:0")
        .start()?;
    stuck.line("partitions assigned").await?;
    assert_eq!(metrics::get(&stuck, "/healthz").await?.0, 200);
    write_orders(&scenario, &[(0, "blocks")]).await?;
    stuck.line("stuck: leaving the group and ending").await?;
    let (code, body) = metrics::get(&stuck, "/healthz").await?;
    assert!((code == 503) && body.contains("blocked its thread"), "{code} {body}");
    stuck.line("left the group").await?;
    stuck.expect_exit(1).await?;
    // The other processor has a handler without this fault.
    let other = scenario.processor("other")?.start()?;
    let stats = scenario.stats_at_end(1).await?;
    assert_eq!((stats.orders, stats.dead_letters), (1, 0));
    other.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_blocks_every_thread_ends_the_processor_too() -> Result<()> {
    const PARTITIONS: i32 = 16;
    let scenario = Scenario::open("all-stuck")
        .await?
        .with("TOPIC_PARTITIONS", &PARTITIONS.to_string())
        .with("ORDER_COUNT", "1");
    publish(&scenario).await?;
    // All orders come before the processor starts: after the first one alone it would leave the group and end.
    let orders: Vec<_> = (0..PARTITIONS).map(|partition| (partition, "blocks")).collect();
    write_orders(&scenario, &orders).await?;
    let mut stuck = scenario
        .odd_processor("stuck")?
        .env("TOKIO_WORKER_THREADS", "2")
        .env("HANDLER_TIMEOUT_MS", "300")
        .env("DRAIN_TIMEOUT_MS", "100")
        .start()?;
    stuck.expect_exit(1).await?;
    stuck.line("still stuck: ending without leaving the group").await?;
    Ok(())
}
