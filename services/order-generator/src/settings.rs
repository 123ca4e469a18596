//! The generator's settings.

use std::time::Duration;

use kafka_core::compression::Compression;
use service_runtime::settings::{ConnectionSettings, FromSettings, Settings, TopicSettings};

use crate::orders::faults::Fault;
use crate::orders::{Cents, OrderIdFormat};

/// The highest price of the settings, in whole units: cents stay exact enough in an order's f32.
const PRICE_CEILING: f64 = 100_000.0;

/// The settings of the generator.
#[derive(Debug, Clone)]
pub struct GeneratorSettings {
    pub(crate) connection: ConnectionSettings,
    pub(crate) topics: TopicSettings,
    /// Records per second; 0 is unlimited.
    pub(crate) order_rate: f64,
    /// The number of orders without bad records; 0 is unlimited.
    pub(crate) order_count: u64,
    pub(crate) order_id_format: OrderIdFormat,
    pub(crate) price_min: Cents,
    pub(crate) price_max: Cents,
    /// The seed of the orders; `None` draws one.
    pub(crate) seed: Option<u64>,
    pub(crate) faults: FaultSettings,
    /// The share of traced orders, from 0 to 1.
    pub(crate) trace_ratio: f64,
    pub(crate) producer: ProducerKind,
    pub(crate) compression: Compression,
    /// The most retries of a batch that the broker refuses.
    pub(crate) retries_max: u32,
    /// How often to check for new partitions.
    pub(crate) metadata_age_max: Duration,
    /// How long to retry a batch without an acknowledgement before its outcome is unknown.
    pub(crate) delivery_timeout: Duration,
    /// How long to wait for acknowledgements after a signal.
    pub(crate) drain_timeout: Duration,
}

/// What writes the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProducerKind {
    /// The idempotent producer of this product.
    Native,
    #[cfg(feature = "rskafka")]
    Rskafka,
}

/// The faulty records.
#[derive(Debug, Clone)]
pub(crate) struct FaultSettings {
    /// The share of all records, from 0 to 1.
    pub(crate) rate: f64,
    /// The kinds of faults; never empty.
    pub(crate) kinds: Vec<Fault>,
}

impl FromSettings for GeneratorSettings {
    fn read(settings: &mut Settings) -> Self {
        let connection = ConnectionSettings::read(settings);
        let topics = TopicSettings::read(settings);
        let (order_rate, order_count) = read_amount(settings);
        let order_id_format = settings.choice(
            "ORDER_ID_FORMAT",
            OrderIdFormat::Uuid,
            &[OrderIdFormat::Uuid, OrderIdFormat::Sequential],
            "The ids of orders: random UUIDs, or numbers from 1001.",
        );
        let (price_min, price_max) = read_prices(settings);
        let seed = settings.optional(
            "SEED",
            "a whole number from 0 to 18446744073709551615",
            "The same seed makes the same orders in the same sequence; unset draws a seed.",
        );
        let faults = read_faults(settings, order_count);
        let producer = read_producer(settings);
        let compression = read_compression(settings, producer);
        Self {
            connection,
            topics,
            order_rate,
            order_count,
            order_id_format,
            price_min,
            price_max,
            seed,
            faults,
            trace_ratio: settings.float(
                "TRACE_SAMPLE_RATIO",
                0.01,
                0.0..=1.0,
                "The share of records that begin a trace, with a traceparent header.",
            ),
            producer,
            compression,
            retries_max: settings.integer(
                "MAX_RETRIES",
                3,
                0..=100,
                "How often to retry orders that the broker refuses, before they have failed.",
            ),
            metadata_age_max: settings.milliseconds(
                "METADATA_MAX_AGE_MS",
                30_000,
                100..=86_400_000,
                "How often to check for new partitions; orders go to them as well.",
            ),
            delivery_timeout: settings.milliseconds(
                "DELIVERY_TIMEOUT_MS",
                120_000,
                100..=86_400_000,
                "How long to retry orders without an acknowledgement, before the generator ends with \
                   their outcome unknown.",
            ),
            drain_timeout: settings.milliseconds(
                "DRAIN_TIMEOUT_MS",
                5000,
                0..=3_600_000,
                "How long to wait for acknowledgements after SIGINT or SIGTERM.",
            ),
        }
    }
}

fn read_producer(settings: &mut Settings) -> ProducerKind {
    const NATIVE: &str = "native";
    const RSKAFKA: &str = "rskafka";
    let word = settings.choice(
        "PRODUCER",
        NATIVE,
        &[NATIVE, RSKAFKA],
        "What writes the orders: the idempotent producer of this product, or the library rskafka, \
           which may write orders twice after a failure, has one batch of a partition in flight, and \
           must not be throttled by quotas.",
    );
    settings.rule(
        &["PRODUCER"],
        cfg!(feature = "rskafka") || word != RSKAFKA,
        "this program was built without rskafka (its feature of that name)",
    );
    match word {
        #[cfg(feature = "rskafka")]
        RSKAFKA => ProducerKind::Rskafka,
        _ => ProducerKind::Native,
    }
}

