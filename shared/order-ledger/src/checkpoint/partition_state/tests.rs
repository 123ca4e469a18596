use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::aggregate::Micros;

mod doomed;

const TOPIC_ID: Uuid = Uuid::from_u128(7);
const START: i64 = 100;

fn state() -> PartitionState {
    PartitionState::empty(TOPIC_ID, START, Capacity::DEFAULT)
}

fn order(price: f32) -> CompletedOrder {
    CompletedOrder { timestamp_ms: 1_700_000_000_000, price, attempts: 1, origin: Origin::Produced }
}

fn restart(state: &PartitionState) -> PartitionState {
    let Checkpoint { offset, metadata, .. } = state.checkpoint().unwrap();
    let restored =
        PartitionState::restore(&metadata, state.topic_id(), offset, Capacity::DEFAULT).unwrap();
    assert_eq!(restored.discarded, None);
    restored.state
}

#[test]
fn every_record_is_counted_once_by_its_outcome() {
    let mut state = state();
    let process = Admission::Process { attempts: 0 };
    assert_eq!(state.admit(100), process);
    assert!(state.complete_order(100, order(2.5)));
    assert_eq!(state.admit(101), process);
    assert_eq!(state.admit(102), process);
    assert_eq!(state.admit(102), Admission::Skip);
    state.record_attempts(101, 2);
    let replayed = CompletedOrder { attempts: 3, origin: Origin::Replayed, ..order(1.0) };
    assert!(state.complete_order(102, replayed));
    assert!(!state.complete_order(102, replayed), "it was complete");
    assert!(!state.complete_dead_letter(102, 1, Origin::Produced), "it was complete");
    assert_eq!(state.committable(), 101);
    assert!(state.complete_dead_letter(101, 4, Origin::Produced));
    assert_eq!(state.committable(), 103);

    let numbers = state.aggregate();
    assert_eq!((numbers.orders(), numbers.dead_letters()), (2, 1));
    assert_eq!((numbers.retries(), numbers.replayed()), (2 + 3, 1));
    assert_eq!(numbers.sum().to_string(), "3.5");
    assert_eq!(numbers.records(), 3);
    assert_eq!(state.contents.attempts, BTreeMap::new());
}

#[test]
fn a_record_that_a_restart_repeats_keeps_its_attempts() {
    let mut state = state();
    (100..103).for_each(|offset| assert_ne!(state.admit(offset), Admission::Skip));
    state.record_attempts(101, 2);
    state.complete_order(102, order(1.0));
    let mut state = restart(&state);
    assert_eq!(state.committable(), 100);
    assert_eq!(state.dispatch_frontier(), 103);
    assert_eq!(state.admit(100), Admission::Process { attempts: 0 });
    assert_eq!(state.admit(101), Admission::Process { attempts: 2 });
    assert_eq!(state.admit(102), Admission::Skip);
    assert_eq!(state.admit(103), Admission::Process { attempts: 0 });
}

#[test]
fn incomplete_records_that_the_log_has_lost_count_as_complete() {
    let mut state = state();
    (100..110).for_each(|offset| assert_ne!(state.admit(offset), Admission::Skip));
    state.record_attempts(104, 1);
    state.record_attempts(106, 1);
    let mut state = restart(&state);
    assert_eq!(state.advance_to(105), 5);
    assert_eq!(state.committable(), 105);
    assert_eq!(state.contents.attempts, BTreeMap::from([(106, 1)]));
    assert_eq!((state.since(), state.incomplete()), (100, 5));
}

#[test]
fn the_revision_changes_with_everything_that_a_checkpoint_holds() {
    let mut state = state();
    let mut revisions = vec![state.revision()];
    let mut changed = |state: &PartitionState| {
        let is_new = revisions.last() != Some(&state.revision());
        revisions.push(state.revision());
        is_new
    };
    state.admit(100);
    assert!(changed(&state));
    state.record_attempts(100, 1);
    assert!(changed(&state));
    state.doom(100, 2, ErrorType::Rejected);
    assert!(changed(&state));
    state.count_dead_letter(ErrorType::Rejected);
    assert!(changed(&state));
    state.set_release_from(3);
    assert!(changed(&state));
    state.complete_order(100, order(1.0));
    assert!(changed(&state));
    state.clear_dlq_limit();
    assert!(changed(&state));
    state.clear_dlq_limit();
    assert!(!changed(&state));
    state.admit(101);
    assert!(changed(&state));
    state.complete_dead_letter(101, 0, Origin::Produced);
    assert!(changed(&state));
    state.advance_to(110);
    assert!(changed(&state));
    state.advance_to(110);
    state.admit(105);
    state.complete_order(105, order(1.0));
    assert!(!changed(&state));
}

