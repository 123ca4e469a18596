//! One partition of the producer: its batches, the broker they go to, and the pauses after failures.

use std::time::Duration;

use kafka_core::producer::{Attempt, AttemptId, ErrorClass, PartitionProducer, ProducerIdentity};
use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use pacing::Backoff;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::produced;
use super::request::Response;
use super::{NewBatch, Produced};
use crate::cluster::Metadata;

/// Pauses before a batch is sent again, as `retry.backoff.ms` and `retry.backoff.max.ms` of Kafka's own clients.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

pub(super) struct Partition {
    producer: PartitionProducer<oneshot::Sender<Produced>>,
    /// The broker of the attempts on their way.
    sent_to: Option<NodeId>,
    /// Whether the known leader was wrong, or is not known.
    pub(super) needs_leader: bool,
    backoff: Backoff,
    not_before: Option<Instant>,
    /// The producer id that this partition got last.
    given_id: Option<i64>,
    /// The last failure since the last success.
    last_failure: Option<String>,
}

impl Partition {
    pub(super) fn new(refusals_max: u32) -> Self {
        Self {
            producer: PartitionProducer::new().with_refusals(refusals_max),
            sent_to: None,
            needs_leader: false,
            backoff: RETRY_BACKOFF,
            not_before: None,
            given_id: None,
            last_failure: None,
        }
    }

    pub(super) fn push(&mut self, new: NewBatch) {
        let deadline = new.deadline.into_std();
        self.producer.push(new.batch, deadline, new.outcome);
    }

    pub(super) fn has_work(&self) -> bool {
        !self.producer.is_empty()
    }

    /// Gives the producer id if the partition needs one; returns whether it needs another one.
    pub(super) fn needs_another_id(&mut self, identity: Option<ProducerIdentity>) -> bool {
        if !self.producer.needs_producer_id() {
            return false;
        }
        match identity.filter(|identity| self.given_id != Some(identity.id)) {
            Some(identity) => {
                self.given_id = Some(identity.id);
                self.producer.set_producer_id(identity);
                false
            }
            None => true,
        }
    }

    /// Returns the leader to send to, if batches may be sent now. Batches on their way to a former leader are waited for, so that
    /// a new one does not get a later batch first.
    pub(super) fn leader(
        &mut self,
        tp: &TopicPartition,
        known: &Metadata,
        now: Instant,
    ) -> Option<NodeId> {
        if self.needs_leader || self.not_before.is_some_and(|not_before| now < not_before) {
            return None;
        }
        let Some(leader) = known.leader(tp) else {
            self.needs_leader = true;
            return None;
        };
        let is_former = self.sent_to.is_some_and(|node| node != leader.node);
        if is_former && self.producer.on_their_way() > 0 {
            return None;
        }
        self.sent_to = Some(leader.node);
        Some(leader.node)
    }

    /// Returns the next batch to send.
    pub(super) fn next(&mut self, now: Instant) -> Option<Attempt> {
        self.producer.next(now.into_std())
    }

    /// Returns when the partition needs attention without an event: a pause ends, or a batch expires.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let deadline = self.producer.next_deadline().map(Instant::from_std);
        let pause = self.not_before.filter(|not_before| now < *not_before);
        deadline.into_iter().chain(pause).min()
    }

    /// Applies the broker's answer to an attempt; returns the failure, if it is one.
    pub(super) fn on_response(
        &mut self,
        attempt: AttemptId,
        response: Response,
        now: Instant,
    ) -> Option<String> {
        match response {
            Response::Appended { base_offset, log_append_time_ms } => {
                self.producer.on_appended(attempt, base_offset, log_append_time_ms, now.into_std());
                self.on_success();
                None
            }
            Response::Error { error, message } => Some(self.on_error(attempt, error, message, now)),
        }
    }

    fn on_success(&mut self) {
        self.backoff.reset();
        self.not_before = None;
        self.last_failure = None;
    }

    fn on_error(
        &mut self,
        attempt: AttemptId,
        error: ResponseError,
        message: Option<String>,
        now: Instant,
    ) -> String {
        let failure = match &message {
            Some(message) => format!("{error:?} ({message})"),
            None => format!("{error:?}"),
        };
        let class = self.producer.on_error(attempt, error, message);
        match class {
            // A batch that is in the log, or never will be, holds nothing up.
            ErrorClass::Duplicate | ErrorClass::Refused | ErrorClass::NotAuthorised => {}
            ErrorClass::NotWritten
            | ErrorClass::InDoubt
            | ErrorClass::LeaderInDoubt
            | ErrorClass::OutOfOrder
            | ErrorClass::UnknownProducer
            | ErrorClass::Fenced => self.pause(now, &failure),
        }
        self.needs_leader |= class.needs_metadata();
        failure
    }

    /// Applies that an attempt was not sent at all, or has no answer.
    pub(super) fn on_failure(
        &mut self,
        attempt: AttemptId,
        is_sent: bool,
        failure: &str,
        now: Instant,
    ) {
        if is_sent {
            self.producer.on_unanswered(attempt);
        } else {
            self.producer.on_unsent(attempt);
        }
        self.needs_leader = true;
        self.pause(now, failure);
    }

    /// Returns why batches wait, since the last success.
    pub(super) fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    /// Notes why the partition cannot be written to before anything was sent.
    pub(super) fn note_failure(&mut self, failure: &str) {
        self.last_failure = Some(failure.to_owned());
    }

    /// Several attempts that fail together are one failure.
    fn pause(&mut self, now: Instant, failure: &str) {
        if self.not_before.is_none_or(|not_before| not_before <= now) {
            self.not_before = Some(now + self.backoff.advance());
            self.note_failure(failure);
        }
    }

    /// Expires what is due and reports outcomes to the callers.
    pub(super) fn settle(&mut self, tp: &TopicPartition, now: Instant) {
        self.producer.expire(now.into_std());
        while let Some(outcome) = self.producer.pop_outcome() {
            let produced = produced(tp, outcome.delivery, self.last_failure.as_deref());
            if outcome.token.send(produced).is_err() {
                tracing::debug!(%tp, "the outcome of a batch is not awaited");
            }
        }
    }
}
