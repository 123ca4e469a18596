//! Decides from the ends of attempts whether the handler's dependency is down.
//!
//! A transient failure belongs to one order: it is tried again a few times and then dead-lettered. When every order fails,
//! the orders are not the cause, and dead-lettering them would turn an outage into a flood. So the circuit counts the
//! failures of one process together. The handler's dependency counts as down
//!
//! - when the handler says so,
//! - when as many different orders as the settings name have failed in a row, with no answer in between,
//! - when an order has used up its retries, another one failed too, and nothing was answered since its first failure.
//!
//! An answer is an attempt that is done or rejected for good: the dependency works. A failure while it is down says nothing
//! about the order. One failing order alone never opens the circuit, so a single order that the dependency cannot digest
//! ends as a dead letter.
//!
//! ```text
//!               down                   begin_probe, when it is time
//!   closed ─────────────► open ─────────────────────────────────────► open, probing
//!     ▲  ▲                 │ ▲                                          │   │
//!     │  └answered, leave──┘ └───────────────── end_probe ──────────────┘   │
//!     └──────────────────────── answered, leave ────────────────────────────┘
//! ```
//!
//! The circuit is left when no worker has an order to probe with, because no attempt could show that the dependency is
//! back. It keeps the failures in a row, so that the next failure opens it again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// The pause before the first probe, and the longest pause; each failed probe doubles it.
pub(crate) const PROBE_PAUSE: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(5));

/// A record of this process: the epoch of its partition's assignment, and its offset.
pub(crate) type RecordName = (u64, i64);

/// The number of a row of failures with no answer between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streak(u64);

/// An attempt that failed transiently.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransientFailure {
    pub(crate) record: RecordName,
    /// The streak of the record's first failure, if this is a later one.
    pub(crate) first: Option<Streak>,
    /// Whether the record's retries are used up.
    pub(crate) is_last: bool,
    /// The least pause that the handler asked for.
    pub(crate) retry_after: Duration,
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The order's: the attempt counts.
    Order(Streak),
    /// The dependency's: the attempt does not count.
    Dependency,
}

/// The circuit breaker of one process.
#[derive(Debug)]
pub(crate) struct Circuit {
    /// How many different orders have to fail in a row to open the circuit; 0 is any number.
    down_after: usize,
    streak: Streak,
    /// The different records that failed in this streak, at most `down_after`.
    failed: BTreeSet<RecordName>,
    open: Option<Open>,
    /// How many probes have begun.
    probes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    since: Instant,
    pause: Duration,
    /// There is no probe before.
    not_before: Instant,
    probing: Option<Probe>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe(u64);

impl Circuit {
    /// Returns a circuit that `down_after` different orders open by failing in a row; with 0 only the handler opens it.
    pub(crate) fn new(down_after: usize) -> Self {
        Self {
            down_after,
            streak: Streak::default(),
            failed: BTreeSet::new(),
            open: None,
            probes: 0,
        }
    }

    /// Returns since when the dependency is down, if it is.
    pub(crate) fn down_since(&self) -> Option<Instant> {
        self.open.map(|open| open.since)
    }

    /// Returns whether an answer would change the circuit.
    pub(crate) fn is_suspect(&self) -> bool {
        self.open.is_some() || !self.failed.is_empty()
    }

    /// Counts an answer, and returns since when the outage lasted that it ends.
    pub(crate) fn answered(&mut self) -> Option<Instant> {
        if !self.failed.is_empty() {
            self.failed.clear();
            self.streak.0 += 1;
        }
        self.leave()
    }

    /// Ends the outage because no worker has an order to probe with, and returns since when it lasted.
    pub(crate) fn leave(&mut self) -> Option<Instant> {
        self.open.take().map(|open| open.since)
    }

    /// Counts a failure, and returns whose fault it is.
    pub(crate) fn failed(&mut self, failure: &TransientFailure, now: Instant) -> Fault {
        if self.open.is_none() {
            if self.failed.len() < self.down_after {
                self.failed.insert(failure.record);
            }
            let all_fail = self.down_after > 0 && self.failed.len() >= self.down_after;
            let nothing_else_works = failure.is_last
                && failure.first == Some(self.streak)
                && self.failed.iter().any(|record| *record != failure.record);
            if !all_fail && !nothing_else_works {
                return Fault::Order(self.streak);
            }
        }
        self.down(failure.retry_after, now);
        Fault::Dependency
    }

