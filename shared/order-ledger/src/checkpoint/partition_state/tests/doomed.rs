//! No attempt at a record follows its dead letter, wherever the worker is killed and whatever the handler answers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::{START, TOPIC_ID, order, restart, state};

#[test]
fn a_doomed_record_stays_doomed_through_restarts_until_its_letter_is_written() {
    let mut state = state();
    for offset in 100..103 {
        state.admit(offset);
    }
    state.doom(101, 4, ErrorType::RetriesExhausted);
    state.doom(102, 0, ErrorType::Truncated);
    let mut state = restart(&restart(&state));
    let exhausted = Admission::Doomed { attempts: 4, reason: Some(ErrorType::RetriesExhausted) };
    assert_eq!(state.admit(100), Admission::Process { attempts: 0 });
    assert_eq!(state.admit(101), exhausted);
    let found_again = Admission::Doomed { attempts: 0, reason: None };
    assert_eq!(state.admit(102), found_again, "its bytes say why");
    assert!(state.complete_order(100, order(1.0)));
    assert!(state.complete_dead_letter(101, 4, Origin::Produced));
    let mut state = restart(&state);
    assert_eq!(state.committable(), 102);
    assert_eq!(state.admit(102), found_again);
    assert!(state.complete_dead_letter(102, 0, Origin::Produced));
    assert_eq!((state.aggregate().dead_letters(), state.aggregate().retries()), (2, 3));
    assert_eq!(
        (state.contents.reasons.len(), state.contents.tracker.marked_offsets().len()),
        (0, 0)
    );
}

#[test]
fn doomed_records_that_the_log_has_lost_are_forgotten() {
    let mut state = state();
    (100..104).for_each(|offset| assert_ne!(state.admit(offset), Admission::Skip));
    state.doom(101, 1, ErrorType::Panic);
    state.doom(103, 1, ErrorType::Panic);
    let mut state = restart(&state);
    assert_eq!(state.advance_to(102), 2);
    assert_eq!(state.contents.reasons, BTreeMap::from([(103, ErrorType::Panic)]));
    assert_eq!(state.contents.tracker.marked_offsets(), &BTreeSet::from([103]));
}

/// The handler's answer to one attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Done,
    Later,
    Refused,
}

#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Attempt(prop::sample::Index, Answer),
    /// A commit whose response arrives.
    Commit,
    /// A commit whose response is lost.
    CommitUnheard,
    /// A dead letter that may be written reaches the topic.
    Write(prop::sample::Index),
    /// The acknowledgement of a dead letter arrives.
    Hear(prop::sample::Index),
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answer = || prop_oneof![Just(Answer::Done), Just(Answer::Later), Just(Answer::Refused)];
    let step = prop_oneof![
        3 => (1_usize..6).prop_map(Step::Read),
        8 => (any::<prop::sample::Index>(), answer()).prop_map(|(i, a)| Step::Attempt(i, a)),
        3 => Just(Step::Commit),
        1 => Just(Step::CommitUnheard),
        5 => any::<prop::sample::Index>().prop_map(Step::Write),
        4 => any::<prop::sample::Index>().prop_map(Step::Hear),
        2 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 0..250)
}

/// The worker's own state of an incomplete record.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    /// An attempt may be made.
    Open(u32),
    /// Its dead letter waits for a commit of this revision.
    Doomed(u64),
    /// Its dead letter is in flight.
    Letter,
}

/// A worker without IO on a log of `records`, and its dead-letter topic.
struct Worker {
    records: i64,
    state: PartitionState,
    next_read: i64,
    held: BTreeMap<i64, Held>,
    durable: u64,
    committed: Checkpoint,
    /// How often the topic holds the dead letter of each record.
    letters: BTreeMap<i64, u32>,
    /// The records that the state counts as orders, and the committed ones among them.
    orders: BTreeSet<i64>,
    committed_orders: BTreeSet<i64>,
}

impl Worker {
    fn new(records: i64) -> Self {
        let state = state();
        Self {
            records,
            next_read: START,
            held: BTreeMap::new(),
            durable: state.revision(),
            committed: state.checkpoint().unwrap(),
            state,
            letters: BTreeMap::new(),
            orders: BTreeSet::new(),
            committed_orders: BTreeSet::new(),
        }
    }

