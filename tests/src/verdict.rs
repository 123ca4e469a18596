//! The expected statistics of a group, computed from the topics alone.
//!
//! On a real Kafka the judge is `outsiders/oracle.py`, on librdkafka, fastavro and Python's arithmetic. Without them, this
//! module computes the same with rskafka and apache-avro. Neither judge uses the product's reader, its Avro code or its
//! arithmetic; this module shares Kafka's hash with it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, Result, ensure};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use kafka_core::murmur2::positive_murmur2;
use serde::Deserialize;

use crate::stats::Stats;
use crate::topic::{self, TopicRecord};

/// The processors' failure simulation.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    /// `ERROR_SIMULATION_RATE`.
    pub rate: f64,
    /// `MAX_RETRIES`.
    pub retries_max: u32,
}

impl Simulation {
    /// No simulated failures.
    pub const OFF: Self = Self { rate: 0.0, retries_max: 3 };
}

/// The expected statistics of a group, and the contents of its dead-letter topic. Coordinates are `partition:offset`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Verdict {
    /// Records in the topic of orders.
    pub records: u64,
    /// The records outside the partition that Kafka's default partitioner chooses for their keys.
    pub misplaced: u64,
    /// The orders to process.
    pub orders: u64,
    /// Their exact sum in micro-units.
    pub sum_micros: i128,
    /// The lowest price among them.
    pub min: Option<f64>,
    /// The highest price among them.
    pub max: Option<f64>,
    /// The lowest possible average of the latest hundred of them: orders of one millisecond have no fixed sequence.
    pub recent_average_min: Option<f64>,
    /// The highest possible average of them.
    pub recent_average_max: Option<f64>,
    /// Attempts after the first ones.
    pub retries: u64,
    /// The records that must be dead letters.
    pub expected_dead: u64,
    /// The unreadable records among them.
    pub poison: u64,
    /// The dead letters without repeats.
    pub dead_letters: u64,
    /// Repeats among the dead letters.
    pub dead_letter_repeats: u64,
    /// The missing dead letters.
    pub missing_dead: Vec<String>,
    /// The dead letters of other records.
    pub unexpected_dead: Vec<String>,
    /// The dead letters with a wrong `dlq.error.type`, or without their record's key, value and headers.
    pub wrong_dead: Vec<String>,
    /// The dead letters without repeats, by `dlq.error.type`.
    pub dead_letter_types: BTreeMap<String, u64>,
    /// Equal for equal sets of dead order ids.
    pub dead_order_ids_digest: String,
}

impl Verdict {
    /// Computes the verdict from both topics. `schema_id` is the id of the orders' schema; other ids count as unknown. The
    /// limits of bad records are those of the processors' default settings.
    ///
    /// # Errors
    /// When a topic cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn of_topics(
        bootstrap_servers: &str,
        orders_topic: &str,
        dead_letter_topic: &str,
        schema_id: u32,
        simulation: Simulation,
    ) -> Result<Self> {
        let schema = Schema::parse_str(ORDER_SCHEMA)?;
        let partitions = topic::partition_count(bootstrap_servers, orders_topic).await?;
        let partitions = partitions.and_then(|count| u32::try_from(count).ok());
        let partitions = partitions.context("find the topic of orders")?;
        let mut judge = Judge::new(&schema, schema_id, simulation, partitions)?;
        for record in topic::read(bootstrap_servers, orders_topic).await? {
            judge.add(&record)?;
        }
        judge.finish(&topic::read(bootstrap_servers, dead_letter_topic).await?)
    }

    /// Checks the statistics of a group without lag.
    ///
    /// # Errors
    /// When they differ; the error has both sides.
    pub fn check(&self, stats: &Stats) -> Result<()> {
        let reported = (stats.orders, stats.sum_micros()?, stats.dead_letters);
        let found = (self.orders, self.sum_micros, self.expected_dead);
        ensure!(reported == found, "{reported:?} instead of {found:?}:\n{stats:#?}\n{self:#?}");
        ensure!(
            (stats.retries, stats.lag, stats.complete) == (self.retries, Some(0), true),
            "retries, lag or completeness is wrong:\n{stats:#?}\n{self:#?}"
        );
        ensure!(
            self.missing_dead.is_empty()
                && self.unexpected_dead.is_empty()
                && self.wrong_dead.is_empty(),
            "the dead letters are not those that they have to be:\n{self:#?}"
        );
        ensure!(self.misplaced == 0, "{} orders lie on the wrong partition", self.misplaced);
        for (name, reported, lowest, highest) in [
            ("min", stats.min, self.min, self.min),
            ("max", stats.max, self.max, self.max),
            (
                "recent_average",
                stats.recent_average,
                self.recent_average_min,
                self.recent_average_max,
            ),
        ] {
            let is_right = match (reported, lowest, highest) {
                (None, None, None) => true,
                (Some(reported), Some(lowest), Some(highest)) => {
                    (lowest - DISPLAY_ERROR..=highest + DISPLAY_ERROR).contains(&reported)
                }
                _ => false,
            };
            ensure!(is_right, "{name} is {reported:?} and must be from {lowest:?} to {highest:?}");
        }
        Ok(())
    }
}

