//! A histogram of durations that can take many at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The upper bounds of the buckets in milliseconds, as `OpenTelemetry`'s conventions for messaging have them.
const BOUNDS_MS: [u64; 14] =
    [5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000];

/// A histogram of durations, in seconds; cheap to clone. Observing takes no lock.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many fell into each bucket; the last one has no bound.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_nanos: AtomicU64,
}

impl Durations {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.observe_many(duration, 1);
    }

    /// Counts `count` durations that took `total` together, each as their mean; without any nothing changes.
    pub fn observe_many(&self, total: Duration, count: u64) {
        // 64 bits hold the nanoseconds of 584 years.
        let nanos = u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
        let Some(mean) = nanos.checked_div(count).map(Duration::from_nanos) else { return };
        let is_within = |bound: &u64| mean <= Duration::from_millis(*bound);
        let bucket = BOUNDS_MS.iter().position(is_within).unwrap_or(BOUNDS_MS.len());
        self.shared.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        self.shared.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Returns how many durations were counted.
    pub fn count(&self) -> u64 {
        self.shared.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = BOUNDS_MS.iter().map(|bound| Duration::from_millis(*bound).as_secs_f64());
        let counts = self.shared.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        // Read after the buckets were, so that the count is theirs.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.shared.sum_nanos.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn durations_are_in_the_bucket_of_their_mean() {
        let durations = Durations::default();
        let mut registry = Registry::default();
        registry.register("took_seconds", "How long it took", durations.clone());

        durations.observe(Duration::from_millis(5));
        durations.observe_many(Duration::from_millis(60), 10);
        durations.observe_many(Duration::from_secs(1), 0);
        durations.observe(Duration::from_secs(11));

        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "took_seconds_sum 11.065",
            "took_seconds_count 12",
            "took_seconds_bucket{le=\"0.005\"} 1",
            "took_seconds_bucket{le=\"0.01\"} 11",
            "took_seconds_bucket{le=\"10.0\"} 11",
            "took_seconds_bucket{le=\"+Inf\"} 12",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}: {text}");
        }
        assert_eq!(durations.count(), 12);
    }
}
