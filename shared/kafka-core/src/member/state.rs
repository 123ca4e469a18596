//! The member's state, and what it sends and when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use kafka_protocol::messages;

use super::config::MemberConfig;
use super::event::{CommitIdentity, CommitPermission, Event, MemberError};
use super::requests::{self, Identity, Request};
use crate::TopicPartition;
use crate::consumer_protocol::{MemberSubscription, Subscription};

/// Pause before a failed request is sent again.
pub(super) const RETRY_BACKOFF: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) enum State {
    /// JoinGroup is to be sent.
    Unjoined {
        not_before: Instant,
    },
    Joining,
    /// This member is the leader and waits for partition counts.
    Assigning {
        members: Vec<MemberSubscription>,
        next_heartbeat: Instant,
        /// Until then the leader waits for the count of a topic of its own that the cluster does not know.
        unknown_until: Instant,
    },
    /// SyncGroup is to be sent.
    ReadyToSync {
        not_before: Instant,
        assignments: Vec<messages::sync_group_request::SyncGroupRequestAssignment>,
    },
    Syncing,
    Stable {
        next_heartbeat: Instant,
        rejoin: bool,
    },
    Stopped,
}

/// Error responses with [`RetryBounded`](crate::error_code::Disposition::RetryBounded), one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unexplained {
    pub(super) since: Instant,
    /// The backoff before the next try.
    pub(super) pause: Duration,
}

/// One consumer's membership in one group.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the protocol's name for it is member id")]
pub struct Member {
    pub(super) config: MemberConfig,
    pub(super) state: State,
    pub(super) member_id: String,
    /// The generation of the last JoinGroup response; −1 before the first and after being fenced.
    pub(super) generation: i32,
    pub(super) owned: BTreeSet<TopicPartition>,
    /// The part of `owned` that was revoked and is not drained yet.
    pub(super) draining: BTreeSet<TopicPartition>,
    /// The partition counts by topic of the last assignment, as far as this member knows them.
    pub(super) assigned_counts: BTreeMap<String, i32>,
    /// The leader's list of the topics that members of this generation subscribe to.
    pub(super) subscribed: BTreeSet<String>,
    pub(super) is_leader: bool,
    pub(super) heartbeat_in_flight: bool,
    pub(super) needs_coordinator: bool,
    /// Unexplained errors since the last successful SyncGroup or Heartbeat.
    pub(super) unexplained: Option<Unexplained>,
    pub(super) events: VecDeque<Event>,
}

impl Member {
    /// Creates a member that joins as soon as its coordinator is known.
    pub fn new(config: MemberConfig, now: Instant) -> Self {
        Self {
            config,
            state: State::Unjoined { not_before: now },
            member_id: String::new(),
            generation: -1,
            owned: BTreeSet::new(),
            draining: BTreeSet::new(),
            assigned_counts: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            is_leader: false,
            heartbeat_in_flight: false,
            needs_coordinator: true,
            unexplained: None,
            events: VecDeque::new(),
        }
    }

    /// Returns the next event for the application, oldest first.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns whether [`Member::poll_event`] has something to return.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Returns whether the coordinator has to be looked up before the next request.
    pub fn needs_coordinator(&self) -> bool {
        self.needs_coordinator
    }

    /// Notes that the caller is connected to the group's coordinator.
    pub fn on_coordinator_found(&mut self) {
        self.needs_coordinator = false;
    }