/// The largest difference between a price and its JSON number.
const DISPLAY_ERROR: f64 = 1e-4;

/// The number of prices in the recent average.
const RECENT_PRICES: usize = 100;

/// The highest valid price.
const PRICE_MAX: f32 = 1e12;

/// The first byte of Confluent's wire format; the schema's id follows.
const MAGIC: u8 = 0;

/// The longest value of an order by default.
const VALUE_BYTES_MAX: usize = 65_536;

/// The schema of orders.
pub(crate) const ORDER_SCHEMA: &str = include_str!("../../avro/order.avsc");

/// Sums up a topic of orders.
struct Judge<'s> {
    schema_id: u32,
    simulation: Simulation,
    partitions: u32,
    reader: GenericDatumReader<'s>,
    verdict: Verdict,
    /// The records that must be dead letters, by coordinates.
    dead: BTreeMap<String, Dead>,
    /// The timestamp in milliseconds and the price of every order to process.
    processed: Vec<(i64, f64)>,
}

/// A record that must be a dead letter.
struct Dead {
    record: TopicRecord,
    error_type: &'static str,
    order_id: Option<String>,
}

impl Dead {
    /// Returns whether a dead letter has the error type and the contents of its record.
    fn is_told_by(&self, letter: &TopicRecord) -> bool {
        let record = &self.record;
        let keeps_headers =
            record.headers.iter().all(|(name, value)| letter.headers.get(name) == Some(value));
        keeps_headers
            && (&letter.key, &letter.value) == (&record.key, &record.value)
            && letter.header_text("dlq.error.type").as_deref() == Some(self.error_type)
    }
}

impl<'s> Judge<'s> {
    fn new(
        schema: &'s Schema,
        schema_id: u32,
        simulation: Simulation,
        partitions: u32,
    ) -> Result<Self> {
        Ok(Self {
            schema_id,
            simulation,
            partitions,
            reader: GenericDatumReader::builder(schema).build()?,
            verdict: Verdict::default(),
            dead: BTreeMap::new(),
            processed: Vec::new(),
        })
    }

    fn add(&mut self, record: &TopicRecord) -> Result<()> {
        self.verdict.records += 1;
        if let Some(key) = &record.key {
            let home = positive_murmur2(key) % self.partitions;
            self.verdict.misplaced += u64::from(i32::try_from(home)? != record.partition);
        }
        let mut dead = |error_type, order_id| {
            let record = record.clone();
            self.dead.insert(record.place(), Dead { record, error_type, order_id });
        };
        match decode(&self.reader, self.schema_id, record.value.as_deref()) {
            Err(poison) => {
                dead(poison, None);
                self.verdict.poison += 1;
            }
            Ok((order_id, price)) => {
                let Outcome { dead_of, retries } = outcome(self.simulation, &order_id);
                self.verdict.retries += u64::from(retries);
                match dead_of {
                    Some(error_type) => dead(error_type, Some(order_id)),
                    None => self.add_processed(record, price),
                }
            }
        }
        Ok(())
    }

