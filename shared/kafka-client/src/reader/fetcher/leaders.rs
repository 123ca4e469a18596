//! Who leads which partition, and whether positions are part of the leaders' logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::Fetched;
use super::super::source::{DENIAL_PAUSE_MAX, Source};
use super::{Event, Fetcher};
use crate::cluster::Metadata;
use crate::error::{ClientError, PartitionError, chain};
use crate::offsets::Found;
use crate::offsets::comparison::{Comparison, Position, compare_at};

impl Fetcher {
    /// Refreshes the metadata of topics that need it. One refresh is under way at a time.
    pub(super) fn refresh(&mut self) {
        if self.is_refreshing || self.stale.is_empty() {
            return;
        }
        self.is_refreshing = true;
        let (cluster, stale) = (self.cluster.clone(), std::mem::take(&mut self.stale));
        self.events.push(Box::pin(async move {
            let topics: Vec<&str> = stale.iter().map(AsRef::as_ref).collect();
            Event::Refreshed(cluster.refresh(&topics).await)
        }));
    }

    pub(super) fn on_refreshed(&mut self, result: Result<(), ClientError>) {
        self.is_refreshing = false;
        match result {
            Ok(()) => self.refresh_report.reset(),
            Err(error) => {
                if self.refresh_report.is_due() {
                    tracing::warn!(error = %chain(&error), "waiting for a broker to read from");
                }
            }
        }
        self.on_metadata();
    }

    /// Applies the metadata to all partitions.
    pub(super) fn on_metadata(&mut self) {
        let known = Arc::clone(&self.known.borrow_and_update());
        let all: Vec<TopicPartition> = self.sources.keys().cloned().collect();
        for tp in all {
            if self.on_leader(&tp, &known) {
                self.settle(&tp);
            }
        }
    }

    /// Applies the metadata to one partition; returns whether they have changed anything, or are still missing.
    pub(super) fn on_leader(&mut self, tp: &TopicPartition, known: &Metadata) -> bool {
        let Some(source) = self.sources.get(tp).filter(|source| !source.stopped) else {
            return false;
        };
        let Some(topic) = known.topic(&tp.topic) else { return source.leader.is_none() };
        let is_other = |id: Uuid| id != topic.topic_id && !topic.topic_id.is_nil();
        if is_other(source.topic_id) && !source.topic_id.is_nil() {
            self.end(tp, Fetched::Recreated { topic_id: topic.topic_id });
            return true;
        }
        let leader = known.leader(tp);
        if leader == source.leader && !is_other(source.broker_id) {
            return leader.is_none();
        }
        self.leave(tp);
        if let Some(source) = self.sources.get_mut(tp) {
            if source.leader.map(|leader| leader.node) != leader.map(|leader| leader.node) {
                source.replica = None;
                source.denials.reset();
                source.not_before = None;
            }
            source.leader = leader;
            source.is_validating = false;
            source.broker_id = topic.topic_id;
            if source.topic_id.is_nil() {
                source.topic_id = topic.topic_id;
            }
        }
        self.name(tp);
        true
    }

    /// Ends the reading of a partition with an event, as soon as its channel has room.
    pub(super) fn end(&mut self, tp: &TopicPartition, ending: Fetched) {
        if let Some(source) = self.sources.get_mut(tp) {
            source.ending.get_or_insert(ending);
        }
    }

    /// Pauses a partition whose leader denies leadership, or does not know the epoch in the metadata.
    pub(super) fn on_denied(&mut self, tp: &TopicPartition, error: ResponseError) {
        self.stale.insert(Arc::clone(&tp.topic));
        let Some(source) = self.sources.get_mut(tp) else { return };
        // A replica that cannot be read from any more is no reason to pause.
        if source.replica.take().is_some() {
            return;
        }
        let is_lasting = source.denials.peek() == DENIAL_PAUSE_MAX;
        if is_lasting && source.report.is_due() {
            let leader = source.leader.map(|leader| leader.node);
            tracing::warn!(%tp, leader, ?error, "the leader in the metadata denies its leadership, trying again");
        }
        source.not_before = Some(Instant::now() + source.denials.advance());
    }

    /// Compares the positions that are waiting for it with the logs of their leader. One request to it is under way at a
    /// time.
    pub(super) fn validate(&mut self, node: NodeId) {
        let Some(broker) = self.brokers.get_mut(&node) else { return };
        if broker.is_validating || broker.to_validate.is_empty() {
            return;
        }
        let mut positions = BTreeMap::new();
        for tp in std::mem::take(&mut broker.to_validate) {
            let Some(source) = self.sources.get_mut(&tp) else { continue };
            if let Some(position) = position(source) {
                source.is_validating = true;
                positions.insert(tp, position);
            }
        }
        broker.is_validating = true;
        let cluster = self.cluster.clone();
        self.events.push(Box::pin(async move {
            let address = cluster.known().address(node).cloned();
            let compared = match address {
                Some(address) => {
                    compare_at(&cluster, &address, &positions).await.map_err(Into::into)
                }
                None => Err(ClientError::refused(
                    "name a leader's address",
                    ResponseError::LeaderNotAvailable,
                )),
            };
            Event::Validated { node, positions, compared }
        }));
    }

    pub(super) fn on_validated(
        &mut self,
        node: NodeId,
        positions: &BTreeMap<TopicPartition, Position>,
        compared: Result<Found<Comparison>, ClientError>,
    ) {
        self.broker(node).is_validating = false;
        let mut compared = match compared {
            Ok(compared) => Some(compared),
            Err(error) => {
                self.on_broker_error(node, &error);
                None
            }
        };
        for (tp, asked) in positions {
            let Some(source) = self.sources.get_mut(tp) else { continue };
            if position(source) != Some(*asked) {
                continue;
            }
            source.is_validating = false;
            let Some(compared) = &mut compared else {
                self.settle(tp);
                continue;
            };
            match compared.remove(tp) {
                Some(Ok(Comparison::Valid)) => source.valid_under = Some(asked.leader_epoch),
                Some(Ok(Comparison::Diverges(diverging))) => {
                    self.end(tp, Fetched::Truncated { position: asked.offset, diverging });
                }
                Some(Err(PartitionError::Refused(error))) => self.on_denied(tp, error),
                Some(Err(_)) | None => self.on_denied(tp, ResponseError::UnknownServerError),
            }
            self.settle(tp);
        }
    }
}

fn position(source: &Source) -> Option<Position> {
    Some(Position {
        offset: source.place.position,
        epoch: source.epoch?,
        leader_epoch: source.leader?.epoch,
    })
}
