//! Simulated failures. The order alone decides, so that every run fails the same orders in the same way.

use std::ops::Range;

use kafka_core::murmur2::positive_murmur2;
use order_avro::Order;

use super::{Attempt, Handler, Outcome, SimulatedFailure};

/// Fails some orders on purpose, and passes the others to a handler.
#[derive(Clone, Debug)]
pub struct Simulated<H> {
    simulation: Simulation,
    handler: H,
}

impl<H> Simulated<H> {
    /// Fails the orders that `simulation` selects before they reach `handler`.
    pub fn new(simulation: Simulation, handler: H) -> Self {
        Self { simulation, handler }
    }
}

impl<H: Handler> Handler for Simulated<H> {
    const USES_TRACE: bool = H::USES_TRACE;

    async fn handle(&self, order: &Order, attempt: Attempt<'_>) -> Outcome {
        match self.simulation.failure(&order.order_id, order.price, attempt.number) {
            None => self.handler.handle(order, attempt).await,
            Some(failure) => Outcome::Simulated(failure),
        }
    }
}

/// Which orders fail, and how.
///
/// With h the [`positive_murmur2`] of the order's id and u = h / 2<sup>31</sup>, an order fails for good if u is below
/// half the error rate, or its price is above a limit. Otherwise it fails for a time if u is below the error rate, or
/// its price is in a range: the first 1 + (h >> 8) mod (retries + 1) attempts then fail. So of those orders one in
/// retries + 1 uses up its retries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Simulation {
    error_rate: f64,
    transient_prices: Option<Range<f64>>,
    permanent_above: Option<f64>,
    retries_max: u32,
}

impl Simulation {
    /// Returns a simulation in which a share `error_rate` of all order ids fails, and besides those the orders with a
    /// price in `transient_prices` or above `permanent_above`.
    ///
    /// `retries_max` is how often a failed order is tried again.
    pub fn new(
        error_rate: f64,
        transient_prices: Option<Range<f64>>,
        permanent_above: Option<f64>,
        retries_max: u32,
    ) -> Self {
        Self { error_rate, transient_prices, permanent_above, retries_max }
    }

    /// Returns whether nothing ever fails.
    pub fn is_off(&self) -> bool {
        self.error_rate <= 0.0 && self.transient_prices.is_none() && self.permanent_above.is_none()
    }

    /// Returns how attempt number `attempt`, from 1, at an order fails, if it does.
    #[inline]
    pub fn failure(&self, order_id: &str, price: f32, attempt: u32) -> Option<SimulatedFailure> {
        if self.is_off() {
            return None;
        }
        self.failure_by_hash(positive_murmur2(order_id.as_bytes()), f64::from(price), attempt)
    }

    fn failure_by_hash(&self, hash: u32, price: f64, attempt: u32) -> Option<SimulatedFailure> {
        const HASHES: f64 = 2_147_483_648.0;
        let drawn = f64::from(hash) / HASHES;
        if drawn < self.error_rate / 2.0 {
            return Some(SimulatedFailure::Permanent("simulated permanent failure"));
        }
        if self.permanent_above.is_some_and(|limit| price > limit) {
            let reason = "simulated permanent failure: the price is above the limit";
            return Some(SimulatedFailure::Permanent(reason));
        }
        let reason = if drawn < self.error_rate {
            "simulated transient failure"
        } else if self.transient_prices.as_ref().is_some_and(|range| range.contains(&price)) {
            "simulated transient failure: the price is in the range"
        } else {
            return None;
        };
        let failing_attempts = 1 + (hash >> 8) % self.retries_max.saturating_add(1);
        (attempt <= failing_attempts).then_some(SimulatedFailure::Transient(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of which u is the same as that of `share`, and whose bits 8 and up leave `rest` modulo 4.
    fn hash(share: f64, rest: u32) -> u32 {
        let hash: u32 = format!("{:.0}", share * 2_147_483_648.0).parse().unwrap();
        (hash & !0x3ff) | (rest << 8)
    }

    fn kind(failure: Option<SimulatedFailure>) -> &'static str {
        match failure {
            None => "ok",
            Some(SimulatedFailure::Transient(_)) => "transient",
            Some(SimulatedFailure::Permanent(_)) => "permanent",
        }
    }

    #[test]
    fn without_settings_nothing_fails() {
        let simulation = Simulation::new(0.0, None, None, 3);
        assert!(simulation.is_off());
        assert_eq!(simulation.failure_by_hash(0, 1e12, 1), None);
        assert_eq!(simulation.failure("1014", 1e12, 1), None);
    }

    #[test]
    fn half_of_the_failing_share_fails_for_good() {
        let simulation = Simulation::new(0.1, None, None, 3);
        for (share, expected) in [
            (0.0, "permanent"),
            (0.049_9, "permanent"),
            (0.050_1, "transient"),
            (0.099_9, "transient"),
            (0.100_1, "ok"),
            (0.999_9, "ok"),
        ] {
            assert_eq!(
                kind(simulation.failure_by_hash(hash(share, 0), 10.0, 1)),
                expected,
                "{share}"
            );
        }
        let always = Simulation::new(1.0, None, None, 3);
        assert_eq!(kind(always.failure_by_hash(0x7fff_ffff, 10.0, 4)), "transient");
        assert_eq!(kind(always.failure_by_hash(0x3fff_ffff, 10.0, 4)), "permanent");
    }

    #[test]
    fn a_transient_failure_lasts_for_as_many_attempts_as_the_hash_says() {
        let simulation = Simulation::new(0.1, None, None, 3);
        for rest in 0..4 {
            for attempt in 1..6 {
                let answer = simulation.failure_by_hash(hash(0.07, rest), 10.0, attempt);
                let expected = if attempt <= rest + 1 { "transient" } else { "ok" };
                assert_eq!(kind(answer), expected, "rest {rest}, attempt {attempt}");
            }
        }
    }

    #[test]
    fn prices_fail_as_their_range_says() {
        let simulation = Simulation::new(0.0, Some(5.0..50.0), Some(1000.0), 3);
        for (price, expected) in [
            (4.99, "ok"),
            (5.0, "transient"),
            (49.99, "transient"),
            (50.0, "ok"),
            (1000.0, "ok"),
            (1000.1, "permanent"),
        ] {
            assert_eq!(kind(simulation.failure("order-1", price, 1)), expected, "{price}");
        }
    }

    /// The ids and answers to their attempts 1 to 5, by the formula in another language, with the Java client's hash.
    #[test]
    fn order_ids_fail_as_everywhere() {
        let simulation = Simulation::new(0.3, None, None, 3);
        for (id, expected) in KNOWN {
            let answers: String = (1..=5)
                .map(|attempt| kind(simulation.failure(id, 10.0, attempt)).chars().next().unwrap())
                .collect();
            assert_eq!(answers, *expected, "{id}");
        }
    }

    const KNOWN: &[(&str, &str)] = &[
        ("1001", "ooooo"),
        ("1003", "tttoo"),
        ("1011", "ttooo"),
        ("1014", "ppppp"),
        ("1017", "tttto"),
        ("1059", "toooo"),
        ("9f1c2b7e-1111-4222-8333-0123456789ab", "tttto"),
        ("00000000-0000-4000-8000-000000000000", "ooooo"),
    ];
}