#[test]
fn a_checkpoint_of_another_offset_or_topic_is_discarded() {
    let mut state = state();
    state.admit(100);
    state.complete_order(100, order(1.0));
    let own = state.checkpoint().unwrap().metadata;
    let check = |metadata: &str, topic_id, offset, expected: Discarded, text: &str| {
        let restored =
            PartitionState::restore(metadata, topic_id, offset, Capacity::DEFAULT).unwrap();
        assert_eq!(restored.discarded, Some(expected));
        assert_eq!(expected.to_string(), text);
        let state = restored.state;
        assert_eq!(
            (state.committable(), state.since(), state.topic_id()),
            (offset, offset, topic_id)
        );
        assert_eq!(state.aggregate().records(), 0);
    };
    let other = Uuid::from_u128(8);
    check("", TOPIC_ID, 5, Discarded::NoMetadata, "the offset was committed without a checkpoint");
    check(
        "something",
        TOPIC_ID,
        5,
        Discarded::Foreign,
        "another client committed the offset, with metadata of its own",
    );
    check(
        &own,
        TOPIC_ID,
        5,
        Discarded::OtherOffset { found: 101, committed: 5 },
        "the checkpoint is of offset 101, but was committed with 5",
    );
    check(
        &own,
        other,
        101,
        Discarded::OtherTopic { found: TOPIC_ID, assigned: other },
        "the checkpoint is of topic id 00000000-0000-0000-0000-000000000007, but the topic has \
         00000000-0000-0000-0000-000000000008",
    );
    assert!(!Discarded::NoMetadata.is_warning() && Discarded::Foreign.is_warning());
    let refused = PartitionState::restore("oc7:", TOPIC_ID, 101, Capacity::DEFAULT);
    assert_eq!(refused.unwrap_err(), CheckpointError::UnknownVersion { found: 7, known: 3 });
}

#[test]
fn a_replay_is_known_by_its_header() {
    let headers: [(&[u8], Option<&[u8]>); 2] = [(b"a", None), (b"dlq.replay.of", Some(b"x"))];
    assert_eq!(Origin::of(headers), Origin::Replayed);
    assert_eq!(Origin::of([headers[0]]), Origin::Produced);
}

/// A record of the log and its outcome.
#[derive(Clone, Copy, Debug)]
struct Plan {
    offset: i64,
    /// The offset of the next record.
    next: i64,
    fate: Fate,
    timestamp_ms: i64,
    /// The attempt with this outcome.
    attempts: u32,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Order(f32),
    DeadLetter,
    /// It is an unreadable range up to the next record.
    Range,
}

/// Generates a log with gaps.
fn log() -> impl Strategy<Value = Vec<Plan>> {
    let fate = prop_oneof![8 => (0.01_f32..2_000.0).prop_map(Fate::Order), 1 => Just(Fate::DeadLetter), 1 => Just(Fate::Range)];
    let record = (1_i64..4, fate, 0_i64..1_000, 1_u32..5, any::<bool>());
    proptest::collection::vec(record, 1..120).prop_map(|records| {
        let mut offset = START;
        let plan = |(gap, fate, timestamp_ms, attempts, replayed)| {
            let is_replay = replayed && (fate != Fate::Range);
            let origin = if is_replay { Origin::Replayed } else { Origin::Produced };
            let attempts = if fate == Fate::Range { 1 } else { attempts };
            let plan = Plan { offset, next: offset + gap, fate, timestamp_ms, attempts, origin };
            offset += gap;
            plan
        };
        records.into_iter().map(plan).collect()
    })
}

#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    /// Makes the next attempt at one of the incomplete records.
    Attempt(prop::sample::Index),
    Commit,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_usize..12).prop_map(Step::Read),
        10 => any::<prop::sample::Index>().prop_map(Step::Attempt),
        3 => Just(Step::Commit),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 0..250)
}

/// A worker without IO: it reads a log, retries records, commits and crashes.
struct Worker<'a> {
    log: &'a [Plan],
    state: PartitionState,
    next_read: usize,
    /// Attempts made at the incomplete records.
    attempts: BTreeMap<i64, u32>,
    committed: Checkpoint,
}

impl<'a> Worker<'a> {
    fn new(log: &'a [Plan]) -> Self {
        let state = state();
        let committed = state.checkpoint().unwrap();
        Self { log, state, next_read: 0, attempts: BTreeMap::new(), committed }
    }

