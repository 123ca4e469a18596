//! The producer of one partition: its queue, what it sends next, and what the answers mean.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;

use super::entry::{Doubt, Entry, State};
use super::error_class::ErrorClass;
use super::outcome::{
    Attempt, AttemptId, BrokerError, Delivery, Outcome, ProducerIdentity, Written,
};
use super::sequence::{Gap, advance};
use crate::record_batch::EncodedBatch;

/// How many batches of a producer the broker can recognise in a partition. No more are sent from the oldest unresolved one on.
pub const BATCHES_SENT_MAX: usize = 5;
/// How long after an acknowledgement the leader is taken to have state of the producer. Any time far below
/// `producer.id.expiration.ms` will do.
const STATE_TRUSTED_FOR: Duration = Duration::from_mins(1);

/// The idempotent producer of one partition. `T` is the caller's token of a batch.
///
/// Every method may be called at any time. Answers to attempts that are no longer waited for have no effect.
#[derive(Debug)]
pub struct PartitionProducer<T> {
    /// Batches without an outcome that was taken. Those with a number precede those that have yet to get one.
    pub(super) entries: VecDeque<Entry<T>>,
    /// Only batches before this index can have a number or an outcome. The rest of the queue is not looked through.
    pub(super) touched: usize,
    pub(super) identity: Option<ProducerIdentity>,
    pub(super) next_sequence: i32,
    pub(super) gap: Gap,
    /// Whether the broker refused the epoch or the id, so that only a new id helps.
    pub(super) is_fenced: bool,
    /// The number after those of the last batch that is known to be in the log.
    pub(super) delivered_to: i32,
    /// The last acknowledgement, if no error came after it: the leader has state of this epoch, so batches may follow
    /// each other without waiting.
    pub(super) acknowledged_at: Option<Instant>,
    next_attempt: u64,
    /// How often a refused batch is sent again.
    refusals_max: u32,
}

