//! Assigned partitions that cannot be read, with the reason for the log and `/readyz`.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_core::TopicPartition;
use tokio::time::Instant;

use crate::telemetry::partitions::ByReason;

/// The least time between two warnings about the same partition.
const WARNING_INTERVAL: Duration = Duration::from_secs(5);

/// The assigned partitions that cannot be read, or could not be read lately.
#[derive(Debug, Default)]
pub(super) struct Unavailable(BTreeMap<TopicPartition, Entry>);

#[derive(Debug, Default)]
struct Entry {
    /// `None` while the partition can be read.
    reason: Option<String>,
    warned: Option<Instant>,
    /// Whether the last log line about it was a warning.
    is_warned_of: bool,
}

impl Unavailable {
    /// Adds partitions that cannot be read.
    pub(super) fn note(&mut self, failed: BTreeMap<TopicPartition, String>) {
        for (tp, reason) in failed {
            self.0.entry(tp).or_default().reason = Some(reason);
        }
    }

    /// Returns why a partition cannot be read.
    pub(super) fn reason(&self, tp: &TopicPartition) -> Option<&String> {
        self.0.get(tp)?.reason.as_ref()
    }

    /// Notes that a partition can be read, and returns whether a warning about it was logged.
    pub(super) fn clear(&mut self, tp: &TopicPartition) -> bool {
        let Some(entry) = self.0.get_mut(tp) else { return false };
        entry.reason = None;
        std::mem::take(&mut entry.is_warned_of)
    }

    pub(super) fn forget(&mut self, tp: &TopicPartition) {
        self.0.remove(tp);
    }

    /// Returns the partitions to warn about: new ones at once, the others after [`WARNING_INTERVAL`].
    pub(super) fn due(&mut self, now: Instant) -> ByReason {
        let is_due = |entry: &&mut Entry| {
            entry.reason.is_some()
                && entry.warned.is_none_or(|warned| now - warned >= WARNING_INTERVAL)
        };
        let mut due = ByReason::new();
        for (tp, entry) in self.0.iter_mut().filter(|(_, entry)| is_due(entry)) {
            (entry.warned, entry.is_warned_of) = (Some(now), true);
            let reason = entry.reason.clone().unwrap_or_default();
            due.entry(reason).or_default().insert(tp.clone());
        }
        due
    }

    /// Returns all partitions that cannot be read.
    pub(super) fn by_reason(&self) -> ByReason {
        let mut all = ByReason::new();
        for (tp, entry) in &self.0 {
            if let Some(reason) = &entry.reason {
                all.entry(reason.clone()).or_default().insert(tp.clone());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_warned_of_at_once_and_then_every_few_seconds() {
        let (mut unavailable, start) = (Unavailable::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        unavailable.note(failed(&[1, 2]));
        assert_eq!(unavailable.due(at(0)), by_reason(&[1, 2]));
        unavailable.note(failed(&[1, 2, 3]));
        assert_eq!(unavailable.due(at(4)), by_reason(&[3]));
        assert_eq!(unavailable.due(at(5)), by_reason(&[1, 2]));
        assert_eq!(unavailable.by_reason(), by_reason(&[1, 2, 3]));
    }

    #[test]
    fn a_partition_that_comes_and_goes_is_not_warned_of_more_often() {
        let (mut unavailable, start) = (Unavailable::default(), Instant::now());
        unavailable.note(failed(&[1]));
        unavailable.due(start);
        assert!(unavailable.clear(&tp(1)), "its end is told once");
        assert!(!unavailable.clear(&tp(1)));
        assert_eq!(unavailable.by_reason(), by_reason(&[]));
        unavailable.note(failed(&[1]));
        assert_eq!(unavailable.due(start), by_reason(&[]));
        assert!(!unavailable.clear(&tp(1)), "no warning, no end");
    }

    #[test]
    fn a_partition_that_was_given_up_is_not_named_any_more() {
        let mut unavailable = Unavailable::default();
        unavailable.note(failed(&[1]));
        unavailable.forget(&tp(1));
        assert_eq!(unavailable.by_reason(), by_reason(&[]));
        assert_eq!(unavailable.due(Instant::now()), by_reason(&[]));
    }

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn failed(partitions: &[i32]) -> BTreeMap<TopicPartition, String> {
        partitions.iter().map(|partition| (tp(*partition), "no leader".to_owned())).collect()
    }

    fn by_reason(partitions: &[i32]) -> ByReason {
        let mut all = ByReason::new();
        for (tp, reason) in failed(partitions) {
            all.entry(reason).or_default().insert(tp);
        }
        all
    }
}
