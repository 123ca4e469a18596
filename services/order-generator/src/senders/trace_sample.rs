//! The sample of traced orders.
//!
//! Each of them begins a trace, with ids from the operating system's random numbers, so that no `SEED` repeats them.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use service_runtime::trace_context::TraceContext;

/// Draws the traced orders.
#[derive(Debug)]
pub(crate) struct TraceSample {
    rng: StdRng,
    ratio: f64,
}

impl TraceSample {
    /// Samples a share of all orders, from 0 to 1.
    pub(crate) fn new(ratio: f64, seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), ratio }
    }

    /// Returns the span of the next order, if traced.
    pub(crate) fn draw(&mut self) -> Option<TraceContext> {
        let is_traced = (self.ratio > 0.0) && (self.rng.random::<f64>() < self.ratio);
        is_traced.then(|| TraceContext::sampled(self.rng.random(), self.rng.random())).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_share_of_traced_orders_is_the_ratio_and_every_trace_is_unique() {
        for (ratio, expected) in [(0.0, 0..=0), (0.1, 800..=1200), (1.0, 10_000..=10_000)] {
            let mut sample = TraceSample::new(ratio, 7);
            let traces: Vec<_> = (0..10_000).filter_map(|_| sample.draw()).collect();
            assert!(expected.contains(&traces.len()), "{ratio}: {}", traces.len());
            let ids: BTreeSet<_> = traces.iter().map(|trace| trace.trace_id().get()).collect();
            assert_eq!(ids.len(), traces.len());
            assert!(traces.iter().all(|trace| trace.is_sampled()));
        }
    }
}
