//! The producer against a model of the broker, over connections that lose, delay and reorder.

use std::time::{Duration, Instant};

use kafka_protocol::ResponseError as E;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::entry::{Doubt, Entry};
use super::super::{Delivery, PartitionProducer, ProducerIdentity, Written};
use super::model::{Broker, Connection, Verdict};
use super::{batch, origin};

const DAY: Duration = Duration::from_hours(24);
/// How many rounds with a healthy broker resolve any queue of the lengths that occur here.
const ROUNDS_MAX: usize = 400;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push {
        records: usize,
        ttl_ms: u64,
    },
    Send,
    /// The broker handles the next request of a connection, open or closed.
    Serve(usize, Verdict),
    Answer,
    Break {
        lost: usize,
    },
    Unsend,
    Wait {
        ms: u64,
    },
    /// A day passes, and the broker forgets the producer.
    Forget,
    Restart {
        remembered: usize,
    },
    Truncate {
        batches: usize,
        remembered: usize,
    },
    TruncateUncleanly {
        batches: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Start {
    epoch: i16,
    sequence: i32,
    is_old_broker: bool,
    strays_arrive_first: bool,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let after = [
        E::NotLeaderOrFollower,
        E::UnknownTopicOrPartition,
        E::NotEnoughReplicasAfterAppend,
        E::RequestTimedOut,
        E::KafkaStorageError,
        E::UnknownServerError,
    ];
    let before =
        [E::NotEnoughReplicas, E::NotLeaderOrFollower, E::CorruptMessage, E::UnknownServerError];
    let refused = [E::MessageTooLarge, E::TopicAuthorizationFailed];
    prop_oneof![
        16 => Just(Verdict::Replicated),
        4 => prop::sample::select(after.to_vec()).prop_map(Verdict::AfterAppend),
        4 => prop::sample::select(before.to_vec()).prop_map(Verdict::BeforeAppend),
        1 => prop::sample::select(refused.to_vec()).prop_map(Verdict::BeforeAppend),
    ]
}

fn clean_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..4_usize, prop_oneof![200..400_u64, 5_000..9_000_u64])
            .prop_map(|(records, ttl_ms)| Step::Push { records, ttl_ms }),
        20 => Just(Step::Send),
        16 => (prop_oneof![4 => Just(0_usize), 1 => 1..4_usize], verdict())
            .prop_map(|(connection, verdict)| Step::Serve(connection, verdict)),
        14 => Just(Step::Answer),
        2 => (0..3_usize).prop_map(|lost| Step::Break { lost }),
        1 => Just(Step::Unsend),
        2 => (1..200_u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Forget),
        1 => prop::sample::select(vec![1, 2, 5]).prop_map(|remembered| Step::Restart { remembered }),
        2 => (1..4_usize, prop::sample::select(vec![1, 5]))
            .prop_map(|(batches, remembered)| Step::Truncate { batches, remembered }),
    ]
}

fn unclean_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => clean_step(),
        1 => (1..8_usize).prop_map(|batches| Step::TruncateUncleanly { batches }),
        1 => Just(Step::Serve(0, Verdict::BeforeAppend(E::InvalidProducerEpoch))),
    ]
}

fn start() -> impl Strategy<Value = Start> {
    let epoch = prop::sample::select(vec![0, 0, 7, i16::MAX - 1, i16::MAX]);
    let sequence = prop::sample::select(vec![0, 0, i32::MAX - 7, i32::MAX]);
    (epoch, sequence, any::<bool>(), any::<bool>()).prop_map(
        |(epoch, sequence, is_old_broker, strays_arrive_first)| Start {
            epoch,
            // An old broker knows only producers that start at 0.
            sequence: if is_old_broker { 0 } else { sequence },
            is_old_broker,
            strays_arrive_first,
        },
    )
}