    fn read(&mut self, records: usize) {
        for _ in 0..records {
            let Some(plan) = self.log.get(self.next_read) else { break };
            if plan.fate == Fate::Range
                && self.state.is_range_incomplete(plan.offset..=plan.next - 1)
            {
                return;
            }
            if !self.state.has_room_for(plan.next - 1) {
                break;
            }
            self.next_read += 1;
            if plan.fate == Fate::Range {
                if let Some((offset, attempts)) =
                    self.state.admit_range(plan.offset..=plan.next - 1)
                {
                    assert_eq!((offset, attempts), (plan.offset, 0));
                    self.attempts.insert(offset, 0);
                    // No later record is read before its dead letter is written.
                    self.next_read -= 1;
                    return;
                }
                continue;
            }
            if let Admission::Process { attempts } = self.state.admit(plan.offset) {
                self.attempts.insert(plan.offset, attempts);
                // Most records are done with their first attempt.
                if plan.attempts <= 2 {
                    self.attempt(plan.offset);
                }
            }
        }
        let next = self.log.get(self.next_read).map_or(i64::MAX / 2, |plan| plan.offset);
        self.state.advance_to(next);
    }

    fn attempt(&mut self, offset: i64) {
        let plan = self.log.iter().find(|plan| plan.offset == offset).unwrap();
        let attempts = self.attempts[&offset] + 1;
        if attempts < plan.attempts {
            self.attempts.insert(offset, attempts);
            self.state.record_attempts(offset, attempts);
            return;
        }
        self.attempts.remove(&offset);
        let is_complete = match plan.fate {
            Fate::Order(price) => self.state.complete_order(
                offset,
                CompletedOrder {
                    timestamp_ms: plan.timestamp_ms,
                    price,
                    attempts,
                    origin: plan.origin,
                },
            ),
            Fate::DeadLetter => self.state.complete_dead_letter(offset, attempts, plan.origin),
            Fate::Range => self.state.complete_range(offset, plan.next - 1, attempts),
        };
        assert!(is_complete);
    }

    fn crash(&mut self) {
        let Checkpoint { offset, metadata, .. } = &self.committed;
        let restored =
            PartitionState::restore(metadata, TOPIC_ID, *offset, Capacity::DEFAULT).unwrap();
        self.state = restored.state;
        self.attempts.clear();
        self.next_read = self.log.partition_point(|plan| plan.next <= self.state.committable());
    }

    /// Checks that the numbers cover exactly the complete records.
    fn check_numbers(&self) {
        let tracker = &self.state.contents.tracker;
        let is_complete = |plan: &&Plan| {
            plan.offset < self.state.dispatch_frontier()
                && tracker.observe(plan.offset) == Observed::Complete
        };
        let complete = self.log.iter().filter(is_complete).count();
        assert_eq!(self.state.aggregate().records(), u64::try_from(complete).unwrap());
    }
}

/// Returns the numbers of a log that is processed without crashes.
fn expected(log: &[Plan]) -> Aggregate {
    let mut aggregate = Aggregate::default();
    for plan in log {
        match plan.fate {
            Fate::Order(price) => aggregate.add_order(plan.timestamp_ms, price),
            Fate::DeadLetter | Fate::Range => aggregate.add_dead_letter(),
        }
        aggregate.add_retries(plan.attempts - 1);
        if plan.origin == Origin::Replayed {
            aggregate.add_replayed();
        }
    }
    aggregate
}

proptest! {
    #[test]
    fn any_order_of_work_with_any_crashes_gives_the_same_numbers(log in log(), steps in steps()) {
        let mut worker = Worker::new(&log);
        for step in steps {
            match step {
                Step::Read(records) => worker.read(records),
                Step::Attempt(index) if !worker.attempts.is_empty() => {
                    let offsets: Vec<_> = worker.attempts.keys().copied().collect();
                    worker.attempt(*index.get(&offsets));
                }
                Step::Attempt(_) => {}
                Step::Commit => {
                    let checkpoint = worker.state.checkpoint().unwrap();
                    prop_assert!(checkpoint.offset >= worker.committed.offset);
                    worker.committed = checkpoint;
                }
                Step::Crash => worker.crash(),
            }
            worker.check_numbers();
        }
        worker.read(log.len());
        while let Some((offset, _)) = worker.attempts.first_key_value() {
            worker.attempt(*offset);
            worker.read(log.len());
        }
        worker.check_numbers();
        prop_assert_eq!(worker.state.aggregate(), &expected(&log));
        prop_assert_eq!(worker.state.incomplete(), 0);
    }
}

#[test]
fn the_sum_is_exact_where_a_sum_of_floats_is_not() {
    let mut state = state();
    for offset in 0..100_000 {
        state.admit(START + offset);
        state.complete_order(START + offset, order(0.1));
    }
    assert_eq!(state.aggregate().sum().to_string(), "10000");
    assert_eq!(state.aggregate().average().map(Micros::millionths), Some(100_000));
}
