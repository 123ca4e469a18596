//! Outages of the broker or the registry, at the start or later: the services report them, wait without spinning, lose
//! nothing, and resume by themselves.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::proxy::{ApiKey, Fault, Gate};
use end_to_end::verdict::Simulation;
use end_to_end::{LaggingRegistry, Scenario, topic};
use tokio::time::Instant;

/// The refused connections before the server is back, and their shortest time for a service that pauses between attempts.
const REFUSALS: u32 = 8;
const REFUSALS_TAKE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_generator_waits_for_a_registry_that_is_down_at_the_start() -> Result<()> {
    let scenario = Scenario::open("registry-down-at-start").await?;
    let (gate, registry_url) = registry_gate(&scenario).await?;
    gate.close();
    let scenario = scenario.with("SCHEMA_REGISTRY_URL", &registry_url).with("ORDER_COUNT", "500");
    let started = Instant::now();
    let processor = scenario.processor("processor")?.start()?;
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
    generator.line("waiting for the schema registry").await?;
    processor.line("partitions assigned").await?;
    gate.refused(REFUSALS).await;
    assert!(started.elapsed() > REFUSALS_TAKE, "the generator tries again without a pause");

    gate.open();
    generator.expect_exit(0).await?;
    scenario.check_exact(500, Simulation::OFF).await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_with_an_unknown_schema_wait_while_the_registry_is_down() -> Result<()> {
    let scenario = Scenario::open("registry-down-in-the-middle").await?.with("ORDER_COUNT", "100");
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
    generator.expect_exit(0).await?;
    let (gate, registry_url) = registry_gate(&scenario).await?;
    let processor =
        scenario.processor("processor")?.env("SCHEMA_REGISTRY_URL", &registry_url).start()?;
    scenario.stats_at_end(100).await?;

    gate.close();
    let schema_id = scenario.register_later_schema().await?;
    let mut order = topic::order_value(schema_id, "another-1", "Item1", 12.5)?;
    order.extend([2, b'n']);
    let servers = scenario.platform().bootstrap_servers();
    topic::write(servers, scenario.orders_topic(), 0, None, Some(&order)).await?;
    processor.line("waiting for the schema registry").await?;
    gate.refused(2).await;
    let waiting = scenario.stats().await?;
    assert_eq!((waiting.orders, waiting.dead_letters, waiting.lag), (100, 0, Some(1)));

    gate.open();
    let stats = scenario.stats_at_end(101).await?;
    assert_eq!((stats.orders, stats.dead_letters), (101, 0));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_orders_of_a_schema_that_the_registry_lacks_wait() -> Result<()> {
    const EARLY: u64 = 5;
    const OTHERS: u64 = 20;
    // Every client gets two denials.
    const DENIALS: usize = 4;
    let scenario = Scenario::open("registry-lags").await?.with("TOPIC_PARTITIONS", "1");
    let registry = LaggingRegistry::start(scenario.platform().registry_url()).await?;
    let processor =
        scenario.processor("processor")?.env("SCHEMA_REGISTRY_URL", &registry.url()).start()?;
    processor.line("partitions assigned").await?;
    let servers = scenario.platform().bootstrap_servers();
    let write = async |schema_id, name: &str, count, end: &[u8]| -> Result<()> {
        for n in 0..count {
            let id = format!("{name}-{n}");
            let mut order = topic::order_value(schema_id, &id, "Item1", 1.0)?;
            order.extend(end);
            let (topic, key) = (scenario.orders_topic(), Some(id.as_bytes()));
            topic::write(servers, topic, 0, key, Some(&order)).await?;
        }
        Ok(())
    };

    let schema_id = scenario.register_order_schema().await?;
    let new_id = scenario.register_later_schema().await?;
    registry.deny(new_id);
    write(new_id, "early", EARLY, &[2, b'n']).await?;
    write(schema_id, "other", OTHERS, &[]).await?;
    let waiting = scenario.stats_when("the other orders", |stats| stats.orders == OTHERS).await?;
    let all = EARLY + OTHERS;
    assert_eq!((waiting.dead_letters, waiting.lag), (0, Some(i64::try_from(all)?)));
    registry.denied(new_id, DENIALS).await;

    registry.admit(new_id);
    let stats = scenario.stats_at_end(all).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.retries), (all, 0, 0));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_restarted_during_an_outage_of_the_registry_resumes_afterwards() -> Result<()> {
    const ORDERS: u64 = 10_000;
    let scenario =
        Scenario::open("registry-down-restart").await?.with("ORDER_COUNT", &ORDERS.to_string());
    let (gate, registry_url) = registry_gate(&scenario).await?;
    let processor = |name| -> Result<_> {
        scenario.processor(name)?.env("SCHEMA_REGISTRY_URL", &registry_url).start()
    };
    let mut first = processor("processor-1")?;
    first.line("partitions assigned").await?;
    gate.close();
    // No processor has read a schema yet, and one order has a later schema than the others.
    let schema_id = scenario.register_later_schema().await?;
    let mut order = topic::order_value(schema_id, "another-1", "Item1", 12.5)?;
    order.extend([2, b'n']);
    let servers = scenario.platform().bootstrap_servers();
    topic::write(servers, scenario.orders_topic(), 0, None, Some(&order)).await?;
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
    generator.expect_exit(0).await?;
    first.line("partition paused: waiting for the schema registry").await?;
    first.kill().await?;
    let second = processor("processor-2")?;
    second.line("waiting for the schema registry").await?;
    let waiting = scenario.stats().await?;
    assert_eq!((waiting.orders, waiting.dead_letters), (0, 0));

    gate.open();
    let stats = scenario.stats_at_end(ORDERS + 1).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS + 1, 0));
    second.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_be_read_from_is_reported_with_the_cause() -> Result<()> {
    let scenario = Scenario::open_behind_proxy("broker-unreadable").await?;
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    scenario.proxy()?.inject(ApiKey::Fetch, Fault::TruncateAnswer, 0, u32::MAX);
    let line = processor.line("cannot fetch from this broker, trying again").await?;
    ensure!(line.contains("does not follow the protocol"), "{line}");
    ensure!(line.contains("WARN"), "{line}");

    scenario.proxy()?.heal();
    let generator = scenario.generator("generator")?.env("ORDER_RATE", "0");
    let mut generator = generator.env("ORDER_COUNT", "500").start()?;
    generator.expect_exit(0).await?;
    scenario.check_exact(500, Simulation::OFF).await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_wait_for_a_broker_that_is_down_at_the_start() -> Result<()> {
    let scenario =
        Scenario::open_behind_proxy("broker-down-at-start").await?.with("ORDER_COUNT", "500");
    scenario.proxy()?.close();
    let started = Instant::now();
    let processor = scenario.processor("processor")?.start()?;
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
    for service in [&processor, &generator] {
        service.line("waiting for Kafka").await?;
    }
    scenario.proxy()?.refused(REFUSALS).await;
    assert!(started.elapsed() > REFUSALS_TAKE, "the services try again without a pause");

    scenario.proxy()?.open();
    generator.expect_exit(0).await?;
    scenario.check_exact(500, Simulation::OFF).await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_broker_loses_no_orders() -> Result<()> {
    const ORDERS: u64 = 5_000;
    let scenario = Scenario::open_behind_proxy("broker-down-in-the-middle")
        .await?
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "1000");
    let processors =
        [scenario.processor("processor-1")?.start()?, scenario.processor("processor-2")?.start()?];
    let mut generator = scenario.generator("generator")?.start()?;
    scenario.stats_when("a fifth of the orders", |stats| stats.orders > ORDERS / 5).await?;

    let closed = Instant::now();
    scenario.proxy()?.close();
    generator.line("waiting for Kafka").await?;
    scenario.proxy()?.refused(REFUSALS).await;
    assert!(closed.elapsed() > REFUSALS_TAKE / 2, "the services try again without a pause");
    scenario.proxy()?.open();

    generator.expect_exit(0).await?;
    let (stats, _) = scenario.check_exact(ORDERS, Simulation::OFF).await?;
    assert_eq!(stats.orders, ORDERS);
    for processor in processors {
        processor.drain().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_count_once_when_acknowledgements_are_lost() -> Result<()> {
    const ORDERS: u64 = 3_000;
    const LOST: u32 = 5;
    let scenario = Scenario::open_behind_proxy("acknowledgements-lost")
        .await?
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "1000");
    let processor = scenario.processor("processor")?.start()?;
    for _ in 0..LOST {
        scenario.proxy()?.inject(ApiKey::Produce, Fault::LoseAnswer, 20, 1);
    }
    let mut generator = scenario.generator("generator")?.start()?;
    generator.expect_exit(0).await?;
    let (stats, verdict) = scenario.check_exact(ORDERS, Simulation::OFF).await?;
    assert_eq!(scenario.proxy()?.hits(ApiKey::Produce), LOST);
    assert_eq!((stats.orders, verdict.records), (ORDERS, ORDERS));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_count_once_when_a_batch_arrives_after_newer_ones() -> Result<()> {
    const ORDERS: u64 = 3_000;
    let scenario = Scenario::open_behind_proxy("batch-lands-late")
        .await?
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "1000");
    let proxy = scenario.proxy()?;
    let broker = scenario.platform().bootstrap_servers();
    let processor = scenario.processor("processor")?.env("BOOTSTRAP_SERVERS", broker).start()?;
    proxy.inject(ApiKey::Produce, Fault::Hold, 20, 1);
    let mut generator = scenario.generator("generator")?.start()?;
    proxy.hit(ApiKey::Produce, 1).await;
    // The generator loses all connections and sends the batch again over a new one.
    proxy.close();
    proxy.open();
    generator.expect_exit(0).await?;
    scenario.stats_at_end(ORDERS).await?;
    assert_eq!(proxy.deliver_held().await?, 1);

    // The broker has answered the held request, and has written nothing for it.
    let (stats, verdict) = scenario.check_exact(ORDERS, Simulation::OFF).await?;
    assert_eq!((stats.orders, verdict.records), (ORDERS, ORDERS));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_was_stopped_beyond_its_session_does_no_harm() -> Result<()> {
    const ORDERS: u64 = 20_000;
    let scenario = Scenario::open("frozen")
        .await?
        .with("SESSION_TIMEOUT_MS", "6000")
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "1500");
    let frozen = scenario.processor("processor-1-frozen")?.start()?;
    let other = scenario.processor("processor-2")?.start()?;
    // The second member gets its partitions one rebalance later.
    frozen.line("partitions assigned").await?;
    let mut generator = scenario.generator("generator")?.start()?;
    scenario.stats_when("a tenth of the orders", |stats| stats.orders > ORDERS / 10).await?;
    frozen.freeze()?;
    // The other processor finishes alone, after the group has given it the partitions of the stopped one.
    generator.expect_exit(0).await?;
    scenario.stats_at_end(ORDERS).await?;
    let before = frozen.line_count();
    frozen.thaw()?;
    frozen.line_after(before, "lost").await?;
    let (stats, _) = scenario.check_exact(ORDERS, Simulation::OFF).await?;
    assert_eq!(stats.orders, ORDERS);
    frozen.drain().await?;
    other.drain().await
}

/// Returns a gate in front of the registry, and its URL.
async fn registry_gate(scenario: &Scenario) -> Result<(Gate, String)> {
    let url = scenario.platform().registry_url();
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let address = rest.split('/').next().unwrap_or(rest);
    let gate = Gate::start(address).await?;
    let gated = url.replacen(address, &gate.address(), 1);
    Ok((gate, gated))
}
