//! Settings of the handler, of retries and of simulated failures.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use service_runtime::settings::{FromSettings, SecretUrl, Settings};

use crate::handler::simulation::Simulation;

/// Which records wait behind a record that waits for its retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Later records of its key.
    Key,
    /// All later records of its partition.
    Partition,
    /// None: records may overtake one another.
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

/// The handler, and the bounds of its attempts.
#[derive(Clone, Debug)]
pub struct HandlerSettings {
    /// The URL that orders are posted to; `None` only counts them.
    pub url: Option<SecretUrl>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// The most attempts in flight in this process.
    pub concurrency: usize,
    /// How many different orders have to fail in a row before the handler's dependency counts as down; 0 is any number.
    pub down_after: usize,
}

/// Retries, and the bounds of incomplete records.
#[derive(Clone, Debug)]
pub struct RetrySettings {
    /// How often an order is tried again after its first attempt.
    pub retries_max: u32,
    /// Delay before the first retry.
    pub backoff: Duration,
    /// Factor between one delay and the next; 1 keeps it fixed.
    pub multiplier: f64,
    /// Whether delays are drawn at random between the first and the computed one.
    pub jitter: bool,
    /// The longest delay that is computed.
    pub backoff_max: Duration,
    /// How long after its first failure in this process an order may be tried again, outages and pauses left out; `None` is
    /// any time.
    pub elapsed_max: Option<Duration>,
    /// Which records wait behind a waiting record.
    pub ordering: Ordering,
    /// The most bytes of incomplete records in this process.
    pub in_flight_bytes_max: usize,
}

impl FromSettings for HandlerSettings {
    fn read(s: &mut Settings) -> Self {
        let handler = Self {
            url: s.optional_url(
                "HANDLER_URL",
                "URL that every order is posted to as JSON; unset only counts the orders.",
            ),
            timeout: s.milliseconds(
                "HANDLER_TIMEOUT_MS",
                10_000,
                10..=3_600_000,
                "How long one attempt may take; a longer one is cancelled and fails transiently.",
            ),
            concurrency: s.integer(
                "HANDLER_CONCURRENCY",
                64,
                1..=10_000,
                "Most attempts in flight in this process.",
            ),
            down_after: s.integer(
                "HANDLER_DOWN_AFTER",
                20,
                0..=10_000,
                "Different orders failing transiently in a row, with no answer between them, \
                 after which all attempts pause until a probe is answered; 0 never.",
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
            jitter: s.flag("RETRY_JITTER", false, "Whether each delay is drawn at random between the first one and the computed one."),
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
                    "How long after its first failure in a replica an order may be tried again; outages do not count.",
                    |text| text.parse().ok().filter(|seconds| (0.0..=31_536_000.0).contains(seconds)),
                )
                .map(Duration::from_secs_f64)
                .filter(|elapsed| !elapsed.is_zero()),
            ordering: s.choice(
                "ORDERING",
                Ordering::Key,
                &[Ordering::Key, Ordering::Partition, Ordering::None],
                "Which orders wait behind a waiting one: those of its key, of its partition, or none.",
            ),
            in_flight_bytes_max: s.integer(
                "MAX_IN_FLIGHT_BYTES",
                8_388_608,
                1_024..=1_073_741_824,
                "Most bytes of incomplete records.",
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

/// Reads which orders fail on purpose, of those that are tried again `retries_max` times.
pub(super) fn read_simulation(s: &mut Settings, retries_max: u32) -> Simulation {
    let error_rate = s.float(
        "ERROR_SIMULATION_RATE",
        0.0,
        0.0..=1.0,
        "Share of orders that fail on purpose, half of them permanently; the order's id decides.",
    );
    let transient_prices =
        s.optional_range("TRANSIENT_PRICE_RANGE", "Prices that fail transiently on purpose.");
    let permanent_above = s.optional_parsed(
        "PERMANENT_PRICE_ABOVE",
        "a number",
        "Price above which orders fail permanently on purpose.",
        |text| text.parse::<f64>().ok().filter(|price| price.is_finite()),
    );
    Simulation::new(error_rate, transient_prices, permanent_above, retries_max)
}
