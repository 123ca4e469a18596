//! Lines about a failure that goes on: one at once, then one in each interval.

use std::time::Duration;

use tokio::time::Instant;

/// How often a failure that goes on is reported.
const INTERVAL: Duration = Duration::from_secs(5);

/// Limits the lines about one failure that may occur many times a second.
#[derive(Debug, Default)]
pub(crate) struct ReportLimit {
    reported: Option<Instant>,
}

impl ReportLimit {
    /// Returns whether a line may be written, and counts it as written.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.reported.is_none_or(|at| at.elapsed() >= INTERVAL);
        if is_due {
            self.reported = Some(Instant::now());
        }
        is_due
    }

    /// Notes that the failure has passed: the next one is reported at once.
    pub(crate) fn reset(&mut self) {
        self.reported = None;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_reported_at_once_and_then_once_in_each_interval() {
        let mut limit = ReportLimit::default();
        assert_eq!([limit.is_due(), limit.is_due()], [true, false]);
        advance(INTERVAL).await;
        assert_eq!([limit.is_due(), limit.is_due()], [true, false]);
        limit.reset();
        assert!(limit.is_due(), "another failure");
    }
}