    fn read(&mut self, records: usize) {
        for _ in 0..records {
            if self.next_read == START + self.records {
                break;
            }
            let offset = self.next_read;
            self.next_read += 1;
            match self.state.admit(offset) {
                Admission::Process { attempts } => self.held.insert(offset, Held::Open(attempts)),
                // The checkpoint that the worker has begun with names it.
                Admission::Doomed { .. } => self.held.insert(offset, Held::Doomed(0)),
                Admission::Skip => None,
            };
            self.state.advance_to(self.next_read);
        }
    }

    fn attempt(&mut self, offset: i64, answer: Answer) {
        let Held::Open(attempts) = self.held[&offset] else { return };
        let attempts = attempts + 1;
        assert!(!self.letters.contains_key(&offset), "an attempt at a record that has a letter");
        match answer {
            Answer::Done => {
                self.held.remove(&offset);
                assert!(
                    self.state.complete_order(offset, CompletedOrder { attempts, ..order(1.0) })
                );
                self.orders.insert(offset);
            }
            Answer::Later => {
                self.held.insert(offset, Held::Open(attempts));
                self.state.record_attempts(offset, attempts);
            }
            Answer::Refused => {
                self.state.doom(offset, attempts, ErrorType::Rejected);
                self.held.insert(offset, Held::Doomed(self.state.revision()));
            }
        }
    }

    fn commit(&mut self) {
        let checkpoint = self.state.checkpoint().unwrap();
        assert!(checkpoint.offset >= self.committed.offset);
        self.committed = checkpoint;
        self.committed_orders = self.orders.clone();
    }

    fn write(&mut self, offset: i64) {
        let Held::Doomed(revision) = self.held[&offset] else { return };
        if revision <= self.durable {
            *self.letters.entry(offset).or_default() += 1;
            self.held.insert(offset, Held::Letter);
        }
    }

    fn hear(&mut self, offset: i64) {
        if self.held[&offset] == Held::Letter {
            self.held.remove(&offset);
            assert!(self.state.complete_dead_letter(offset, 1, Origin::Produced));
        }
    }

    fn kill(&mut self) {
        let Checkpoint { offset, metadata, .. } = &self.committed;
        let restored =
            PartitionState::restore(metadata, TOPIC_ID, *offset, Capacity::DEFAULT).unwrap();
        self.state = restored.state;
        self.durable = self.state.revision();
        self.held.clear();
        self.next_read = self.state.committable();
        self.orders = self.committed_orders.clone();
    }

    fn step(&mut self, step: &Step) {
        let offsets: Vec<i64> = self.held.keys().copied().collect();
        match step {
            Step::Read(records) => self.read(*records),
            Step::Commit => {
                self.commit();
                self.durable = self.state.revision();
            }
            Step::CommitUnheard => self.commit(),
            Step::Kill => self.kill(),
            Step::Attempt(index, answer) if !offsets.is_empty() => {
                self.attempt(*index.get(&offsets), *answer);
            }
            Step::Write(index) if !offsets.is_empty() => self.write(*index.get(&offsets)),
            Step::Hear(index) if !offsets.is_empty() => self.hear(*index.get(&offsets)),
            Step::Attempt(..) | Step::Write(_) | Step::Hear(_) => {}
        }
    }
}

proptest! {
    #[test]
    fn each_record_counts_once_after_its_letter_is_replayed(records in 1_i64..40, steps in steps()) {
        let mut worker = Worker::new(records);
        for step in &steps {
            worker.step(step);
            let both = worker.orders.iter().find(|offset| worker.letters.contains_key(offset));
            prop_assert_eq!(both, None, "it counts, and its letter can be replayed");
        }
        worker.read(usize::MAX);
        worker.step(&Step::Commit);
        while let Some((&offset, _)) = worker.held.first_key_value() {
            worker.attempt(offset, Answer::Done);
            if worker.held.contains_key(&offset) {
                worker.write(offset);
                worker.hear(offset);
            }
        }
        let numbers = worker.state.aggregate();
        let letters = u64::try_from(worker.letters.len()).unwrap();
        prop_assert_eq!(numbers.dead_letters(), letters, "each letter's record counts as one");
        prop_assert_eq!(numbers.orders(), u64::try_from(worker.orders.len()).unwrap());
        prop_assert_eq!(numbers.orders() + letters, u64::try_from(records).unwrap());
        prop_assert!(worker.orders.iter().all(|offset| !worker.letters.contains_key(offset)));
    }
}