    /// Opens the circuit because the handler says that the dependency is down.
    pub(crate) fn down(&mut self, retry_after: Duration, now: Instant) {
        let open = self.open.get_or_insert(Open {
            since: now,
            pause: PROBE_PAUSE.0,
            not_before: now + PROBE_PAUSE.0,
            probing: None,
        });
        // Before that, an attempt has ended that began earlier.
        if now >= open.not_before {
            open.pause = (open.pause * 2).min(PROBE_PAUSE.1);
            open.not_before = now + open.pause;
        }
        open.not_before = open.not_before.max(now + retry_after);
    }

    /// Returns when the next probe may begin; `None` without an outage, or while a probe is in flight.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        self.open.filter(|open| open.probing.is_none()).map(|open| open.not_before)
    }

    pub(crate) fn begin_probe(&mut self) {
        if let Some(open) = &mut self.open {
            self.probes += 1;
            open.probing = Some(Probe(self.probes));
        }
    }

    /// Returns the probe in flight.
    pub(crate) fn probe(&self) -> Option<Probe> {
        self.open?.probing
    }

    /// Ends a probe; one that showed nothing about the dependency is made again at once.
    pub(crate) fn end_probe(&mut self, probe: Probe) {
        if let Some(open) = &mut self.open {
            open.probing = open.probing.filter(|probing| *probing != probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOWN_AFTER: usize = 5;

    struct Bench {
        circuit: Circuit,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { circuit: Circuit::new(DOWN_AFTER), now: Instant::now() }
        }

        fn end_probe(&mut self) {
            if let Some(probe) = self.circuit.probe() {
                self.circuit.end_probe(probe);
            }
        }

        fn fail(&mut self, offset: i64, first: Option<Streak>) -> Fault {
            self.end(offset, first, false)
        }

        fn exhaust(&mut self, offset: i64, first: Option<Streak>) -> Fault {
            self.end(offset, first, true)
        }

        fn end(&mut self, offset: i64, first: Option<Streak>, is_last: bool) -> Fault {
            let retry_after = Duration::ZERO;
            let failure = TransientFailure { record: (1, offset), first, is_last, retry_after };
            self.circuit.failed(&failure, self.now)
        }
    }

    fn streak(fault: Fault) -> Streak {
        match fault {
            Fault::Order(streak) => streak,
            Fault::Dependency => panic!("the dependency is down"),
        }
    }

    #[test]
    fn so_many_orders_failing_in_a_row_are_an_outage() {
        let mut bench = Bench::new();
        for offset in 0..4 {
            streak(bench.fail(offset, None));
        }
        assert_eq!(bench.fail(4, None), Fault::Dependency);
        assert!(bench.circuit.down_since().is_some());
        assert_eq!(
            bench.fail(0, None),
            Fault::Dependency,
            "what fails meanwhile is no order's fault"
        );
    }

    #[test]
    fn an_answer_in_between_begins_a_new_count() {
        let mut bench = Bench::new();
        for offset in 0..20 {
            streak(bench.fail(offset, None));
            if offset % 4 == 3 {
                assert_eq!(bench.circuit.answered(), None);
            }
        }
    }

    #[test]
    fn one_order_alone_is_no_outage_however_often_it_fails() {
        let mut bench = Bench::new();
        let first = streak(bench.fail(7, None));
        for _ in 0..100 {
            streak(bench.fail(7, Some(first)));
        }
        streak(bench.exhaust(7, Some(first)));
    }

    #[test]
    fn retries_used_up_while_nothing_works_are_an_outage() {
        let mut bench = Bench::new();
        let first = streak(bench.fail(7, None));
        streak(bench.fail(8, None));
        assert_eq!(bench.exhaust(7, Some(first)), Fault::Dependency);
    }

    #[test]
    fn retries_used_up_while_others_succeed_are_the_orders_fault() {
        let mut bench = Bench::new();
        let first = streak(bench.fail(7, None));
        bench.circuit.answered();
        streak(bench.fail(8, None));
        streak(bench.exhaust(7, Some(first)));
    }

    #[test]
    fn without_retries_a_first_failure_says_nothing_about_the_others() {
        let mut bench = Bench::new();
        for offset in 0..4 {
            streak(bench.exhaust(offset, None));
        }
        assert_eq!(bench.exhaust(4, None), Fault::Dependency);
    }

    #[test]
    fn only_the_handler_says_so_when_failures_are_not_counted() {
        let mut bench = Bench { circuit: Circuit::new(0), ..Bench::new() };
        let first = streak(bench.fail(0, None));
        for offset in 1..100 {
            streak(bench.exhaust(offset, Some(first)));
        }
        bench.circuit.down(Duration::ZERO, bench.now);
        assert!(bench.circuit.down_since().is_some());
    }

    #[test]
    fn probes_are_made_one_at_a_time_and_less_and_less_often() {
        let mut bench = Bench::new();
        bench.circuit.down(Duration::ZERO, bench.now);
        let mut pause_reasons = Vec::new();
        for _ in 0..5 {
            let probe_at = bench.circuit.probe_at().unwrap();
            pause_reasons.push((probe_at - bench.now).as_secs());
            bench.now = probe_at;
            bench.circuit.begin_probe();
            assert_eq!(bench.circuit.probe_at(), None);
            assert_eq!(bench.fail(1, None), Fault::Dependency);
            bench.end_probe();
        }
        assert_eq!(pause_reasons, [1, 2, 4, 5, 5]);
        bench.circuit.begin_probe();
        let since = bench.circuit.answered().unwrap();
        assert!(since < bench.now);
        assert_eq!((bench.circuit.down_since(), bench.circuit.probe_at()), (None, None));
    }

    #[test]
    fn the_pause_that_was_asked_for_is_kept() {
        let mut bench = Bench::new();
        let minute = Duration::from_mins(1);
        bench.circuit.down(minute, bench.now);
        assert_eq!(bench.circuit.probe_at(), Some(bench.now + minute));
        bench.circuit.down(Duration::ZERO, bench.now);
        assert_eq!(bench.circuit.probe_at(), Some(bench.now + minute));
    }

    #[test]
    fn a_probe_that_said_nothing_is_made_again_at_once() {
        let mut bench = Bench::new();
        bench.circuit.down(Duration::ZERO, bench.now);
        bench.now = bench.circuit.probe_at().unwrap();
        bench.circuit.begin_probe();
        bench.end_probe();
        assert_eq!(bench.circuit.probe_at(), Some(bench.now));
    }

    #[test]
    fn an_outage_that_was_left_is_back_with_the_next_failure() {
        let mut bench = Bench::new();
        for offset in 0..5 {
            bench.fail(offset, None);
        }
        assert!(bench.circuit.leave().is_some());
        assert_eq!((bench.circuit.down_since(), bench.circuit.probe_at()), (None, None));
        assert!(bench.circuit.is_suspect());
        assert_eq!(bench.fail(7, None), Fault::Dependency);
    }

    proptest! {
        /// Whatever happens, the circuit is open exactly while something has failed since the last answer, and an open
        /// one has a probe to come or under way until it is answered, or left.
        #[test]
        fn an_outage_ends_with_an_answer_or_is_left_and_only_so(
            events in proptest::collection::vec((0_u8..6, 0_i64..8, any::<bool>()), 0..200),
        ) {
            let mut bench = Bench::new();
            for (kind, offset, is_last) in events {
                let was_open = bench.circuit.down_since().is_some();
                match kind {
                    0 => {
                        prop_assert_eq!(bench.circuit.answered().is_some(), was_open);
                        prop_assert!(!bench.circuit.is_suspect());
                    }
                    1 | 2 => {
                        let fault = bench.end(offset, Some(bench.circuit.streak), is_last);
                        let is_open = bench.circuit.down_since().is_some();
                        prop_assert_eq!(fault == Fault::Dependency, is_open);
                        prop_assert!(is_open >= was_open);
                    }
                    3 if bench.circuit.probe_at().is_some() => bench.circuit.begin_probe(),
                    4 => {
                        let was_suspect = !bench.circuit.failed.is_empty();
                        prop_assert_eq!(bench.circuit.leave().is_some(), was_open);
                        prop_assert_eq!(bench.circuit.down_since(), None);
                        prop_assert_eq!(bench.circuit.is_suspect(), was_suspect);
                    }
                    _ => bench.end_probe(),
                }
                prop_assert!(bench.circuit.failed.len() <= DOWN_AFTER);
            }
        }
    }
}
