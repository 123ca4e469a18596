//! Failures that heal and failures that do not: of the webhook, of the handler, of the dead-letter topic.

mod dead_letters;
mod handlers;
mod webhook;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use end_to_end::verdict::Simulation;
use end_to_end::{Scenario, Stats, Webhook, topic};

/// Publishes the scenario's orders.
async fn publish(scenario: &Scenario) -> Result<()> {
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
    generator.expect_exit(0).await
}

/// Writes orders with these ids to these partitions.
async fn write_orders(scenario: &Scenario, orders: &[(i32, &str)]) -> Result<()> {
    let schema_id = scenario.register_order_schema().await?;
    let servers = scenario.platform().bootstrap_servers();
    for (partition, id) in orders {
        let value = topic::order_value(schema_id, id, "Item1", 12.5)?;
        let key = Some(id.as_bytes());
        topic::write(servers, scenario.orders_topic(), *partition, key, Some(&value)).await?;
    }
    Ok(())
}

/// Returns error type and reason of every dead letter, by its original `partition:offset`.
async fn dead_letters(scenario: &Scenario) -> Result<BTreeMap<String, (String, String)>> {
    let servers = scenario.platform().bootstrap_servers();
    let mut letters = BTreeMap::new();
    for letter in topic::read(servers, scenario.dead_letter_topic()).await? {
        let header = |name| letter.header_text(name).with_context(|| format!("find {name}"));
        let place = format!("{}:{}", header("original_partition")?, header("original_offset")?);
        letters.insert(place, (header("dlq.error.type")?, header("error_reason")?));
    }
    Ok(letters)
}

/// Waits until the processors have `records` records, and checks that the webhook has done every processed order once and
/// that the statistics are those of these orders.
async fn each_done_once(scenario: &Scenario, webhook: &Webhook, records: u64) -> Result<Stats> {
    let stats = scenario.stats_at_end(records).await?;
    let verdict = scenario.verdict(Simulation::OFF).await?;
    let done = webhook.done();
    let repeated: BTreeMap<_, _> = done.iter().filter(|(_, times)| **times != 1).collect();
    ensure!(repeated.is_empty(), "done more than once: {repeated:?}");
    assert_eq!(done.len(), usize::try_from(stats.orders)?);
    assert_eq!(stats.orders + stats.dead_letters, verdict.records);
    let calls = webhook.calls();
    let done = calls.iter().filter(|call| call.answer.is_done());
    let sum: f64 = done.map(|call| call.order.price).sum();
    let counted: f64 = stats.sum.parse()?;
    ensure!((sum - counted).abs() < 0.01, "{sum} posted, {counted} in the statistics");
    Ok(stats)
}
