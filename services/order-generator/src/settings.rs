//! The generator's settings.

use std::time::Duration;

use service_runtime::settings::{ConnectionSettings, FromSettings, Settings, TopicSettings};

use crate::orders::{Cents, OrderIdFormat};

/// The highest price that may be asked for, in whole units: cents stay exact enough in an order's f32.
const PRICE_CEILING: f64 = 100_000.0;

/// What the generator can be told.
#[derive(Debug, Clone)]
pub struct GeneratorSettings {
    pub(crate) connection: ConnectionSettings,
    pub(crate) topics: TopicSettings,
    /// Orders per second; 0 is as fast as it goes.
    pub(crate) order_rate: f64,
    /// How many orders are published; 0 is until stopped.
    pub(crate) order_count: u64,
    pub(crate) order_id_format: OrderIdFormat,
    pub(crate) price_min: Cents,
    pub(crate) price_max: Cents,
    /// What decides the sequence of orders; `None` draws one.
    pub(crate) seed: Option<u64>,
    /// How often records that the broker refuses are tried before they have failed.
    pub(crate) refusals_max: u32,
    /// How long records are sent again before their outcome is given up as unknown.
    pub(crate) delivery_timeout: Duration,
    /// How long acknowledgements are waited for after a signal.
    pub(crate) drain_timeout: Duration,
}

impl FromSettings for GeneratorSettings {
    fn read(settings: &mut Settings) -> Self {
        let connection = ConnectionSettings::read(settings);
        let topics = TopicSettings::read(settings);
        let order_rate = settings.float(
            "ORDER_RATE",
            1.0,
            0.0..=10_000_000.0,
            "Orders per second, fractions possible; 0 is as fast as it goes.",
        );
        let order_count = settings.integer(
            "ORDER_COUNT",
            0,
            0..=u64::MAX,
            "How many orders are published; 0 is until stopped.",
        );
        let order_id_format = settings.choice(
            "ORDER_ID_FORMAT",
            OrderIdFormat::Uuid,
            &[OrderIdFormat::Uuid, OrderIdFormat::Sequential],
            "Whether orders are named by UUIDs or numbered from 1001.",
        );
        let price = 0.0..=PRICE_CEILING;
        let price_min = settings.float("PRICE_MIN", 9.99, price.clone(), "The lowest price.");
        let price_max = settings.float("PRICE_MAX", 999.99, price, "The highest price.");
        settings.rule(
            &["PRICE_MIN", "PRICE_MAX"],
            price_min <= price_max,
            "PRICE_MIN must be at most PRICE_MAX",
        );
        let seed = settings.optional(
            "SEED",
            "a whole number from 0 to 18446744073709551615",
            "The same seed gives the same orders in the same sequence; unset draws one.",
        );
        Self {
            connection,
            topics,
            order_rate,
            order_count,
            order_id_format,
            price_min: Cents::nearest(price_min),
            price_max: Cents::nearest(price_max),
            seed,
            refusals_max: settings.integer(
                "MAX_RETRIES",
                3,
                1..=1000,
                "How often orders are sent that the broker refuses, before they have failed.",
            ),
            delivery_timeout: settings.milliseconds(
                "DELIVERY_TIMEOUT_MS",
                120_000,
                100..=86_400_000,
                "How long orders are sent again without an acknowledgement, before the generator \
                 ends with their outcome unknown.",
            ),
            drain_timeout: settings.milliseconds(
                "DRAIN_TIMEOUT_MS",
                5000,
                0..=3_600_000,
                "How long acknowledgements are waited for after SIGINT or SIGTERM.",
            ),
        }
    }
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
    fn prices_that_are_the_wrong_way_round_are_refused_with_both_names() {
        let violations = read(&[("PRICE_MIN", "5"), ("PRICE_MAX", "4.99")]).unwrap_err();

        let line = "PRICE_MIN=5 PRICE_MAX=4.99: PRICE_MIN must be at most PRICE_MAX";
        assert!(violations.contains(line), "{violations}");
    }

    fn read(given: &[(&str, &str)]) -> Result<GeneratorSettings, String> {
        let owned = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(&owned.collect::<Environment>()).map_err(|violations| violations.to_string())
    }
}
