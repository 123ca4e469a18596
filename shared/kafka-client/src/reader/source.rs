//! The state of one partition that is read.

use std::time::Duration;

use kafka_core::{NodeId, TopicPartition};
use pacing::{Backoff, ReportLimit};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::damage::Place;
use super::lanes::Standing;
use super::session::{Key, Params};
use super::{Fetched, REPORTS};
use crate::cluster::Leader;

/// Pauses before a partition is fetched again after its leader has denied leadership: metadata may lag behind an election.
const DENIAL_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), DENIAL_PAUSE_MAX);
pub(super) const DENIAL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// One partition that is read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) tp: TopicPartition,
    /// The id of the topic that is to be read; nil if its id is not known.
    pub(super) topic_id: Uuid,
    /// The id by which the brokers know the topic; nil if they have none, and requests name it.
    pub(super) broker_id: Uuid,
    /// Distinguishes two additions of the same partition.
    pub(super) addition: u64,
    pub(super) place: Place,
    /// The leader epoch of the last record before the position.
    pub(super) epoch: Option<i32>,
    pub(super) leader: Option<Leader>,
    /// The leader epoch under which the position is known to be part of the log.
    pub(super) valid_under: Option<i32>,
    /// Whether a request for its validation is in flight.
    pub(super) is_validating: bool,
    /// Another replica that the leader has named to read from, and until when (KIP-392).
    pub(super) replica: Option<(NodeId, Instant)>,
    pub(super) channel: Channel,
    /// The ends that were delivered last: a change without batches is delivered once.
    pub(super) ends: Option<(i64, i64)>,
    /// The event after which the partition has to be added again.
    pub(super) ending: Option<Fetched>,
    pub(super) stopped: bool,
    /// The earliest time of the next request, after an error.
    pub(super) not_before: Option<Instant>,
    /// Pauses after a leader has denied its leadership.
    pub(super) denials: Backoff,
    pub(super) report: ReportLimit,
}

/// The channel to the receiver. Batches are fetched only for a channel that has room.
#[derive(Debug)]
pub(super) enum Channel {
    /// There is room for one item.
    Room(mpsc::OwnedPermit<Fetched>),
    /// It is full.
    Full,
}

impl Source {
    pub(super) fn new(
        tp: TopicPartition,
        topic_id: Uuid,
        addition: u64,
        position: i64,
        epoch: Option<i32>,
    ) -> Self {
        Self {
            tp,
            topic_id,
            broker_id: Uuid::nil(),
            addition,
            place: Place::new(position),
            epoch: epoch.filter(|epoch| *epoch >= 0),
            leader: None,
            valid_under: None,
            is_validating: false,
            replica: None,
            channel: Channel::Full,
            ends: None,
            ending: None,
            stopped: false,
            not_before: None,
            denials: DENIAL_BACKOFF,
            report: REPORTS,
        }
    }

    pub(super) fn key(&self) -> Key {
        Key { topic_id: self.broker_id, tp: self.tp.clone() }
    }

    /// Returns how the partition is fetched.
    pub(super) fn params(&self, room: i32) -> Params {
        Params {
            offset: self.place.asked(),
            leader_epoch: self.leader.map_or(-1, |leader| leader.epoch),
            room: self.place.room(room),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.ends {
            None => Standing::Unknown,
            Some((last_stable, _)) if self.place.position < last_stable => Standing::Lags,
            Some(_) => Standing::CaughtUp,
        }
    }

    /// Returns the broker to read from.
    pub(super) fn node(&self) -> Option<NodeId> {
        let leader = self.leader?.node;
        Some(self.replica.map_or(leader, |(replica, _until)| replica))
    }

    /// Returns whether the position has to be compared with the leader's log: the log may have been truncated since the last
    /// record before the position was read (KIP-320).
    pub(super) fn needs_validation(&self) -> bool {
        let leader_epoch = self.leader.map_or(-1, |leader| leader.epoch);
        self.epoch.is_some() && (leader_epoch >= 0) && (self.valid_under != Some(leader_epoch))
    }

    /// Sends an item, and returns the sender.
    pub(super) fn deliver(&mut self, item: Fetched) -> Option<mpsc::Sender<Fetched>> {
        match std::mem::replace(&mut self.channel, Channel::Full) {
            Channel::Room(permit) => Some(permit.send(item)),
            Channel::Full => None,
        }
    }
}