    /// Returns the request to send to the coordinator, if one is due.
    ///
    /// At most one request is in flight: call the matching `on_…` method or [`Member::on_disconnected`] before the next
    /// call.
    #[must_use]
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        match &mut self.state {
            State::Unjoined { not_before } if *not_before <= now => self.join(),
            State::ReadyToSync { not_before, assignments } if *not_before <= now => {
                let assignments = std::mem::take(assignments);
                self.state = State::Syncing;
                Some(Request::Sync(requests::sync(&self.identity(), assignments)))
            }
            State::Stable { rejoin: true, .. }
                if self.draining.is_empty() && !self.heartbeat_in_flight =>
            {
                self.join()
            }
            State::Stable { next_heartbeat, .. } | State::Assigning { next_heartbeat, .. }
                if *next_heartbeat <= now && !self.heartbeat_in_flight =>
            {
                *next_heartbeat = now + self.config.heartbeat_interval;
                self.heartbeat_in_flight = true;
                Some(Request::Heartbeat(requests::heartbeat(&self.identity())))
            }
            State::Unjoined { .. }
            | State::ReadyToSync { .. }
            | State::Stable { .. }
            | State::Joining
            | State::Assigning { .. }
            | State::Syncing
            | State::Stopped => None,
        }
    }

    /// Returns when to call [`Member::poll_request`] next; `None` while a response or a partition count is awaited.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Unjoined { not_before } | State::ReadyToSync { not_before, .. } => {
                Some(*not_before)
            }
            State::Stable { next_heartbeat, .. } | State::Assigning { next_heartbeat, .. }
                if !self.heartbeat_in_flight =>
            {
                Some(*next_heartbeat)
            }
            State::Stable { .. }
            | State::Joining
            | State::Assigning { .. }
            | State::Syncing
            | State::Stopped => None,
        }
    }

    /// Notes that the connection to the coordinator broke, or that a request on it timed out.
    pub fn on_disconnected(&mut self, now: Instant) {
        self.needs_coordinator = true;
        self.heartbeat_in_flight = false;
        match &mut self.state {
            State::Joining
            | State::Assigning { .. }
            | State::ReadyToSync { .. }
            | State::Syncing => {
                self.state = State::Unjoined { not_before: now + RETRY_BACKOFF };
            }
            State::Stable { next_heartbeat, .. } => *next_heartbeat = now,
            State::Unjoined { .. } | State::Stopped => {}
        }
    }

    /// Notes that revoked partitions are drained and committed. When all of them are, the member joins again.
    pub fn drained(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            if self.draining.remove(partition) {
                self.owned.remove(partition);
            }
        }
    }

    /// Returns whether this member may commit offsets, and with which identity.
    ///
    /// While JoinGroup is in flight the coordinator accepts commits of the old generation. Between the responses to
    /// JoinGroup and SyncGroup it accepts none.
    pub fn commit_permission(&self) -> CommitPermission {
        if self.generation < 0 {
            return CommitPermission::Denied;
        }
        match &self.state {
            State::Unjoined { .. } | State::Joining | State::Stable { .. } => {
                CommitPermission::Granted(CommitIdentity {
                    member_id: self.member_id.clone(),
                    generation: self.generation,
                })
            }
            State::Assigning { .. } | State::ReadyToSync { .. } | State::Syncing => {
                CommitPermission::Wait
            }
            State::Stopped => CommitPermission::Denied,
        }
    }

    /// Returns whether this member is in the group's current generation and need not join again.
    pub fn is_stable(&self) -> bool {
        matches!(self.state, State::Stable { rejoin: false, .. })
    }

    /// Ends the membership and returns the LeaveGroup to send; `None` if the member is not in the group.
    #[must_use]
    pub fn leave(&mut self) -> Option<Request> {
        let joined = !self.member_id.is_empty() && !matches!(self.state, State::Stopped);
        let request = joined.then(|| Request::Leave(requests::leave(&self.identity())));
        self.state = State::Stopped;
        self.owned.clear();
        self.draining.clear();
        request
    }

    /// Returns the configuration that the member was created with.
    pub fn config(&self) -> &MemberConfig {
        &self.config
    }

    fn join(&mut self) -> Option<Request> {
        let subscription = Subscription {
            topics: self.config.topics.iter().map(ToString::to_string).collect(),
            owned: requests::by_topic(&self.owned),
            generation: (self.generation >= 0).then_some(self.generation),
            ..Subscription::default()
        };
        match subscription.encode() {
            Ok(metadata) => {
                let request = requests::join(&self.identity(), metadata);
                self.state = State::Joining;
                Some(Request::Join(request))
            }
            Err(source) => {
                self.stop(MemberError::Protocol { what: "the subscription", source });
                None
            }
        }
    }

    /// Makes a stable member join again; an eager one revokes all partitions first.
    pub(super) fn rejoin(&mut self) {
        if let State::Stable { rejoin, .. } = &mut self.state {
            *rejoin = true;
            self.revoke_all_if_eager();
        }
    }

    fn identity(&self) -> Identity<'_> {
        Identity { config: &self.config, member_id: &self.member_id, generation: self.generation }
    }

    fn revoke_all_if_eager(&mut self) {
        if self.config.assignor.is_cooperative()
            || !self.draining.is_empty()
            || self.owned.is_empty()
        {
            return;
        }
        self.draining.clone_from(&self.owned);
        self.events.push_back(Event::Revoked(self.owned.clone()));
    }

    pub(super) fn lose_everything(&mut self) {
        self.generation = -1;
        self.is_leader = false;
        self.draining.clear();
        let lost = std::mem::take(&mut self.owned);
        if !lost.is_empty() {
            self.events.push_back(Event::Lost(lost));
        }
    }

    pub(super) fn stop(&mut self, error: MemberError) {
        self.lose_everything();
        self.state = State::Stopped;
        self.events.push_back(Event::Fatal(error));
    }
}
