//! Trouble that comes again and again, reported now and then.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Pause between two reports of trouble of one kind.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Limits the lines about trouble that recurs: of each kind one at once, and one every 5 s.
///
/// ```
/// # use service_runtime::Recurring;
/// let mut refusals = Recurring::default();
/// for code in [3, 3, 12] {
///     if let Some(unreported) = refusals.report(code) {
///         tracing::warn!(code, unreported, "refused");
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Recurring<K> {
    kinds: BTreeMap<K, Kind>,
}

#[derive(Debug)]
struct Kind {
    reported: Instant,
    unreported: u64,
}

impl<K> Default for Recurring<K> {
    fn default() -> Self {
        Self { kinds: BTreeMap::new() }
    }
}

impl<K: Ord> Recurring<K> {
    /// Counts trouble of this kind. If it is to be reported, returns how often it came since the last report.
    pub fn report(&mut self, kind: K) -> Option<u64> {
        let now = Instant::now();
        let Some(known) = self.kinds.get_mut(&kind) else {
            self.kinds.insert(kind, Kind { reported: now, unreported: 0 });
            return Some(0);
        };
        if now < known.reported + REPORT_INTERVAL {
            known.unreported += 1;
            return None;
        }
        known.reported = now;
        Some(std::mem::take(&mut known.unreported))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_reported_at_once_and_then_every_5_s_with_what_was_left_out() {
        let mut recurring = Recurring::default();
        assert_eq!(recurring.report("refused"), Some(0));
        assert_eq!(recurring.report("refused"), None);
        assert_eq!(recurring.report("unanswered"), Some(0));
        advance(Duration::from_millis(4_999)).await;
        assert_eq!(recurring.report("refused"), None);
        advance(Duration::from_millis(1)).await;
        assert_eq!(recurring.report("refused"), Some(2));
        assert_eq!(recurring.report("refused"), None);
        assert_eq!(recurring.report("unanswered"), Some(0));
    }
}