impl<T> PartitionProducer<T> {
    /// Creates the producer of one partition. It sends nothing before it has a producer id.
    pub fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            touched: 0,
            identity: None,
            next_sequence: 0,
            gap: Gap::None,
            is_fenced: false,
            delivered_to: 0,
            acknowledged_at: None,
            next_attempt: 0,
            refusals_max: 0,
        }
    }

    /// Sets how often a batch that the broker refuses is sent again, before the batches behind it. One that is too large is
    /// refused at once.
    #[must_use]
    pub fn with_refusals(mut self, refusals_max: u32) -> Self {
        self.refusals_max = refusals_max;
        self
    }

    /// Returns whether a producer id is needed: at first, when the epochs of an id are used up, and when the broker no
    /// longer accepts the id. Nothing is on its way then.
    pub fn needs_producer_id(&self) -> bool {
        self.identity.is_none()
    }

    /// Sets the identity that `InitProducerId` returned. It has no effect unless one is needed.
    pub fn set_producer_id(&mut self, identity: ProducerIdentity) {
        self.identity.get_or_insert(identity);
    }

    /// Returns the present producer id and epoch.
    pub fn identity(&self) -> Option<ProducerIdentity> {
        self.identity
    }

    /// Appends a batch to the queue. It expires at `deadline` if it is not acknowledged until then, but not before the
    /// batches ahead of it.
    pub fn push(&mut self, batch: EncodedBatch, deadline: Instant, token: T) {
        let deadline = self.entries.back().map_or(deadline, |last| deadline.max(last.deadline));
        self.entries.push_back(Entry {
            batch,
            deadline,
            token,
            sequence: None,
            doubt: Doubt::Clean,
            state: State::Waiting,
            last_error: None,
            refusals: 0,
        });
    }

    /// Returns how many batches are in the queue, including those whose outcome waits to be taken.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns how many batches are on their way to the broker.
    pub fn on_their_way(&self) -> usize {
        self.touched().filter(|entry| entry.is_on_its_way()).count()
    }

    /// Expires what is due, then returns the next batch to send, if one may be sent. It counts as on its way until it is
    /// answered. Attempts must reach a connection in the order in which this method returned them.
    pub fn next(&mut self, now: Instant) -> Option<Attempt> {
        self.expire(now);
        let identity = self.identity?;
        self.distrust_when_idle(now);
        let index = match self.gap {
            Gap::None => self.next_in_order()?,
            Gap::Hole | Gap::Broken => self.next_probe()?,
        };
        let is_conclusive =
            !self.entries.range(..index).any(Entry::is_unresolved) || self.gap != Gap::None;
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        self.touched = self.touched.max(index + 1);
        let entry = &mut self.entries[index];
        let sequence = *entry.sequence.get_or_insert_with(|| {
            let sequence = self.next_sequence;
            self.next_sequence = advance(sequence, entry.batch.record_count());
            sequence
        });
        entry.state = State::OnItsWay { attempt, is_conclusive };
        let bytes = entry.batch.stamped(identity.id, identity.epoch, sequence);
        Some(Attempt { id: attempt, bytes, deadline: entry.deadline })
    }

    /// Returns the first batch that waits, if it may be sent without a gap.
    fn next_in_order(&self) -> Option<usize> {
        let first = self.touched().position(Entry::is_waiting);
        let index = first.unwrap_or(self.touched);
        let is_new = self.entries.get(index)?.sequence.is_none();
        let sent = self.touched().skip_while(|entry| !entry.is_unresolved());
        if is_new && (BATCHES_SENT_MAX <= sent.filter(|e| e.sequence.is_some()).count()) {
            return None;
        }
        let is_trusted = self.acknowledged_at.is_some();
        (is_trusted || self.on_their_way() == 0).then_some(index)
    }

    /// Forgets the last acknowledgement when nothing was sent for long: the leader may have forgotten the producer.
    fn distrust_when_idle(&mut self, now: Instant) {
        let is_old = self.acknowledged_at.is_some_and(|acknowledged_at| {
            STATE_TRUSTED_FOR <= now.saturating_duration_since(acknowledged_at)
        });
        if is_old && !self.touched().any(Entry::is_unresolved) {
            self.acknowledged_at = None;
        }
    }

    /// Reports that the leader appended the batch, or had it already. The response's `base_offset` and
    /// `log_append_time_ms` are −1 when they are unknown or do not apply.
    pub fn on_appended(
        &mut self,
        attempt: AttemptId,
        base_offset: i64,
        log_append_time_ms: i64,
        now: Instant,
    ) {
        if let Some(index) = self.attempted(attempt) {
            let known = |number: i64| (0 <= number).then_some(number);
            self.deliver(index, known(base_offset), known(log_append_time_ms));
            self.acknowledged_at = Some(now);
            self.settle();
        }
    }

    /// Reports that the broker answered with an error, and its `error_message`. Returns what the error means.
    pub fn on_error(
        &mut self,
        attempt: AttemptId,
        error: ResponseError,
        message: Option<String>,
    ) -> ErrorClass {
        let mut class = ErrorClass::of(error);
        let is_conclusive = self.is_conclusive(attempt);
        let Some(index) = self.attempted(attempt) else {
            return class;
        };
        let broker_error = BrokerError { error, message };
        let entry = &mut self.entries[index];
        if class.may_pass(error) && entry.refusals < self.refusals_max {
            entry.refusals += 1;
            class = ErrorClass::NotWritten;
        }
        entry.last_error = Some(broker_error.clone());
        self.acknowledged_at = None;
        match class {
            ErrorClass::Refused | ErrorClass::NotAuthorised => self.refuse(index, broker_error),
            ErrorClass::NotWritten => {}
            ErrorClass::InDoubt | ErrorClass::LeaderInDoubt => entry.raise_doubt(Doubt::Answered),
            ErrorClass::Duplicate => self.deliver(index, None, None),
            ErrorClass::OutOfOrder => {
                if is_conclusive {
                    self.displace(index);
                }
            }
            ErrorClass::UnknownProducer => {
                if is_conclusive {
                    self.loosen(index);
                    self.displace(index);
                }
            }
            ErrorClass::Fenced => {
                self.is_fenced = true;
                self.loosen(index);
                self.displace(index);
            }
        }
        self.settle();
        class
    }

    /// Reports that there will be no answer: the connection broke or the request timed out after it was written, in whole
    /// or in part.
    pub fn on_unanswered(&mut self, attempt: AttemptId) {
        if let Some(index) = self.attempted(attempt) {
            self.entries[index].raise_doubt(Doubt::Loose);
            self.acknowledged_at = None;
            self.settle();
        }
    }

    /// Reports that no byte of the request was written, or that it was not sent because the connection was gone.
    pub fn on_unsent(&mut self, attempt: AttemptId) {
        if self.attempted(attempt).is_some() {
            self.acknowledged_at = None;
            self.settle();
        }
    }

    /// Returns the earliest deadline of the batches without an outcome.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.entries.iter().find(|entry| !entry.is_done()).map(|entry| entry.deadline)
    }

    /// Gives up the batches whose deadline has come, also if they are on their way.
    pub fn expire(&mut self, now: Instant) {
        let mut any = false;
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            if entry.is_done() {
                continue;
            }
            if now < entry.deadline {
                break;
            }
            any = true;
            self.touched = self.touched.max(index + 1);
            let last_error = entry.last_error.clone();
            if !entry.may_be_written() {
                let written = Written::No;
                self.entries[index].state = State::Done(Delivery::Expired { written, last_error });
                self.note_hole(index);
            } else if self.is_proven(index) {
                self.deliver(index, None, None);
            } else {
                let written = Written::Unknown;
                self.abandon(index, Delivery::Expired { written, last_error });
            }
        }
        if any {
            self.acknowledged_at = None;
            self.settle();
        }
    }

    /// Takes the outcome of the oldest batch, once it is known.
    pub fn pop_outcome(&mut self) -> Option<Outcome<T>> {
        let front = self.entries.pop_front_if(|entry| entry.is_done())?;
        self.touched -= 1;
        match front.state {
            State::Done(delivery) => {
                Some(Outcome { token: front.token, batch: front.batch, delivery })
            }
            State::Waiting | State::OnItsWay { .. } | State::OutOfOrder => None,
        }
    }

    pub(super) fn touched(&self) -> impl Iterator<Item = &Entry<T>> {
        self.entries.range(..self.touched)
    }

    fn is_conclusive(&self, sought: AttemptId) -> bool {
        self.touched().any(|entry| match entry.state {
            State::OnItsWay { attempt, is_conclusive } => (attempt == sought) && is_conclusive,
            State::Waiting | State::OutOfOrder | State::Done(_) => false,
        })
    }

    /// Finds the batch of an attempt that is on its way, and lets it wait.
    fn attempted(&mut self, sought: AttemptId) -> Option<usize> {
        let index = self.touched().position(|entry| match entry.state {
            State::OnItsWay { attempt, .. } => attempt == sought,
            State::Waiting | State::OutOfOrder | State::Done(_) => false,
        })?;
        self.entries[index].state = State::Waiting;
        Some(index)
    }
}

impl<T> Default for PartitionProducer<T> {
    fn default() -> Self {
        Self::new()
    }
}