fn read_compression(settings: &mut Settings, producer: ProducerKind) -> Compression {
    let compression = settings.choice(
        "COMPRESSION",
        Compression::None,
        &Compression::ALL,
        "How batches of orders are compressed.",
    );
    settings.rule(
        &["PRODUCER", "COMPRESSION"],
        producer == ProducerKind::Native || compression == Compression::None,
        "rskafka does not compress here",
    );
    compression
}

/// Reads the rate and the number of orders.
fn read_amount(settings: &mut Settings) -> (f64, u64) {
    let rate = settings.float(
        "ORDER_RATE",
        1.0,
        0.0..=10_000_000.0,
        "Records per second, fractions possible; 0 is unlimited.",
    );
    let count = settings.integer(
        "ORDER_COUNT",
        0,
        0..=u64::MAX,
        "How many orders to publish, not counting bad records of CORRUPT_RATE; 0 is unlimited.",
    );
    (rate, count)
}

/// Reads the lowest and the highest price.
fn read_prices(settings: &mut Settings) -> (Cents, Cents) {
    let price = 0.0..=PRICE_CEILING;
    let lowest = settings.float("PRICE_MIN", 9.99, price.clone(), "The lowest price.");
    let highest = settings.float("PRICE_MAX", 999.99, price, "The highest price.");
    settings.rule(
        &["PRICE_MIN", "PRICE_MAX"],
        lowest <= highest,
        "PRICE_MIN must be at most PRICE_MAX",
    );
    (Cents::nearest(lowest), Cents::nearest(highest))
}

fn read_faults(settings: &mut Settings, order_count: u64) -> FaultSettings {
    let rate = settings.float(
        "CORRUPT_RATE",
        0.0,
        0.0..=1.0,
        "The share of faulty records; the same seed makes the same ones.",
    );
    let all = Fault::ALL.map(Fault::as_str).join(", ");
    let kinds = settings.optional_parsed(
        "CORRUPT_KINDS",
        &format!("some of {all}, separated by commas; unset is all of them"),
        "The kinds of faults, drawn equally often.",
        |text| text.split(',').map(|word| Fault::named(word.trim())).collect(),
    );
    let kinds: Vec<Fault> = kinds.unwrap_or_else(|| Fault::ALL.to_vec());
    settings.rule(
        &["CORRUPT_RATE", "CORRUPT_KINDS", "ORDER_COUNT"],
        rate < 1.0 || order_count == 0 || kinds.contains(&Fault::HotKey),
        "ORDER_COUNT is out of reach when every record is bad",
    );
    FaultSettings { rate, kinds }
}

#[cfg(test)]
mod tests {
    use service_runtime::settings::{Environment, load};

    use super::*;

    #[test]
    fn the_defaults_are_usable() {
        let settings = read(&[]).unwrap();

        assert_eq!((settings.order_rate, settings.order_count), (1.0, 0));
        assert_eq!((settings.price_min, settings.price_max), (Cents(999), Cents(99_999)));
        assert_eq!(settings.delivery_timeout, Duration::from_mins(2));
    }

    #[test]
    fn a_price_range_with_exchanged_ends_is_refused_with_both_names() {
        let violations = read(&[("PRICE_MIN", "5"), ("PRICE_MAX", "4.99")]).unwrap_err();

        let line = "PRICE_MIN=5 PRICE_MAX=4.99: PRICE_MIN must be at most PRICE_MAX";
        assert!(violations.contains(line), "{violations}");
    }

    #[test]
    fn fault_kinds_are_a_list_and_default_to_all() {
        let kinds = |text| read(&[("CORRUPT_KINDS", text)]).map(|settings| settings.faults.kinds);

        assert_eq!(kinds("").unwrap(), Fault::ALL);
        assert_eq!(kinds("tombstone, hot-key").unwrap(), [Fault::Tombstone, Fault::HotKey]);
        let violations = kinds("tombstone,tomb").unwrap_err();
        assert!(
            violations.contains("CORRUPT_KINDS=tombstone,tomb: must be some of"),
            "{violations}"
        );
    }

    #[test]
    fn order_count_needs_records_that_are_not_bad() {
        let given = |count, kinds| {
            read(&[("CORRUPT_RATE", "1"), ("ORDER_COUNT", count), ("CORRUPT_KINDS", kinds)])
        };

        assert!(given("0", "tombstone").is_ok());
        assert!(given("5", "tombstone,hot-key").is_ok());
        let violations = given("5", "tombstone").unwrap_err();
        assert!(
            violations.contains("CORRUPT_RATE=1 CORRUPT_KINDS=tombstone ORDER_COUNT=5"),
            "{violations}"
        );
    }

    fn read(given: &[(&str, &str)]) -> Result<GeneratorSettings, String> {
        let owned = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(&owned.collect::<Environment>()).map_err(|violations| violations.to_string())
    }
}
