//! Client quotas on bytes a second, and how long a client over its quota is throttled.
//!
//! Kafka averages over ten seconds: that many seconds' bytes pass at once, then a client waits until its average is back
//! at the quota. A bucket of that size does the same. As in Kafka, each node counts for itself, and each client id alone.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_core::NodeId;

/// How many seconds' bytes pass at once.
const WINDOW: Duration = Duration::from_secs(10);
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A quota of every client id on every node.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    bytes_per_second: Option<u64>,
    /// When the bytes so far are paid for at the quota's rate, by node and client id.
    paid_at: BTreeMap<(NodeId, String), Duration>,
}

/// Whether a throttled client has to send the same request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverQuota {
    /// The bytes have passed and count: a produce request.
    Counts,
    /// The bytes do not pass and do not count: a fetch.
    Refused,
}

impl Quota {
    /// Sets the quota and forgets what was counted; without a quota, bytes are unlimited.
    pub(crate) fn set(&mut self, bytes_per_second: Option<u64>) {
        *self = Self { bytes_per_second, paid_at: BTreeMap::new() };
    }

    /// Forgets what was counted, because time begins anew.
    pub(crate) fn forget(&mut self) {
        self.paid_at.clear();
    }

    /// Returns the most bytes that ever pass at once.
    pub(crate) fn bytes_max(&self) -> Option<usize> {
        let bytes = self.bytes_per_second?.saturating_mul(WINDOW.as_secs());
        Some(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Counts bytes of a client at `now` and returns how long it is throttled.
    pub(crate) fn count(
        &mut self,
        (node, client_id): (NodeId, &str),
        bytes: usize,
        now: Duration,
        over_quota: OverQuota,
    ) -> Duration {
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let cost = Duration::from_nanos(bytes.saturating_mul(NANOS_PER_SECOND) / rate.max(1));
        let key = (node, client_id.to_owned());
        let paid_at = self.paid_at.get(&key).copied().unwrap_or_default().max(now) + cost;
        let throttle = paid_at.saturating_sub(now + WINDOW);
        if throttle.is_zero() || (over_quota == OverQuota::Counts) {
            self.paid_at.insert(key, paid_at);
        }
        throttle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: (NodeId, &str) = (1, "client");

    fn quota() -> Quota {
        let mut quota = Quota::default();
        quota.set(Some(100));
        quota
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_client_without_a_quota_is_never_throttled() {
        let mut quota = Quota::default();
        assert_eq!(quota.count(CLIENT, usize::MAX, seconds(0), OverQuota::Counts), seconds(0));
        assert_eq!(quota.bytes_max(), None);
    }

    #[test]
    fn what_exceeds_ten_seconds_of_quota_has_to_wait() {
        let mut quota = quota();
        assert_eq!(quota.bytes_max(), Some(1000));
        assert_eq!(quota.count(CLIENT, 1000, seconds(0), OverQuota::Counts), seconds(0));
        assert_eq!(quota.count(CLIENT, 300, seconds(1), OverQuota::Counts), seconds(2));
        assert_eq!(quota.count(CLIENT, 100, seconds(3), OverQuota::Counts), seconds(1));
        assert_eq!(quota.count((1, "other"), 900, seconds(3), OverQuota::Counts), seconds(0));
        assert_eq!(quota.count((2, "client"), 900, seconds(3), OverQuota::Counts), seconds(0));
    }

    #[test]
    fn a_refused_answer_passes_after_its_throttle() {
        let mut quota = quota();
        assert_eq!(quota.count(CLIENT, 800, seconds(0), OverQuota::Refused), seconds(0));
        assert_eq!(quota.count(CLIENT, 600, seconds(0), OverQuota::Refused), seconds(4));
        assert_eq!(quota.count(CLIENT, 600, seconds(1), OverQuota::Refused), seconds(3));
        assert_eq!(quota.count(CLIENT, 600, seconds(4), OverQuota::Refused), seconds(0));
    }
}
