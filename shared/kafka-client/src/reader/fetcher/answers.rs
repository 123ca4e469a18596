//! What becomes of answers.

use std::sync::Arc;

use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use tokio::time::Instant;

use super::super::Fetched;
use super::super::damage::Next;
use super::super::exchange::Answered;
use super::super::lanes::{Asked, Solo, Standing};
use super::super::response::{Context, ERROR_PAUSE, Outcome, Read, read_partition};
use super::super::session::{Key, Params};
use super::super::source::{Channel, Source};
use super::{Fetcher, METADATA_AGE_MAX};
use crate::error::{ClientError, chain};
use crate::fetch::{FetchAnswer, PartitionAnswer, TopicRef};

impl Fetcher {
    pub(super) fn on_answered(&mut self, node: NodeId, lane: usize, answered: Answered) {
        let Answered { asked, connection, answer, was_idle } = answered;
        let broker = self.broker(node);
        broker.connections[lane] = connection;
        let alone = broker.lanes.asked_alone(lane).cloned();
        let session = broker.lanes.end(lane);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                session.begin_anew();
                if !was_idle {
                    self.on_broker_error(node, &error);
                }
                self.settle_all(alone);
                return;
            }
        };
        match (&asked, ResponseError::try_from_code(answer.error_code)) {
            (Asked::Session(_), None) => session.on_answer(answer.session_id),
            (Asked::Solo(_), None) => {}
            (Asked::Session(_), Some(ResponseError::FetchSessionIdNotFound)) => {
                return session.on_unknown();
            }
            (
                Asked::Session(_),
                Some(
                    ResponseError::InvalidFetchSessionEpoch
                    | ResponseError::FetchSessionTopicIdError,
                ),
            ) => return session.begin_anew(),
            (_, Some(error)) => {
                session.begin_anew();
                self.on_broker_error(node, &ClientError::refused("fetch", error));
                self.settle_all(alone);
                return;
            }
        }
        let broker = self.broker(node);
        broker.backoff.reset();
        broker.report.reset();
        self.note_leaders(&answer);
        match (&asked, alone) {
            (Asked::Solo(solo), Some(key)) => self.on_solo(&key, solo, answer),
            (Asked::Solo(_), None) => {}
            (Asked::Session(_), _) => self.on_session(node, lane, answer),
        }
    }

    fn on_session(&mut self, node: NodeId, lane: usize, answer: FetchAnswer) {
        let bytes: usize = answer.partitions.iter().map(|answer| answer.records.len()).sum();
        let is_empty = answer.partitions.iter().all(|answer| answer.records.is_empty());
        let is_throttled = answer.throttle_time_ms > 0;
        let lagging = if is_empty && !is_throttled {
            self.broker(node).lanes.lagging(lane)
        } else {
            Vec::new()
        };
        let is_full = usize::try_from(self.config.response_bytes_max).is_ok_and(|max| max <= bytes);
        for partition in answer.partitions {
            let Some(tp) = self.find(&partition) else { continue };
            let Some(source) = self.sources.get(&tp) else { continue };
            let key = source.key();
            let Some(params) = self.broker(node).lanes.asked(lane, &key) else { continue };
            let context = Context { params, is_full, was_first: false, wait: self.config.wait_max };
            self.on_partition(&tp, partition, context);
        }
        for key in lagging {
            // It may have been moved or stopped by its part of the answer.
            if self.broker(node).lanes.asked(lane, &key).is_none() {
                continue;
            }
            if let Some(source) = self.sources.get_mut(&key.tp)
                && source.standing() == Standing::Lags
            {
                source.place.on_nothing();
                self.settle(&key.tp);
            }
        }
    }

    fn on_solo(&mut self, key: &Key, solo: &Solo, answer: FetchAnswer) {
        let is_throttled = answer.throttle_time_ms > 0;
        let (params, wait) = (solo.params, solo.wait);
        let context = Context { params, is_full: false, was_first: true, wait };
        let part = answer.partitions.into_iter().next();
        match part {
            Some(part) if !(is_throttled && part.records.is_empty()) => {
                self.on_partition(&key.tp, part, context);
            }
            _ => self.settle(&key.tp),
        }
    }

    fn settle_all(&mut self, alone: Option<Key>) {
        if let Some(key) = alone {
            self.settle(&key.tp);
        }
    }

    /// Returns the partition that a part of an answer is about.
    fn find(&self, answer: &PartitionAnswer) -> Option<TopicPartition> {
        let topic = match &answer.topic {
            TopicRef::Name(name) => name,
            TopicRef::Id(id) => self.names.get(id)?,
        };
        Some(TopicPartition::new(Arc::clone(topic), answer.partition))
    }

    /// Notes the leaders that an answer names instead of its sender.
    fn note_leaders(&self, answer: &FetchAnswer) {
        for partition in &answer.partitions {
            let Some(leader) = partition.current_leader else { continue };
            let Some(tp) = self.find(partition) else { continue };
            let endpoint = answer.endpoints.iter().find(|(node, _)| *node == leader.node);
            let address = endpoint.map(|(_, address)| Arc::clone(address));
            self.cluster.note_leader(&tp, leader, address);
        }
    }

    /// Applies one partition's part of an answer.
    fn on_partition(&mut self, tp: &TopicPartition, part: PartitionAnswer, context: Context) {
        let Some(source) = self.sources.get_mut(tp) else { return };
        // What cannot be delivered is not read.
        if !matches!(source.channel, Channel::Room(_)) {
            return;
        }
        let replica = part.preferred_replica;
        let outcome = read_partition(&source.place, part, context);
        match outcome {
            Outcome::Read(read) => {
                if let Some(replica) = replica.filter(|node| Some(*node) != source.node()) {
                    self.follow(tp, replica);
                }
                self.on_read(tp, read, context.params);
            }
            Outcome::Unreadable(error) => {
                tracing::debug!(%tp, ?error, "not readable");
                let next = source.place.step_back();
                apply(source, next);
            }
            Outcome::OutOfRange => self.on_out_of_range(tp),
            Outcome::Diverges(end) => {
                let position = source.place.position;
                self.end(tp, Fetched::Truncated { position, diverging: end });
            }
            Outcome::FindLeader(error) => self.on_denied(tp, error),
            Outcome::Wait { error, pause } => {
                if source.report.is_due() {
                    tracing::warn!(%tp, ?error, "the partition cannot be read at the moment, trying again");
                }
                source.not_before = Some(Instant::now() + pause);
            }
        }
        self.settle(tp);
    }

    /// Reads from another replica, which the leader has named.
    fn follow(&mut self, tp: &TopicPartition, replica: NodeId) {
        if self.known.borrow().address(replica).is_none() {
            return;
        }
        self.leave(tp);
        if let Some(source) = self.sources.get_mut(tp) {
            source.replica = Some((replica, Instant::now() + METADATA_AGE_MAX));
        }
    }

    fn on_out_of_range(&mut self, tp: &TopicPartition) {
        let Some(source) = self.sources.get_mut(tp) else { return };
        // A replica may lag behind its leader.
        if source.replica.is_some() {
            self.leave(tp);
            if let Some(source) = self.sources.get_mut(tp) {
                source.replica = None;
            }
            return;
        }
        if source.place.out_of_range() {
            let position = source.place.position;
            self.end(tp, Fetched::OutOfRange { position });
        } else {
            apply(source, Next::Stuck(ERROR_PAUSE));
        }
    }

    /// Delivers what was read of one partition.
    fn on_read(&mut self, tp: &TopicPartition, mut read: Read, params: Params) {
        let Some(source) = self.sources.get_mut(tp) else { return };
        source.denials.reset();
        source.place.log_start = read.log_start_offset;
        let next = source.place.advance(&mut read.reading, read.found);
        apply(source, next);
        let ends = (read.found.end, read.high_watermark);
        let has_any = !read.reading.batches.is_empty() || read.reading.damaged.is_some();
        if let Some(last) = read.reading.batches.last() {
            source.epoch = Some(last.header().leader_epoch).filter(|epoch| *epoch >= 0);
            source.valid_under = Some(params.leader_epoch);
        }
        if !has_any && source.ends == Some(ends) {
            return;
        }
        source.ends = Some(ends);
        self.deliver(tp, Fetched::Batches(read.into_fetched()));
    }

    /// Pauses the requests to a broker that could not be used, and finds out whether it still leads its partitions.
    pub(super) fn on_broker_error(&mut self, node: NodeId, error: &ClientError) {
        let broker = self.broker(node);
        broker.not_before = Some(Instant::now() + broker.backoff.advance());
        if broker.report.is_due() {
            let error_text = chain(error);
            if error.is_retriable() {
                tracing::warn!(
                    node,
                    error = error_text,
                    "cannot fetch from this broker, trying again"
                );
            } else {
                tracing::error!(node, error = error_text, "cannot read from this broker");
            }
        }
        let affected: Vec<TopicPartition> = self
            .sources
            .values()
            .filter(|source| source.node() == Some(node))
            .map(|source| source.tp.clone())
            .collect();
        for tp in affected {
            self.stale.insert(Arc::clone(&tp.topic));
            if self.sources.get(&tp).is_some_and(|source| source.replica.is_some()) {
                self.leave(&tp);
                if let Some(source) = self.sources.get_mut(&tp) {
                    source.replica = None;
                }
                self.settle(&tp);
            }
        }
    }
}

/// Logs why a partition cannot be read on, and sets the pause before its next request.
fn apply(source: &mut Source, next: Next) {
    let (tp, offset) = (source.tp.clone(), source.place.position);
    match next {
        Next::GoOn => {}
        Next::Again { pause, reason } => {
            let asked = source.place.asked();
            if source.report.is_due() {
                tracing::warn!(%tp, offset, asked, reason, "the log cannot be read here, fetching again");
            }
            source.not_before = Some(Instant::now() + pause);
        }
        Next::Stuck(pause) => {
            tracing::error!(
                %tp, offset,
                "the broker returns no whole batch from here on, although its log goes on: the partition waits"
            );
            source.not_before = Some(Instant::now() + pause);
        }
    }
}
