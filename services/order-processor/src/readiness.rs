//! Whether a running replica is of use to its group: what `/readyz` says of the membership, the registry and progress.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_client::membership::MembershipStatus;
use kafka_group::TopicPartition;
use kafka_group::member::CommitPermission;
use service_runtime::Check;
use tokio::time::Instant;

use crate::metrics::Standing;
use crate::session::{self, ByReason};

/// How long nothing may come of a partition that has something to read, with no reason that is known.
const PROGRESS_MAX: Duration = Duration::from_mins(1);

/// The checks that the session judges.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) kafka: Check,
    registry: Check,
    progress: Check,
    /// How far each partition was, and since when.
    seen: BTreeMap<TopicPartition, ((i64, i64), Instant)>,
}

impl Checks {
    pub(crate) fn new(kafka: Check, registry: Check, progress: Check) -> Self {
        progress.ready();
        Self { kafka, registry, progress, seen: BTreeMap::new() }
    }

    /// Says whether the member has joined, and is in touch with the coordinator.
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

    /// Says whether the registry answers, and whether something comes of every partition that has something to read.
    pub(crate) fn judge_work(
        &mut self,
        standings: &[(TopicPartition, Standing)],
        unavailable: &ByReason,
        now: Instant,
    ) {
        let mut waiting = standings.iter().filter(|(_, standing)| standing.waits_for_registry);
        match waiting.next() {
            None => self.registry.ready(),
            Some((tp, _)) => self.registry.not_ready(format!("{tp} waits for a schema")),
        }
        let mut seen = BTreeMap::new();
        let unavailable = unavailable.iter().map(|(reason, partitions)| {
            format!("{} unavailable: {reason}", session::list(partitions))
        });
        let mut still: Vec<String> = unavailable.collect();
        for (tp, standing) in standings {
            let place = (standing.frontier, standing.committable);
            let before = self.seen.remove(tp).filter(|(before, _)| *before == place);
            let since =
                before.filter(|_| is_expected_to_move(standing)).map_or(now, |(_, since)| since);
            let standstill = now - since;
            if standstill > PROGRESS_MAX {
                let (offset, seconds) = (standing.frontier, standstill.as_secs());
                still.push(format!("{tp} has been at offset {offset} for {seconds} s"));
            }
            seen.insert(tp.clone(), (place, since));
        }
        self.seen = seen;
        if still.is_empty() {
            self.progress.ready();
        } else {
            self.progress.not_ready(still.join("; "));
        }
    }
}

/// Returns whether there is something to read, and nothing known that it has to wait for; pauses are shown by a check of
/// their own.
fn is_expected_to_move(standing: &Standing) -> bool {
    let waits = standing.waits_for_registry
        || standing.waits_for_permit
        || standing.waits_for_room
        || standing.is_guarded
        || standing.is_stopped
        || (standing.waiting > 0)
        || (standing.letters > 0)
        || (standing.running > 0);
    (standing.frontier < standing.log_end) && !waits
}

#[cfg(test)]
mod tests {
    use service_runtime::Health;

    use super::*;

    struct Bench {
        health: Health,
        checks: Checks,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let health = Health::default();
            let [kafka, registry, progress] =
                ["kafka", "registry", "progress"].map(|name| health.check(name));
            Self { checks: Checks::new(kafka, registry, progress), health, now: Instant::now() }
        }

        /// Looks once a second for so long.
        fn judge(&mut self, standing: &Standing, seconds: u32) {
            for _ in 0..seconds {
                self.now += Duration::from_secs(1);
                let standings = [(TopicPartition::new("orders", 3), standing.clone())];
                self.checks.judge_work(&standings, &ByReason::new(), self.now);
            }
        }

        fn reason(&self, check: &str) -> Option<String> {
            self.health.report()[check].clone()
        }
    }

    fn behind() -> Standing {
        Standing { frontier: 7, committable: 7, log_end: 9, ..Standing::default() }
    }

    #[test]
    fn a_partition_that_stands_still_although_there_is_more_is_named() {
        let mut bench = Bench::new();
        bench.judge(&behind(), 61);
        assert_eq!(bench.reason("progress"), None);
        bench.judge(&behind(), 1);
        let reason = bench.reason("progress").unwrap();
        assert_eq!(reason, "orders-3 has been at offset 7 for 61 s");
        bench.judge(&Standing { frontier: 8, ..behind() }, 1);
        assert_eq!(bench.reason("progress"), None);
    }

    #[test]
    fn a_partition_may_stand_still_that_has_nothing_to_do_or_has_to_wait() {
        for standing in [
            Standing { log_end: 7, ..behind() },
            Standing { waiting: 1, ..behind() },
            Standing { letters: 1, ..behind() },
            Standing { running: 1, ..behind() },
            Standing { is_guarded: true, ..behind() },
            Standing { is_stopped: true, ..behind() },
            Standing { waits_for_registry: true, ..behind() },
            Standing { waits_for_permit: true, ..behind() },
            Standing { waits_for_room: true, ..behind() },
        ] {
            let mut bench = Bench::new();
            bench.judge(&standing, 1_000);
            assert_eq!(bench.reason("progress"), None, "{standing:?}");
            bench.judge(&behind(), 61);
            assert!(bench.reason("progress").is_some(), "{standing:?}");
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
    fn a_partition_that_waits_for_a_schema_shows_in_the_registrys_check() {
        let mut bench = Bench::new();
        bench.judge(&Standing { waits_for_registry: true, ..behind() }, 1);
        assert_eq!(bench.reason("registry").unwrap(), "orders-3 waits for a schema");
        bench.judge(&behind(), 1);
        assert_eq!(bench.reason("registry"), None);
    }
}
