//! Log lines about a lasting failure: one at once, then one in each interval.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Limits reports about failures that may occur many times a second: of each kind one at once, then one an interval.
///
/// ```
/// # use pacing::ReportLimit;
/// # use std::time::Duration;
/// let mut refusals = ReportLimit::every(Duration::from_secs(5));
/// let codes = [3, 3, 12];
/// let reported: Vec<_> = codes.into_iter().filter(|code| refusals.report(*code).is_some()).collect();
/// assert_eq!(reported, [3, 12]);
/// ```
#[derive(Clone, Debug)]
pub struct ReportLimit<K = ()> {
    interval: Duration,
    kinds: BTreeMap<K, Reported>,
}

#[derive(Clone, Copy, Debug)]
struct Reported {
    at: Instant,
    unreported: u64,
}

impl<K> ReportLimit<K> {
    /// Allows one report of each kind in `interval`.
    pub const fn every(interval: Duration) -> Self {
        Self { interval, kinds: BTreeMap::new() }
    }

    /// Forgets all earlier reports, because the failure has passed: the next one is reported at once.
    pub fn reset(&mut self) {
        self.kinds.clear();
    }
}

impl<K: Ord> ReportLimit<K> {
    /// Counts a failure of this kind. If it may be reported, returns how many were left out since the last report.
    pub fn report(&mut self, kind: K) -> Option<u64> {
        self.report_at(kind, Instant::now())
    }

    /// Counts a failure of this kind at `now`, as [`Self::report`] does.
    pub fn report_at(&mut self, kind: K, now: Instant) -> Option<u64> {
        let Some(known) = self.kinds.get_mut(&kind) else {
            self.kinds.insert(kind, Reported { at: now, unreported: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(known.at) < self.interval {
            known.unreported += 1;
            return None;
        }
        known.at = now;
        Some(std::mem::take(&mut known.unreported))
    }
}

impl ReportLimit {
    /// Counts a failure of the only kind and returns whether it may be reported.
    pub fn is_due(&mut self) -> bool {
        self.report(()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_reported_at_once_and_then_once_an_interval_with_the_number_left_out() {
        let mut limit = ReportLimit::every(Duration::from_secs(5));
        assert_eq!(limit.report("refused"), Some(0));
        assert_eq!(limit.report("refused"), None);
        assert_eq!(limit.report("unanswered"), Some(0));
        advance(Duration::from_millis(4_999)).await;
        assert_eq!(limit.report("refused"), None);
        advance(Duration::from_millis(1)).await;
        assert_eq!(limit.report("refused"), Some(2));
        assert_eq!(limit.report("refused"), None);
        assert_eq!(limit.report("unanswered"), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_has_passed_is_reported_at_once_when_it_comes_again() {
        let mut limit = ReportLimit::every(Duration::from_secs(5));
        assert_eq!([limit.is_due(), limit.is_due()], [true, false]);
        limit.reset();
        assert!(limit.is_due());
    }
}