    fn add_processed(&mut self, record: &TopicRecord, price: f32) {
        let wide = f64::from(price);
        self.verdict.orders += 1;
        self.verdict.sum_micros += micro_units(price);
        self.verdict.min = Some(self.verdict.min.map_or(wide, |min| min.min(wide)));
        self.verdict.max = Some(self.verdict.max.map_or(wide, |max| max.max(wide)));
        self.processed.push((record.timestamp_ms, wide));
    }

    /// Returns the average of the latest prices; `rank` sorts orders of one timestamp.
    fn recent_average(&self, rank: impl Fn(f64) -> f64) -> Option<f64> {
        let mut sales = self.processed.clone();
        sales.sort_by(|(a_time, a), (b_time, b)| {
            b_time.cmp(a_time).then_with(|| rank(*b).total_cmp(&rank(*a)))
        });
        sales.truncate(RECENT_PRICES);
        let count = u32::try_from(sales.len()).ok().filter(|count| *count > 0)?;
        Some(sales.iter().map(|(_, price)| price).sum::<f64>() / f64::from(count))
    }

    /// Compares the expected dead letters with the found ones, and completes the verdict.
    fn finish(self, dead_letters: &[TopicRecord]) -> Result<Verdict> {
        let mut found = BTreeSet::new();
        let mut wrong = BTreeSet::new();
        let mut types = BTreeMap::new();
        let mut repeats = 0;
        for letter in dead_letters {
            let header =
                |name| letter.header_text(name).with_context(|| format!("find header {name}"));
            let place = format!("{}:{}", header("original_partition")?, header("original_offset")?);
            if self.dead.get(&place).is_some_and(|dead| !dead.is_told_by(letter)) {
                wrong.insert(place.clone());
            }
            if found.insert(place) {
                *types.entry(header("dlq.error.type")?).or_default() += 1;
            } else {
                repeats += 1;
            }
        }
        let expected: BTreeSet<String> = self.dead.keys().cloned().collect();
        let order_ids: BTreeSet<&String> = self
            .dead
            .iter()
            .filter(|(place, _)| found.contains(*place))
            .filter_map(|(_, dead)| dead.order_id.as_ref())
            .collect();
        let mut digest = DefaultHasher::new();
        order_ids.hash(&mut digest);
        Ok(Verdict {
            recent_average_min: self.recent_average(|price| -price),
            recent_average_max: self.recent_average(|price| price),
            expected_dead: u64::try_from(expected.len())?,
            dead_letters: u64::try_from(found.len())?,
            dead_letter_repeats: repeats,
            missing_dead: expected.difference(&found).cloned().collect(),
            unexpected_dead: found.difference(&expected).cloned().collect(),
            wrong_dead: wrong.into_iter().collect(),
            dead_letter_types: types,
            dead_order_ids_digest: format!("{:016x}", digest.finish()),
            ..self.verdict
        })
    }
}

/// Returns the id and the price of an order in Confluent's wire format, or the `dlq.error.type` of another value.
fn decode(
    reader: &GenericDatumReader<'_>,
    schema_id: u32,
    value: Option<&[u8]>,
) -> Result<(String, f32), &'static str> {
    let value = value.ok_or("tombstone")?;
    if value.len() > VALUE_BYTES_MAX {
        return Err("oversize");
    }
    let rest = value.strip_prefix(&[MAGIC]).ok_or("unknown-format")?;
    let (id, mut datum) = rest.split_first_chunk().ok_or("truncated")?;
    if u32::from_be_bytes(*id) != schema_id {
        return Err("unknown-schema");
    }
    // A truncated value leaves no rest.
    let failure = |rest: &[u8]| if rest.is_empty() { "truncated" } else { "schema-mismatch" };
    let Ok(Value::Record(fields)) = reader.read_value(&mut datum) else {
        return Err(failure(datum));
    };
    let fields: BTreeMap<String, Value> = fields.into_iter().collect();
    let (Some(Value::String(order_id)), Some(Value::Float(price))) =
        (fields.get("orderId"), fields.get("price"))
    else {
        return Err("schema-mismatch");
    };
    if !datum.is_empty() {
        return Err("trailing-bytes");
    }
    let is_price = (0.0..=PRICE_MAX).contains(price);
    if is_price { Ok((order_id.clone(), *price)) } else { Err("invalid-price") }
}