/// A producer, a broker, and the connections between them; the last one is open.
struct World {
    producer: PartitionProducer<usize>,
    broker: Broker,
    connections: Vec<Connection>,
    now: Instant,
    pushed: usize,
    outcomes: Vec<Delivery>,
    identity: ProducerIdentity,
    /// Whether something happened that may cost an epoch.
    may_bump: bool,
    /// Whether the broker ever remembered less than five batches.
    is_forgetful: bool,
    is_clean: bool,
}

impl World {
    fn new(start: Start, is_clean: bool) -> Self {
        let identity = ProducerIdentity { id: 100, epoch: start.epoch };
        let mut producer = PartitionProducer::new();
        producer.set_producer_id(identity);
        (producer.next_sequence, producer.delivered_to) = (start.sequence, start.sequence);
        Self {
            producer,
            broker: Broker::new(start.is_old_broker),
            connections: vec![Connection::default()],
            now: origin(),
            pushed: 0,
            outcomes: Vec::new(),
            identity,
            may_bump: false,
            is_forgetful: false,
            is_clean,
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Push { records, ttl_ms } => {
                let deadline = self.now + Duration::from_millis(ttl_ms);
                self.producer.push(batch(self.pushed, records), deadline, self.pushed);
                self.pushed += 1;
            }
            Step::Send => {
                self.send();
            }
            Step::Serve(back, verdict) => {
                let index = self.connections.len().saturating_sub(back + 1);
                self.serve(index, verdict);
            }
            Step::Answer => {
                self.answer();
            }
            Step::Break { lost } => {
                let unanswered = self.open().close(lost);
                self.connections.push(Connection::default());
                for attempt in unanswered {
                    self.producer.on_unanswered(attempt);
                }
            }
            Step::Unsend => {
                if let Some(attempt) = self.open().unsend() {
                    self.producer.on_unsent(attempt);
                }
            }
            Step::Wait { ms } => self.wait(Duration::from_millis(ms)),
            Step::Forget => {
                let in_doubt = self.producer.entries.iter().any(Entry::may_be_written);
                if !in_doubt && self.connections.iter().all(Connection::is_quiet) {
                    self.broker.forget();
                    self.may_bump = true;
                    self.wait(DAY);
                }
            }
            Step::Restart { remembered } => self.reload(remembered),
            Step::Truncate { batches, remembered } => {
                let before = self.broker.log.len();
                self.broker.truncate(batches);
                // A broker that does not recognise a batch, and then loses it with those behind it, refuses all of them.
                self.may_bump |= self.is_forgetful && (self.broker.log.len() < before);
                self.reload(remembered);
            }
            Step::TruncateUncleanly { batches } => {
                self.broker.truncate_uncleanly(batches);
                self.broker.reload(5);
                self.may_bump = true;
            }
        }
        self.check()
    }

    fn reload(&mut self, remembered: usize) {
        self.broker.reload(remembered);
        self.is_forgetful |= remembered < 5;
    }

    fn open(&mut self) -> &mut Connection {
        self.connections.last_mut().unwrap()
    }

    fn send(&mut self) -> bool {
        if self.producer.needs_producer_id() {
            assert_eq!(self.producer.on_their_way(), 0);
            self.identity = ProducerIdentity { id: self.identity.id + 1, epoch: 0 };
            self.producer.set_producer_id(self.identity);
        }
        let Some(attempt) = self.producer.next(self.now) else {
            return false;
        };
        assert!(self.producer.on_their_way() <= 5);
        self.open().send(attempt);
        true
    }

    fn serve(&mut self, index: usize, verdict: Verdict) -> bool {
        if let Verdict::BeforeAppend(
            E::MessageTooLarge | E::TopicAuthorizationFailed | E::InvalidProducerEpoch,
        ) = verdict
        {
            self.may_bump = true;
        }
        self.connections[index].serve(&mut self.broker, verdict)
    }

