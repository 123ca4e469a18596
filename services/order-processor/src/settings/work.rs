//! What is done for an order, how often, and what fails on purpose.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use reqwest::Url;
use service_runtime::settings::{FromSettings, SecretUrl, Settings};

/// What is kept in order while a record waits for its retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Later records of the same key wait behind it.
    Key,
    /// All later records of the partition wait behind it.
    Partition,
    /// Nothing waits.
    None,
}

impl fmt::Display for Ordering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Partition => "partition",
            Self::None => "none",
        })
    }
}

/// What is done for every order.
#[derive(Clone, Debug)]
pub struct HandlerSettings {
    /// Where orders are posted to; `None` only counts them.
    pub url: Option<SecretUrl>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How many attempts may run at once in this process.
    pub concurrency: usize,
    /// How many different orders have to fail for a time in a row before what they need counts as down; 0 is any number.
    pub down_after: usize,
}

/// Retries and what may be in flight.
#[derive(Clone, Debug)]
pub struct RetrySettings {
    /// How often a transient failure is tried again.
    pub retries_max: u32,
    /// Delay before the first retry.
    pub backoff: Duration,
    /// Factor between one delay and the next; 1 keeps it fixed.
    pub multiplier: f64,
    /// Whether delays are drawn at random between the first and the computed one.
    pub jitter: bool,
    /// Longest delay.
    pub backoff_max: Duration,
    /// How long after an order has first failed in this process it may be tried again; outages do not count.
    pub elapsed_max: Option<Duration>,
    /// What waits behind a waiting record.
    pub ordering: Ordering,
    /// Bytes of records that may wait or be worked on at once in this process.
    pub in_flight_bytes_max: usize,
}

/// Failures on purpose, for demonstrations and tests.
#[derive(Clone, Debug)]
pub struct SimulationSettings {
    /// Share of orders that fail, half of them for good.
    pub error_rate: f64,
    /// Prices that fail transiently.
    pub transient_prices: Option<Range<f64>>,
    /// The price above which orders fail for good.
    pub permanent_above: Option<f64>,
}

impl FromSettings for HandlerSettings {
    fn read(s: &mut Settings) -> Self {
        let handler = Self {
            url: s.optional_url(
                "HANDLER_URL",
                "Where every order is posted to as JSON; unset only counts the orders.",
            ),
            timeout: s.milliseconds(
                "HANDLER_TIMEOUT_MS",
                10_000,
                10..=3_600_000,
                "How long one attempt may take; a longer one is dropped and fails transiently.",
            ),
            concurrency: s.integer(
                "HANDLER_CONCURRENCY",
                64,
                1..=10_000,
                "How many attempts may run at once in this process.",
            ),
            down_after: s.integer(
                "HANDLER_DOWN_AFTER",
                20,
                0..=10_000,
                "Different orders failing transiently in a row, with none answered between them, \
                 after which all pause until a probe is answered; 0 never.",
            ),
        };
        s.rule(
            &["HANDLER_URL"],
            handler.url.as_ref().is_none_or(|url| Url::parse(url.reveal()).is_ok()),
            "HANDLER_URL must be a URL that can be connected to",
        );
        handler
    }
}

impl FromSettings for RetrySettings {
    fn read(s: &mut Settings) -> Self {
        let retry = Self {
            retries_max: s.integer(
                "MAX_RETRIES",
                3,
                0..=100,
                "How often a transient failure is tried again before the order is dead-lettered.",
            ),
            backoff: s.seconds(
                "RETRY_BACKOFF_SECONDS",
                1.0,
                0.0..=86_400.0,
                "Delay before the first retry.",
            ),
            multiplier: s.float(
                "RETRY_BACKOFF_MULTIPLIER",
                2.0,
                1.0..=100.0,
                "Factor between one delay and the next; 1 keeps it fixed.",
            ),
            jitter: s.flag("RETRY_JITTER", false, "Whether delays are drawn at random up to theirs."),
            backoff_max: s.seconds(
                "RETRY_MAX_BACKOFF_SECONDS",
                60.0,
                0.0..=86_400.0,
                "Longest delay before a retry.",
            ),
            elapsed_max: s
                .optional_parsed(
                    "RETRY_MAX_ELAPSED_SECONDS",
                    "a number of seconds up to 31536000; unset or 0 is any time",
                    "How long after an order has first failed in a replica it may be tried again; outages do not count.",
                    |text| text.parse().ok().filter(|seconds| (0.0..=31_536_000.0).contains(seconds)),
                )
                .map(Duration::from_secs_f64)
                .filter(|elapsed| !elapsed.is_zero()),
            ordering: s.choice(
                "ORDERING",
                Ordering::Key,
                &[Ordering::Key, Ordering::Partition, Ordering::None],
                "What waits behind a waiting order: its key, its partition, or nothing.",
            ),
            in_flight_bytes_max: s.integer(
                "MAX_IN_FLIGHT_BYTES",
                8_388_608,
                1_024..=1_073_741_824,
                "Bytes of records that may wait or be worked on at once.",
            ),
        };
        s.rule(
            &["RETRY_BACKOFF_SECONDS", "RETRY_MAX_BACKOFF_SECONDS"],
            retry.backoff <= retry.backoff_max,
            "RETRY_BACKOFF_SECONDS must not exceed RETRY_MAX_BACKOFF_SECONDS",
        );
        retry
    }
}

impl FromSettings for SimulationSettings {
    fn read(s: &mut Settings) -> Self {
        Self {
            error_rate: s.float(
                "ERROR_SIMULATION_RATE",
                0.0,
                0.0..=1.0,
                "Share of orders that fail on purpose, half of them for good; decided by the order's id.",
            ),
            transient_prices: s.optional_range(
                "TRANSIENT_PRICE_RANGE",
                "Prices that fail transiently on purpose.",
            ),
            permanent_above: s.optional_parsed(
                "PERMANENT_PRICE_ABOVE",
                "a number",
                "Price above which orders fail for good on purpose.",
                |text| text.parse::<f64>().ok().filter(|price| price.is_finite()),
            ),
    }
    }
}