/// The simulated failures of an order.
struct Outcome {
    /// The `dlq.error.type` with which it ends as a dead letter.
    dead_of: Option<&'static str>,
    retries: u32,
}

fn outcome(simulation: Simulation, order_id: &str) -> Outcome {
    let hash = positive_murmur2(order_id.as_bytes());
    let share = f64::from(hash) / 2f64.powi(31);
    if share < simulation.rate / 2.0 {
        return Outcome { dead_of: Some("simulated"), retries: 0 };
    }
    if share < simulation.rate {
        let failures = 1 + (hash >> 8) % (simulation.retries_max + 1);
        let dead_of = (failures > simulation.retries_max).then_some("retries-exhausted");
        return Outcome { dead_of, retries: failures.min(simulation.retries_max) };
    }
    Outcome { dead_of: None, retries: 0 }
}

/// Returns a price in micro-units, rounded half to even.
///
/// A 32-bit float has 24 significant bits and 1,000,000 = 2^6 × 15,625 adds 14: the product is exact in a 64-bit float.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "a price is below 1e12, its millionths below 2^63"
)]
fn micro_units(price: f32) -> i128 {
    (f64::from(price) * 1e6).round_ties_even() as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn millionths_are_exact_and_halves_go_to_the_even_neighbour() {
        assert_eq!(micro_units(0.1), 100_000);
        assert_eq!(micro_units(999.99), 999_989_990);
        assert_eq!(micro_units(2f32.powi(-7)), 7_812);
        assert_eq!(micro_units(3.0 * 2f32.powi(-7)), 23_438);
    }

    #[test]
    fn the_verdict_distinguishes_poison_and_failures() {
        let schema = Schema::parse_str(ORDER_SCHEMA).expect("the schema is valid");
        for (rate, processed, dead) in [(0.0, 2, 1), (2.0, 0, 3)] {
            let simulation = Simulation { rate, retries_max: 3 };
            let mut judge = Judge::new(&schema, 1, simulation, 4).expect("the schema resolves");
            for (offset, order) in [(0, "a"), (1, "b"), (2, "")] {
                judge.add(&record(offset, order)).expect("the record has a partition");
            }
            let letters = [
                letter(record(0, "a"), "simulated"),
                letter(record(2, ""), "truncated"),
                letter(record(2, ""), "tombstone"),
            ];
            let verdict = judge.finish(&letters).expect("the letters are whole");
            assert_eq!((verdict.orders, verdict.poison), (processed, 1));
            // "foobar" belongs on partition 2 of 4, and these three records lie on partition 0.
            assert_eq!(verdict.misplaced, 3);
            assert_eq!((verdict.expected_dead, verdict.dead_letters), (dead, 2));
            assert_eq!(verdict.dead_letter_repeats, 1);
            assert_eq!(verdict.missing_dead.len() + verdict.unexpected_dead.len(), 1);
            assert_eq!(verdict.wrong_dead, ["0:2"]);
            let types = [("simulated".to_owned(), 1), ("truncated".to_owned(), 1)];
            assert_eq!(verdict.dead_letter_types, types.into());
            assert_eq!(verdict.sum_micros, 12_500_000 * i128::from(processed));
        }
    }

    fn record(offset: i64, order_id: &str) -> TopicRecord {
        let mut value = vec![0, 0, 0, 0, 1];
        if !order_id.is_empty() {
            value.push(u8::try_from(order_id.len() * 2).expect("short"));
            value.extend(order_id.as_bytes());
            value.extend([2, b'p']);
            value.extend(12.5_f32.to_le_bytes());
        }
        TopicRecord {
            partition: 0,
            offset,
            timestamp_ms: 1,
            key: Some(b"foobar".to_vec()),
            value: Some(value),
            headers: [("note".to_owned(), b"x".to_vec())].into(),
        }
    }

    fn letter(record: TopicRecord, error_type: &str) -> TopicRecord {
        let mut letter = TopicRecord { offset: 0, ..record };
        for (name, value) in [
            ("original_partition", record.partition.to_string()),
            ("original_offset", record.offset.to_string()),
            ("dlq.error.type", error_type.to_owned()),
        ] {
            letter.headers.insert(name.to_owned(), value.into_bytes());
        }
        letter
    }
}