    fn answer(&mut self) -> bool {
        let Some((attempt, answer)) = self.open().answer() else {
            return false;
        };
        match answer {
            Ok(offset) => self.producer.on_appended(attempt, offset, -1, self.now),
            Err(error) => {
                self.producer.on_error(attempt, error, None);
            }
        }
        true
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        if self.producer.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.may_bump = true;
        }
        self.producer.expire(self.now);
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        while let Some(outcome) = self.producer.pop_outcome() {
            prop_assert_eq!(outcome.token, self.outcomes.len());
            self.outcomes.push(outcome.delivery);
        }
        for batch in 0..self.pushed {
            prop_assert!(self.broker.copies(batch) <= 1, "batch {} is written twice", batch);
        }
        if !self.may_bump
            && let Some(identity) = self.producer.identity()
        {
            prop_assert_eq!(identity, self.identity, "an epoch was given up without need");
        }
        Ok(())
    }

    /// Lets everything succeed, without any time passing, until all outcomes are known.
    fn heal(&mut self, strays_arrive_first: bool) -> Result<(), TestCaseError> {
        let last = self.connections.len() - 1;
        if strays_arrive_first {
            self.serve_all(last)?;
        }
        let is_clean = |entry: &Entry<usize>| !entry.is_done() && (entry.doubt == Doubt::Clean);
        let deliverable: Vec<_> = self
            .producer
            .entries
            .iter()
            .filter(|entry| is_clean(entry) && !entry.is_on_its_way())
            .map(|entry| entry.token)
            .collect();
        for _ in 0..ROUNDS_MAX {
            while self.send() {}
            while self.serve(last, Verdict::Replicated) {}
            while self.answer() {}
            self.check()?;
            if self.outcomes.len() == self.pushed {
                break;
            }
        }
        prop_assert_eq!(self.outcomes.len(), self.pushed, "{:#?}", self.producer);
        for batch in deliverable {
            let outcome = &self.outcomes[batch];
            prop_assert!(matches!(outcome, Delivery::Delivered { .. }), "{} {:?}", batch, outcome);
        }
        self.serve_all(last)
    }

    fn serve_all(&mut self, end: usize) -> Result<(), TestCaseError> {
        for index in 0..end {
            while self.serve(index, Verdict::Replicated) {
                self.check()?;
            }
        }
        Ok(())
    }

    fn judge(&self) -> Result<(), TestCaseError> {
        let mut last_delivered = None;
        for (batch, outcome) in self.outcomes.iter().enumerate() {
            let copies = self.broker.copies(batch);
            match outcome {
                Delivery::Delivered { base_offset, .. } if self.is_clean => {
                    prop_assert_eq!(copies, 1, "batch {} is delivered", batch);
                    let at = self.broker.log.iter().position(|appended| appended.batch == batch);
                    prop_assert!(last_delivered < at, "batch {} is out of order", batch);
                    last_delivered = at;
                    let offset = at.map(|at| i64::try_from(at).unwrap());
                    prop_assert!(base_offset.is_none() || (*base_offset == offset));
                }
                Delivery::Delivered { .. }
                | Delivery::InDoubt { .. }
                | Delivery::Expired { written: Written::Unknown, .. } => {}
                Delivery::Refused(_) | Delivery::Expired { written: Written::No, .. } => {
                    prop_assert_eq!(copies, 0, "batch {} is not written", batch);
                }
            }
        }
        let mut last_of_epoch = std::collections::BTreeMap::new();
        for appended in &self.broker.log {
            let before = last_of_epoch.insert(appended.producer, appended.batch);
            prop_assert!(before < Some(appended.batch), "{:?} is out of order", appended);
        }
        Ok(())
    }
}

fn run(start: Start, steps: &[Step], is_clean: bool) -> Result<(), TestCaseError> {
    let mut world = World::new(start, is_clean);
    for step in steps {
        world.step(*step)?;
    }
    world.heal(start.strays_arrive_first)?;
    world.judge()
}

proptest! {
    #[test]
    fn batches_are_written_once_and_in_order_whatever_happens(
        start in start(),
        steps in vec(clean_step(), 1..120),
    ) {
        run(start, &steps, true)?;
    }

    #[test]
    fn nothing_is_written_twice_even_after_unclean_elections(
        start in start(),
        steps in vec(unclean_step(), 1..120),
    ) {
        run(start, &steps, false)?;
    }
}
