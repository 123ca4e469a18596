//! How long a partition stands still while its records could be read, from the samples of `outsiders/watch.py`.
//!
//! A partition is dark while it has unread records and a live leader, and its committed offset does not change.
//! Nothing can be committed without a live coordinator and a majority of the brokers, so such times do not count. Between
//! two samples nothing is known, so a change ends a dark time at the sample before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka_core::NodeId;
use serde::Deserialize;

/// The most brokers that may be away.
const AWAY_MAX: usize = 1;

/// One line of `watch.py`.
#[derive(Clone, Debug, Deserialize)]
struct Sample {
    at: f64,
    coordinator: NodeId,
    partitions: BTreeMap<i32, Seen>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Seen {
    leader: NodeId,
    end: Option<i64>,
    committed: Option<i64>,
}

/// When brokers went away, and when they were back.
#[derive(Debug, Default)]
pub struct Absences {
    changes: Mutex<Vec<(f64, NodeId, bool)>>,
}

impl Absences {
    /// Notes that a broker goes away.
    pub fn begin(&self, node: NodeId) {
        self.note(node, true);
    }

    /// Notes that a broker is back.
    pub fn end(&self, node: NodeId) {
        self.note(node, false);
    }

    fn note(&self, node: NodeId, is_away: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.push((now.as_secs_f64(), node, is_away));
    }
}

/// The longest time for which a partition stood still although its records could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Darkness {
    /// How many samples were taken.
    pub samples: usize,
    /// The length of that time.
    pub longest: Duration,
    /// The partition.
    pub partition: i32,
    /// The committed offset at which it stood.
    pub offset: i64,
    /// The end of that time, in seconds since the Unix epoch.
    pub until: f64,
}

impl Darkness {
    /// Finds the longest dark time in the lines of `watch.py`. Lines that are no samples are skipped.
    pub fn of_lines(lines: &[String], absences: &Absences) -> Self {
        let samples = lines.iter().filter_map(|line| serde_json::from_str::<Sample>(line).ok());
        let changes = absences.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = changes.iter().copied().peekable();
        let mut away = BTreeSet::new();
        let mut clocks: BTreeMap<i32, Clock> = BTreeMap::new();
        let mut found = Self::default();
        for sample in samples {
            found.samples += 1;
            // A broker that was away for a part of the interval counts as away in all of it.
            let mut lately = away.clone();
            while let Some((_, node, is_away)) = changes.next_if(|(at, ..)| *at <= sample.at) {
                lately.insert(node);
                if is_away {
                    away.insert(node)
                } else {
                    away.remove(&node)
                };
            }
            let is_there = |node: NodeId| (node >= 0) && !lately.contains(&node);
            let can_commit = (lately.len() <= AWAY_MAX) && is_there(sample.coordinator);
            for (partition, seen) in sample.partitions {
                let clock = clocks.entry(partition).or_insert(Clock::new(sample.at));
                let is_judged = can_commit && is_there(seen.leader);
                let dark = clock.advance(sample.at, seen, is_judged);
                if dark > found.longest {
                    let offset = clock.committed;
                    found = Self { longest: dark, partition, offset, until: sample.at, ..found };
                }
            }
        }
        found
    }
}

/// What was last seen of a partition.
#[derive(Clone, Copy, Debug)]
struct Clock {
    dark_since: f64,
    end: i64,
    committed: i64,
}

impl Clock {
    fn new(at: f64) -> Self {
        Self { dark_since: at, end: 0, committed: 0 }
    }

    /// Returns how long the partition has been dark at a sample.
    fn advance(&mut self, at: f64, seen: Seen, is_judged: bool) -> Duration {
        let committed = seen.committed.unwrap_or(self.committed);
        let has_moved = committed != self.committed;
        self.committed = committed;
        self.end = seen.end.unwrap_or(self.end);
        if has_moved || !is_judged || (committed >= self.end) {
            self.dark_since = at;
        }
        Duration::from_secs_f64((at - self.dark_since).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_dark_from_the_last_change_on() {
        let lines = [(0, 5), (1, 5), (2, 6), (3, 6), (5, 6), (6, 7)].map(line);
        check(&lines, &[], 3, 6);
    }

    #[test]
    fn a_partition_without_unread_records_is_not_dark() {
        let lines = [(0, 9), (5, 10), (10, 10), (15, 10)].map(line);
        check(&lines, &[], 0, 0);
    }

    #[test]
    fn times_without_the_leader_the_coordinator_or_two_brokers_do_not_count() {
        let lines = [(0, 5), (1, 5), (2, 5), (10, 5), (11, 5), (12, 5), (14, 5)].map(line);
        check(&lines, &[], 14, 5);
        for node in [1, 2] {
            check(&lines, &[(1.5, node, true), (9.0, node, false)], 4, 5);
        }
        check(&lines, &[(1.5, 3, true), (9.0, 3, false)], 14, 5);
        check(&lines, &[(1.5, 3, true), (1.7, 4, true), (9.0, 4, false)], 4, 5);
    }

    #[test]
    fn what_was_not_told_changes_nothing() {
        let unknown = r#"{"at":2,"coordinator":2,"partitions":{"0":{"leader":1,"end":null,"committed":null}}}"#;
        let lines = [line((0, 5)), line((1, 5)), unknown.to_owned(), line((4, 5))];
        check(&lines, &[], 4, 5);
        let leaderless = line((9, 5)).replace(r#""leader":1"#, r#""leader":-1"#);
        check(&[&lines[..], &[leaderless, "no sample".to_owned()]].concat(), &[], 4, 5);
    }

    #[track_caller]
    fn check(lines: &[String], changes: &[(f64, NodeId, bool)], seconds: u64, offset: i64) {
        let absences = Absences { changes: Mutex::new(changes.to_vec()) };
        let found = Darkness::of_lines(lines, &absences);
        assert_eq!((found.longest, found.offset), (Duration::from_secs(seconds), offset));
    }

    /// Returns a sample of a partition with ten records.
    fn line((at, committed): (u64, i64)) -> String {
        format!(
            r#"{{"at":{at},"coordinator":2,"partitions":{{"0":{{"leader":1,"end":10,"committed":{committed}}}}}}}"#
        )
    }
}
