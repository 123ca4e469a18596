//! The readiness of a replica: its membership, the registry and the progress of its partitions.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kafka_client::membership::MembershipStatus;
use kafka_core::TopicPartition;
use kafka_core::member::CommitPermission;
use service_runtime::Check;
use tokio::time::Instant;

use crate::telemetry::partition_status::{FirstWaits, Full, PartitionStatus};
use crate::telemetry::partitions::{ByReason, list};

/// How long a partition with records to read may make no progress without a known reason.
const PROGRESS_MAX: Duration = Duration::from_mins(1);
/// How long a partition may take nothing in because its incomplete records reach a limit.
const FULL_MAX: Duration = Duration::from_secs(10);
/// The least time between two warnings about a partition.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// The checks of the session.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) kafka: Check,
    registry: Check,
    progress: Check,
    /// The progress of each partition.
    seen: BTreeMap<TopicPartition, Seen>,
}

/// The progress of a partition, and since when it is the same.
#[derive(Debug)]
struct Seen {
    place: (i64, i64),
    still: Still,
    since: Instant,
    warned: Option<Instant>,
}

/// Why a partition makes no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Still {
    /// It has nothing to read, or a known reason to wait; pauses have a check of their own.
    AsItShould,
    /// Its incomplete records reach a limit.
    Full,
    ForNoReason,
}

/// A partition that has taken nothing in for long, because its incomplete records reach a limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FullPartition {
    pub(crate) tp: TopicPartition,
    /// The offset of the next record to take in.
    pub(crate) offset: i64,
    /// The offset of the first incomplete record.
    pub(crate) first_incomplete: i64,
    pub(crate) incomplete: usize,
    /// The limit, and what the first incomplete record waits for.
    pub(crate) reason: String,
}

impl Checks {
    pub(crate) fn new(kafka: Check, registry: Check, progress: Check) -> Self {
        progress.ready();
        Self { kafka, registry, progress, seen: BTreeMap::new() }
    }

    /// Judges whether the member has joined, and hears from the coordinator.
    pub(crate) fn judge_membership(&self, status: &MembershipStatus, session_timeout: Duration) {
        let silence = status.last_contact.map(|at| at.elapsed());
        match (&status.permission, silence) {
            (CommitPermission::Denied, _) | (_, None) => self.kafka.not_ready("joining the group"),
            (_, Some(silence)) if silence > session_timeout => {
                let seconds = silence.as_secs();
                self.kafka
                    .not_ready(format!("the group coordinator has been silent for {seconds} s"));
            }
            (CommitPermission::Granted(_) | CommitPermission::Wait, Some(_)) => self.kafka.ready(),
        }
    }

    /// Judges whether the registry answers, and whether every partition with records to read makes progress. Returns the
    /// partitions to warn about.
    pub(crate) fn judge_work(
        &mut self,
        statuses: &[(TopicPartition, PartitionStatus)],
        unavailable: &ByReason,
        now: Instant,
    ) -> Vec<FullPartition> {
        let mut waiting = statuses.iter().filter(|(_, status)| status.waits.for_registry);
        match waiting.next() {
            None => self.registry.ready(),
            Some((tp, _)) => self.registry.not_ready(format!("{tp} waits for a schema")),
        }
        let mut seen = BTreeMap::new();
        let mut warnings = Vec::new();
        let unavailable = unavailable
            .iter()
            .map(|(reason, partitions)| format!("{} unavailable: {reason}", list(partitions)));
        let mut stuck: Vec<String> = unavailable.collect();
        for (tp, status) in statuses {
            let place = (status.frontier, status.committable);
            let still = Still::of(status);
            let before = self.seen.remove(tp).filter(|before| {
                before.place == place && [still, Still::AsItShould].contains(&before.still)
            });
            let mut this = before.unwrap_or(Seen { place, still, since: now, warned: None });
            this.still = still;
            if still == Still::AsItShould {
                this.since = now;
            }
            let (offset, standstill) = (status.frontier, now - this.since);
            match (still, &status.waits.full) {
                (Still::ForNoReason, _) if standstill > PROGRESS_MAX => {
                    let seconds = standstill.as_secs();
                    stuck.push(format!("{tp} has been at offset {offset} for {seconds} s"));
                }
                (Still::Full, Some((full, first))) if standstill > FULL_MAX => {
                    let full = FullPartition::of(tp, status, *full, *first, now);
                    stuck.push(full.to_string());
                    if this.warned.is_none_or(|warned| now - warned >= WARNING_INTERVAL) {
                        this.warned = Some(now);
                        warnings.push(full);
                    }
                }
                (Still::AsItShould | Still::Full | Still::ForNoReason, _) => {}
            }
            seen.insert(tp.clone(), this);
        }
        self.seen = seen;
        if stuck.is_empty() {
            self.progress.ready();
        } else {
            self.progress.not_ready(stuck.join("; "));
        }
        warnings
    }
}

