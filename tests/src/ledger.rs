//! Batches of known orders, whose statistics follow from the number of lost batches.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::scenario::Scenario;
use crate::stats::Stats;
use crate::topic;

/// The orders of each batch.
pub const ORDERS_PER_BATCH: i64 = 10;

/// The batches of the only partition of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    batches: i64,
}

impl Ledger {
    /// Writes batches of orders to the scenario's empty topic.
    ///
    /// # Errors
    /// When the broker or the registry refuses them, or the topic is not empty.
    pub async fn write(scenario: &Scenario, batches: i64) -> Result<Self> {
        let schema_id = scenario.register_order_schema().await?;
        let order = |offset: i64| {
            let id = offset.to_string();
            let value = topic::order_value(schema_id, &id, "Item1", price(offset))?;
            Ok((Some(id.into_bytes()), Some(value)))
        };
        let batch = |batch: i64| Self::offsets(batch).map(order).collect::<Result<Vec<_>>>();
        let written = (0..batches).map(batch).collect::<Result<Vec<_>>>()?;
        let servers = scenario.platform().bootstrap_servers();
        let found = topic::write_batches(servers, scenario.orders_topic(), 0, written).await?;
        let expected: Vec<i64> = (0..batches).map(|batch| batch * ORDERS_PER_BATCH).collect();
        ensure!(found == expected, "the topic was not empty: {found:?}");
        Ok(Self { batches })
    }

    /// Returns the offsets of a batch.
    pub fn offsets(batch: i64) -> std::ops::Range<i64> {
        batch * ORDERS_PER_BATCH..(batch + 1) * ORDERS_PER_BATCH
    }

    /// Returns the records of the statistics when each of `lost` batches is one dead letter.
    ///
    /// # Errors
    /// When `lost` exceeds the batches.
    pub fn records(&self, lost: &BTreeSet<i64>) -> Result<u64> {
        let lost = i64::try_from(lost.len())?;
        Ok(u64::try_from((self.batches - lost) * ORDERS_PER_BATCH + lost)?)
    }

    /// Checks that the statistics have all orders except those of `lost` batches, and one dead letter for each of these.
    ///
    /// # Errors
    /// When the statistics differ.
    pub fn check(&self, stats: &Stats, lost: &BTreeSet<i64>) -> Result<()> {
        let kept = (0..self.batches).filter(|batch| !lost.contains(batch));
        let kept: Vec<i64> = kept.flat_map(Self::offsets).collect();
        let sum: i128 = kept.iter().map(|offset| i128::from(1_000_000 + 250_000 * offset)).sum();
        let expected = (u64::try_from(kept.len())?, u64::try_from(lost.len())?, sum, Some(0), true);
        let reported =
            (stats.orders, stats.dead_letters, stats.sum_micros()?, stats.lag, stats.complete);
        ensure!(reported == expected, "{reported:?} instead of {expected:?}: {stats:#?}");
        ensure!(stats.retries == 0, "{stats:#?}");
        Ok(())
    }
}

/// Returns the price of the order at an offset; all prices are different, and exact in 32 bits.
fn price(offset: i64) -> f32 {
    let quarters = u16::try_from(offset).map_or(f32::MAX, f32::from);
    1.0 + quarters / 4.0
}
