//! The output of `order-console stats --json`.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// The digits of a sum after the decimal point.
const SUM_DECIMALS: usize = 6;

/// The statistics of a group.
#[derive(Clone, Debug, Deserialize)]
pub struct Stats {
    /// Orders processed.
    pub orders: u64,
    /// The exact sum of their prices, as a decimal number.
    pub sum: String,
    /// The average price of all of them, absent before the first.
    pub average: Option<f64>,
    /// The average price of the last hundred, absent before the first.
    pub recent_average: Option<f64>,
    /// The lowest price.
    pub min: Option<f64>,
    /// The highest price.
    pub max: Option<f64>,
    /// Attempts after the first ones.
    pub retries: u64,
    /// Records dead-lettered.
    pub dead_letters: u64,
    /// Records of replays.
    pub replayed: u64,
    /// The records between the committed offsets and the log ends; absent while unknown for a partition.
    pub lag: Option<i64>,
    /// Whether the statistics cover all commits of the group.
    pub complete: bool,
    /// The statistics of each partition.
    pub partitions: Vec<Value>,
    /// The partitions with unknown statistics, with the reason.
    pub unavailable: Vec<Value>,
}

impl Stats {
    /// Parses the JSON text.
    ///
    /// # Errors
    /// When a key is missing or has another type; the error has the text.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).with_context(|| format!("read these statistics: {json}"))
    }

    /// Returns the sum in millionths.
    ///
    /// # Errors
    /// When it is not a decimal number with at most six places.
    pub fn sum_micros(&self) -> Result<i128> {
        let (whole, fraction) = self.sum.split_once('.').unwrap_or((&self.sum, ""));
        ensure!(fraction.len() <= SUM_DECIMALS, "the sum {} has too many decimal places", self.sum);
        let digits = format!("{whole}{fraction:0<SUM_DECIMALS$}");
        digits.parse().with_context(|| format!("read the sum {}", self.sum))
    }

    /// Returns the number of records in the statistics.
    pub fn accounted(&self) -> u64 {
        self.orders + self.dead_letters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_sum(sum: &str) -> Stats {
        let json = format!(
            r#"{{"orders":2,"sum":"{sum}","average":null,"recent_average":1.5,"min":1.0,"max":2.0,"retries":0,
            "dead_letters":1,"replayed":0,"lag":0,"complete":true,"partitions":[],"unavailable":[]}}"#
        );
        Stats::parse(&json).expect("the statistics are well formed")
    }

    #[test]
    fn sums_are_read_in_millionths() {
        for (sum, micros) in
            [("0", 0), ("3", 3_000_000), ("3.5", 3_500_000), ("12.000001", 12_000_001)]
        {
            assert_eq!(with_sum(sum).sum_micros().expect("a sum"), micros);
        }
        assert!(with_sum("1.0000001").sum_micros().is_err());
        assert!(with_sum("NaN").sum_micros().is_err());
    }

    #[test]
    fn every_record_is_accounted_for_once() {
        assert_eq!(with_sum("1").accounted(), 3);
    }
}