impl Still {
    fn of(status: &PartitionStatus) -> Self {
        let waits = status.waits.for_registry
            || status.waits.for_permit
            || status.waits.for_release
            || status.waits.for_resume;
        let is_at_work = (status.waiting > 0) || (status.letters > 0) || (status.running > 0);
        if waits || (status.frontier >= status.log_end) {
            Self::AsItShould
        } else if status.waits.full.is_some() {
            Self::Full
        } else if is_at_work {
            Self::AsItShould
        } else {
            Self::ForNoReason
        }
    }
}

impl FullPartition {
    fn of(
        tp: &TopicPartition,
        status: &PartitionStatus,
        full: Full,
        first: FirstWaits,
        now: Instant,
    ) -> Self {
        let full = match full {
            Full::Window => "the checkpoint has no room for more",
            Full::Bytes => "they take MAX_IN_FLIGHT_BYTES in this process",
            Full::Order => "ORDERING=partition",
            Full::Schemas => "they wait for as many schemas as may be",
        };
        let first = match first {
            FirstWaits::Retry { due, attempts } => {
                let seconds = due.saturating_duration_since(now).as_secs();
                format!("waits for its next attempt, due in {seconds} s, after {attempts}")
            }
            FirstWaits::Letter => {
                "waits for its dead letter to be committed and written".to_owned()
            }
            FirstWaits::Attempt => "waits for an attempt to begin or to end".to_owned(),
        };
        Self {
            tp: tp.clone(),
            offset: status.frontier,
            first_incomplete: status.committable,
            incomplete: status.incomplete,
            reason: format!("{full}; the first {first}"),
        }
    }
}

impl fmt::Display for FullPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tp, offset, first_incomplete, incomplete, reason } = self;
        write!(
            f,
            "{tp} takes nothing in at offset {offset}: {incomplete} records from offset {first_incomplete} on are \
             incomplete: {reason}"
        )
    }
}

#[cfg(test)]
mod tests {
    use service_runtime::Health;

    use super::*;
    use crate::telemetry::partition_status::Waits;

    struct Bench {
        health: Health,
        checks: Checks,
        now: Instant,
        warnings: Vec<FullPartition>,
    }

    impl Bench {
        fn new() -> Self {
            let health = Health::default();
            let [kafka, registry, progress] =
                ["kafka", "registry", "progress"].map(|name| health.check(name));
            let checks = Checks::new(kafka, registry, progress);
            Self { checks, health, now: Instant::now(), warnings: Vec::new() }
        }

        /// Looks once a second for so long.
        fn judge(&mut self, status: &PartitionStatus, seconds: u32) {
            for _ in 0..seconds {
                self.now += Duration::from_secs(1);
                let statuses = [(TopicPartition::new("orders", 3), status.clone())];
                let warnings = self.checks.judge_work(&statuses, &ByReason::new(), self.now);
                self.warnings.extend(warnings);
            }
        }

        fn reason(&self, check: &str) -> Option<String> {
            self.health.report()[check].clone()
        }
    }

    fn behind() -> PartitionStatus {
        PartitionStatus { frontier: 7, committable: 7, log_end: 9, ..PartitionStatus::default() }
    }

