//! One topic with every kind of bad or unusual record among good orders.

#![cfg(feature = "outsiders")]

use anyhow::{Context, Result};
use end_to_end::Scenario;
use end_to_end::outsiders::python;
use end_to_end::proxy::DamageKind;
use serde_json::Value;

const ORDERS: &str = "100000";
/// The byte of the key's length in the first record of a batch.
const KEY_LENGTH_AT: usize = 61 + 4;
/// Between the largest good order and the smallest oversize value.
const VALUE_BYTES_MAX: &str = "3000000";
const FOR_EVER: u32 = u32::MAX;

#[tokio::test(flavor = "multi_thread")]
async fn every_good_order_counts_once_and_every_other_record_is_a_dead_letter() -> Result<()> {
    let scenario = Scenario::open_behind_proxy("oddities")
        .await?
        .with("PAYLOAD_FORMAT", "confluent")
        .with("MAX_VALUE_BYTES", VALUE_BYTES_MAX);
    // A first processor creates the topics with their default limits.
    let creator = scenario.processor("creator")?.start()?;
    creator.line("partitions assigned").await?;
    creator.drain().await?;

    let expected = scenario.log_folder().join("expected.json").to_string_lossy().into_owned();
    let topic = ["--topic", scenario.orders_topic(), "--orders", ORDERS];
    let oddities = || python(&scenario, "oddities.py");
    let write = oddities()?.args(["write"]).args(topic).args(["--expected", &expected]);
    let output: Value = serde_json::from_str(&write.output().await?)?;
    let number =
        |name: &str| output[name].as_u64().with_context(|| format!("read {name} of {output}"));
    // One batch is lost, and the first record of the other one.
    for (batch, kind) in [(0, DamageKind::Plain), (1, DamageKind::Forged)] {
        let base_offset = output["lone_batches"][batch].as_i64().context("read an offset")?;
        scenario.proxy()?.damage((0, base_offset), KEY_LENGTH_AT, kind, FOR_EVER);
    }
    let (orders, letters) = (number("orders")?, number("dead_letters")? + 2);
    let processor = scenario.processor("processor")?.start()?;
    let stats = scenario.stats_at_end(orders + letters).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.lag), (orders, letters, Some(0)));
    assert_eq!(stats.sum_micros()?, i128::from(number("sum_micros")?));
    assert!(stats.complete, "{stats:#?}");
    scenario.fetches_are_calm().await?;
    processor.drain().await?;

    let topic = ["--dead-letters", scenario.dead_letter_topic(), "--lost", "2"];
    let check = oddities()?.args(["check"]).args(topic).args(["--expected", &expected]);
    assert_eq!(check.output().await?.trim(), "as expected");
    Ok(())
}
