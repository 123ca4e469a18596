//! The generator reports the exact outcomes of its orders at every kind of end.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use end_to_end::proxy::{ApiKey, Fault};
use end_to_end::service::field;
use end_to_end::{Scenario, Service, topic};

#[tokio::test(flavor = "multi_thread")]
async fn orders_acknowledged_at_an_interrupt_are_in_the_topic() -> Result<()> {
    interrupted("native").await
}

#[tokio::test(flavor = "multi_thread")]
async fn rskafkas_orders_acknowledged_at_an_interrupt_are_in_the_topic() -> Result<()> {
    interrupted("rskafka").await
}

async fn interrupted(producer: &str) -> Result<()> {
    let scenario = Scenario::open("interrupted").await?.with("PRODUCER", producer);
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
    generator.line("more deliveries").await?;
    generator.interrupt()?;
    generator.expect_exit(0).await?;
    let [acknowledged, failed, unknown] = outcome(&generator).await?;
    assert_eq!((failed, unknown), (0, 0));
    let servers = scenario.platform().bootstrap_servers();
    let written = topic::read(servers, scenario.orders_topic()).await?.len();
    assert_eq!(u64::try_from(written)?, acknowledged);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_cannot_be_delivered_are_reported_and_the_exit_code_is_1() -> Result<()> {
    given_up("native").await
}

#[tokio::test(flavor = "multi_thread")]
async fn rskafkas_orders_that_cannot_be_delivered_are_reported() -> Result<()> {
    given_up("rskafka").await
}

async fn given_up(producer: &str) -> Result<()> {
    let scenario = Scenario::open_behind_proxy("given-up")
        .await?
        .with("PRODUCER", producer)
        .with("DELIVERY_TIMEOUT_MS", "4000");
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "500").start()?;
    generator.line("more deliveries").await?;
    scenario.proxy()?.close();
    generator.line("waiting for Kafka").await?;
    generator.expect_exit(1).await?;
    let [acknowledged, failed, unknown] = outcome(&generator).await?;
    ensure!(failed + unknown > 0, "orders vanished silently: {:?}", generator.lines().last());
    let servers = scenario.platform().bootstrap_servers();
    let written = u64::try_from(topic::read(servers, scenario.orders_topic()).await?.len())?;
    // The broker may have written orders of unknown outcome, but no failed ones.
    ensure!(
        (acknowledged..=acknowledged + unknown).contains(&written),
        "{written} written, {acknowledged} acknowledged, {unknown} unknown"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_gives_the_same_orders_on_the_same_partitions() -> Result<()> {
    let mut runs = Vec::new();
    for (seed, producer) in [("7", "native"), ("7", "native"), ("7", "rskafka"), ("8", "native")] {
        let scenario = Scenario::open("seed")
            .await?
            .with("SEED", seed)
            .with("PRODUCER", producer)
            .with("CORRUPT_RATE", "0.3")
            .with("ORDER_COUNT", "1000");
        let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
        generator.expect_exit(0).await?;
        let servers = scenario.platform().bootstrap_servers();
        let records = topic::read(servers, scenario.orders_topic()).await?;
        // The schema's id in front of the order differs between subjects.
        let order = |value: Option<Vec<u8>>| value.map(|value| value[5..].to_vec());
        runs.push(
            records
                .into_iter()
                .map(|record| (record.partition, record.offset, record.key, order(record.value)))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0], runs[2]);
    assert_ne!(runs[0], runs[3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_orders_are_read() -> Result<()> {
    for compression in ["gzip", "snappy", "lz4", "zstd"] {
        let scenario = Scenario::open("compressed")
            .await?
            .with("COMPRESSION", compression)
            .with("ORDER_COUNT", "2000");
        let processor = scenario.processor("processor")?.start()?;
        let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
        generator.expect_exit(0).await?;
        let stats = scenario.stats_at_end(2000).await?;
        assert_eq!(stats.orders, 2000);
        processor.drain().await?;
    }
    Ok(())
}

/// A broker whose acknowledgement is lost may have the orders of the batch twice, and no order is lost.
#[tokio::test(flavor = "multi_thread")]
async fn rskafka_writes_every_order_at_least_once() -> Result<()> {
    const ORDERS: usize = 1_000;
    let scenario = Scenario::open_behind_proxy("at-least-once")
        .await?
        .with("PRODUCER", "rskafka")
        .with("ORDER_COUNT", &ORDERS.to_string());
    scenario.proxy()?.inject(ApiKey::Produce, Fault::LoseAnswer, 5, 1);
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "1000").start()?;
    generator.expect_exit(0).await?;
    let servers = scenario.platform().bootstrap_servers();
    let records = topic::read(servers, scenario.orders_topic()).await?;
    let orders: BTreeSet<_> = records.iter().map(|record| &record.key).collect();
    assert_eq!(orders.len(), ORDERS);
    assert!(records.len() > ORDERS, "no acknowledgement of a written batch was lost");
    Ok(())
}

/// Returns the numbers of acknowledged, failed and unknown orders from the final statistics.
async fn outcome(generator: &Service) -> Result<[u64; 3]> {
    let line = generator.line("final statistics").await?;
    let count = |name| Ok::<_, anyhow::Error>(field(&line, name)?.as_u64().unwrap_or(u64::MAX));
    Ok([count("acknowledged")?, count("failed")?, count("unknown")?])
}