    #[test]
    fn a_partition_that_stands_still_although_there_is_more_is_named() {
        let mut bench = Bench::new();
        bench.judge(&behind(), 61);
        assert_eq!(bench.reason("progress"), None);
        bench.judge(&behind(), 1);
        let reason = bench.reason("progress").unwrap();
        assert_eq!(reason, "orders-3 has been at offset 7 for 61 s");
        bench.judge(&PartitionStatus { frontier: 8, ..behind() }, 1);
        assert_eq!(bench.reason("progress"), None);
    }

    #[test]
    fn a_partition_may_stand_still_that_has_nothing_to_do_or_has_to_wait() {
        for status in [
            PartitionStatus { log_end: 7, ..behind() },
            PartitionStatus { waiting: 1, ..behind() },
            PartitionStatus { letters: 1, ..behind() },
            PartitionStatus { running: 1, ..behind() },
            PartitionStatus { waits: Waits { for_release: true, ..Waits::default() }, ..behind() },
            PartitionStatus { waits: Waits { for_resume: true, ..Waits::default() }, ..behind() },
            PartitionStatus { waits: Waits { for_registry: true, ..Waits::default() }, ..behind() },
            PartitionStatus { waits: Waits { for_permit: true, ..Waits::default() }, ..behind() },
        ] {
            let mut bench = Bench::new();
            bench.judge(&status, 1_000);
            assert_eq!(bench.reason("progress"), None, "{status:?}");
            bench.judge(&behind(), 61);
            assert!(bench.reason("progress").is_some(), "{status:?}");
        }
    }

    #[test]
    fn partitions_that_cannot_be_read_are_named_at_once_with_the_reason() {
        let mut bench = Bench::new();
        let lost = [1, 3].map(|partition| TopicPartition::new("orders", partition));
        let unavailable = ByReason::from([("no leader".to_owned(), lost.into())]);
        bench.checks.judge_work(&[], &unavailable, bench.now);
        assert_eq!(bench.reason("progress").unwrap(), "orders 1 3 unavailable: no leader");
        bench.checks.judge_work(&[], &ByReason::new(), bench.now);
        assert_eq!(bench.reason("progress"), None);
    }

    #[test]
    fn a_partition_whose_window_is_full_is_named_with_what_its_first_record_waits_for() {
        let mut bench = Bench::new();
        let due = bench.now + Duration::from_hours(1);
        let waits = FirstWaits::Retry { due, attempts: 2 };
        let full = PartitionStatus {
            committable: 5,
            incomplete: 1_165,
            waiting: 1,
            waits: Waits { full: Some((Full::Window, waits)), ..Waits::default() },
            ..behind()
        };
        bench.judge(&full, 11);
        assert_eq!(bench.reason("progress"), None, "others may come to their end soon");
        bench.judge(&full, 1);
        let reason = "orders-3 takes nothing in at offset 7: 1165 records from offset 5 on are incomplete: the checkpoint \
                      has no room for more; the first waits for its next attempt, due in 3588 s, after 2";
        assert_eq!(bench.reason("progress").as_deref(), Some(reason));
        bench.judge(&full, 121);
        let warned: Vec<_> = bench.warnings.iter().map(FullPartition::to_string).collect();
        assert_eq!((warned.len(), warned[0].as_str()), (3, reason), "one a minute");
        bench.judge(&PartitionStatus { frontier: 8, ..full }, 1);
        assert_eq!(bench.reason("progress"), None);
    }

    #[test]
    fn a_partition_that_waits_for_a_schema_shows_in_the_registrys_check() {
        let mut bench = Bench::new();
        bench.judge(
            &PartitionStatus {
                waits: Waits { for_registry: true, ..Waits::default() },
                ..behind()
            },
            1,
        );
        assert_eq!(bench.reason("registry").unwrap(), "orders-3 waits for a schema");
        bench.judge(&behind(), 1);
        assert_eq!(bench.reason("registry"), None);
    }
}
