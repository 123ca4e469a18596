//! The dead-letter limit of a partition, and a dead-letter topic that refuses writes.

use anyhow::{Context, Result};
use end_to_end::proxy::{ApiKey, Fault};
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use end_to_end::webhook::Answer;
use end_to_end::{Scenario, Stats, Webhook, topic};

use super::{each_done_once, publish, write_orders};

/// The action that releases all partitions at their dead-letter limit.
const RELEASE: (&[u8], &[u8]) = (b"release", br#"{"at_ms":0,"by":"the test"}"#);

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letter_limit_pauses_a_partition_until_a_newer_release() -> Result<()> {
    const ORDERS: u64 = 200;
    const DLQ_LIMIT: u64 = 20;
    let webhook = Webhook::start(Answer::Status(400))?;
    let scenario = Scenario::open("dlq-limit")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("HANDLER_CONCURRENCY", "1")
        .with("TOPIC_PARTITIONS", "1")
        .with("DLQ_GUARD", &DLQ_LIMIT.to_string())
        .with("HTTP_ADDR", "127.0.0.1:0")
        .with("ORDER_COUNT", &ORDERS.to_string());
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    release(&scenario).await?;
    publish(&scenario).await?;
    processor.line("paused: too many dead letters").await?;
    processor.line("waiting for a release").await?;
    let paused = |stats: &Stats| stats.dead_letters == DLQ_LIMIT;
    let stats = scenario.stats_when("the dead letters up to the limit", paused).await?;
    assert_eq!(stats.orders, 0);
    let serving = processor.line("serving /healthz").await?;
    let address = field(&serving, "http_addr")?;
    let healthcheck = scenario
        .processor("healthcheck")?
        .env("HTTP_ADDR", address.as_str().context("read the address")?)
        .args(["healthcheck"]);
    let unready = format!("{:#}", healthcheck.output().await.expect_err("it is not ready"));
    assert!(unready.contains("paused after 20 dead letters: rejected"), "{unready}");

    webhook.answer(|_| Answer::DONE);
    release(&scenario).await?;
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS - DLQ_LIMIT, DLQ_LIMIT));
    assert_eq!(webhook.calls().len(), usize::try_from(ORDERS)?);
    healthcheck.output().await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letter_limit_counts_across_a_restart() -> Result<()> {
    const DLQ_LIMIT: u64 = 20;
    const BEFORE: usize = 12;
    let ids: Vec<String> = (0..100).map(|n| format!("order-{n}")).collect();
    let orders: Vec<_> = ids.iter().map(|id| (0, id.as_str())).collect();
    let webhook = Webhook::start(Answer::Status(400))?;
    let scenario = limited_scenario("dlq-limit-counts", &webhook, DLQ_LIMIT).await?;
    let mut first = scenario.processor("processor-1")?.start()?;
    first.line("partitions assigned").await?;
    write_orders(&scenario, &orders[..BEFORE]).await?;
    scenario.stats_at_end(u64::try_from(BEFORE)?).await?;
    first.kill().await?;

    let second = scenario.processor("processor-2")?.start()?;
    second.line("partitions assigned").await?;
    write_orders(&scenario, &orders[BEFORE..]).await?;
    second.line("paused: too many dead letters").await?;
    let paused = |stats: &Stats| stats.dead_letters == DLQ_LIMIT;
    scenario.stats_when("the dead letters up to the limit", paused).await?;
    assert_eq!(webhook.calls().len(), usize::try_from(DLQ_LIMIT)?);
    second.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_at_its_dead_letter_limit_stays_paused_until_a_release() -> Result<()> {
    const ORDERS: u64 = 200;
    const DLQ_LIMIT: u64 = 20;
    let webhook = Webhook::start(Answer::Status(400))?;
    let scenario = limited_scenario("dlq-limit-stays", &webhook, DLQ_LIMIT).await?;
    let scenario = scenario.with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let mut first = scenario.processor("processor-1")?.start()?;
    first.line("paused: too many dead letters").await?;
    first.line("waiting for a release").await?;
    let paused = |stats: &Stats| stats.dead_letters == DLQ_LIMIT;
    scenario.stats_when("the dead letters up to the limit", paused).await?;
    first.kill().await?;

    webhook.answer(|_| Answer::DONE);
    let second = scenario.processor("processor-2")?.start()?;
    second.line("paused: too many dead letters").await?;
    second.line("waiting for a release").await?;
    second.drain().await?;
    assert_eq!(webhook.calls().len(), usize::try_from(DLQ_LIMIT)?, "a restart is no release");

    // The release comes while no processor has the partition.
    release(&scenario).await?;
    let third = scenario.processor("processor-3")?.start()?;
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS - DLQ_LIMIT, DLQ_LIMIT));
    third.line("released: going on").await?;
    third.drain().await?;

    let fourth = scenario.processor("processor-4")?.start()?;
    fourth.line("partitions assigned").await?;
    write_orders(&scenario, &[(0, "after")]).await?;
    each_done_once(&scenario, &webhook, ORDERS + 1).await?;
    fourth.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_wait_for_their_topic_and_survive_a_stop_of_the_processor() -> Result<()> {
    const ORDERS: u64 = 400;
    let simulation = Simulation { rate: 0.2, retries_max: 0 };
    let scenario =
        Scenario::open_behind_proxy("dlq-not-writable").await?.with("DRAIN_TIMEOUT_MS", "500");
    let direct = scenario.platform().bootstrap_servers();
    scenario
        .generator("generator")?
        .env("BOOTSTRAP_SERVERS", direct)
        .env("ORDER_RATE", "0")
        .env("ORDER_COUNT", &ORDERS.to_string())
        .start()?
        .expect_exit(0)
        .await?;
    // The processor produces only dead letters.
    scenario.proxy()?.inject(ApiKey::Produce, Fault::LoseRequest, 0, u32::MAX);
    let processor = |name| -> Result<_> {
        scenario
            .processor(name)?
            .env("ERROR_SIMULATION_RATE", "0.2")
            .env("MAX_RETRIES", "0")
            .start()
    };
    let first = processor("processor-1")?;
    first.line("waiting for the dead-letter topic").await?;
    let others = scenario.verdict(simulation).await?.orders;
    let stats = scenario.stats_when("the good orders", |stats| stats.orders == others).await?;
    assert_eq!(stats.dead_letters, 0, "what is not written does not count");
    first.drain().await?;

    let second = processor("processor-2")?;
    second.line("waiting for the dead-letter topic").await?;
    scenario.proxy()?.heal();
    second.line("takes letters again").await?;
    let (stats, verdict) = scenario.check_exact(ORDERS, simulation).await?;
    assert!(stats.dead_letters > 20, "{} dead letters", stats.dead_letters);
    assert_eq!(verdict.dead_letter_repeats, 0, "what was given up was never sent");
    second.drain().await
}

/// Opens a scenario of one partition with a dead-letter limit.
async fn limited_scenario(name: &str, webhook: &Webhook, dlq_limit: u64) -> Result<Scenario> {
    let scenario = Scenario::open(name).await?.with("HANDLER_URL", &webhook.url());
    let scenario = scenario.with("HANDLER_CONCURRENCY", "1").with("TOPIC_PARTITIONS", "1");
    Ok(scenario.with("DLQ_GUARD", &dlq_limit.to_string()))
}

async fn release(scenario: &Scenario) -> Result<()> {
    let servers = scenario.platform().bootstrap_servers();
    let (key, value) = RELEASE;
    topic::write(servers, &scenario.actions_topic(), 0, Some(key), Some(value)).await?;
    Ok(())
}
