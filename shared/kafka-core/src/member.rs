//! Membership of one consumer in one consumer group: the classic rebalance protocol as a state machine without IO.
//!
//! The shell (`kafka-client`) asks [`Member::poll_request`] what to send to the group coordinator, hands every answer
//! to the matching `on_…` method, sleeps until [`Member::poll_timeout`], and passes [`Member::poll_event`]'s events to
//! the application. Time comes in as an argument.
//!
//! ```text
//!                 ┌────────────── RebalanceInProgress, coordinator moved ───────────────┐
//!                 ▼                                                                     │
//!  Unjoined ─► Joining ─► (leader: Assigning ─►) ReadyToSync ─► Syncing ─► Stable ──────┤
//!     ▲                                                                     │  ▲        │
//!     └───────────── fenced: everything owned is lost ──────────────────────┘  └─ drain ┘
//! ```
//!
//! What is owned outlives a rebalance in the cooperative protocol: partitions kept go on working through Joining and
//! Syncing. In the eager protocol all of them are revoked and drained before the member joins again.
//!
//! Protocol: <https://kafka.apache.org/protocol#The_Messages_JoinGroup>, cooperative rebalancing:
//! [KIP-429](https://cwiki.apache.org/confluence/x/vAclBg), member ids:
//! [KIP-394](https://cwiki.apache.org/confluence/x/jGkYBg), static membership:
//! [KIP-345](https://cwiki.apache.org/confluence/x/kRg0BQ).

mod answers;
mod leading;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages;

use crate::TopicPartition;
use crate::assignor::{Assignor, MemberSubscription};
use crate::consumer_protocol::ConsumerProtocolError;

pub use leading::PartitionCounts;
pub use requests::Request;

/// Pause before a request that failed is sent again.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// What a member needs to know about its group and itself.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// The group's id.
    pub group_id: String,
    /// The topics this member consumes.
    pub topics: Vec<Arc<str>>,
    /// The one assignor this member offers.
    pub assignor: Assignor,
    /// The identity of a static member (KIP-345), or `None` for a dynamic one.
    pub instance_id: Option<String>,
    /// How long the coordinator waits for a heartbeat before it removes the member.
    pub session_timeout: Duration,
    /// How long a rebalance waits for this member to join again; longer than any drain.
    pub rebalance_timeout: Duration,
    /// Pause between heartbeats; at most a third of the session timeout.
    pub heartbeat_interval: Duration,
}

/// What the application learns of its membership, in the order it has to act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A rebalance ended: the group is in a new generation.
    Joined {
        /// The group's generation.
        generation: i32,
        /// Whether this member assigns partitions to all others.
        is_leader: bool,
        /// How many partitions this member owns, those that follow in `Assigned` included.
        owned: usize,
    },
    /// These partitions belong to this member from here on.
    Assigned(BTreeSet<TopicPartition>),
    /// These partitions go to another member: stop fetching, drain, commit, then call [`Member::drained`].
    Revoked(BTreeSet<TopicPartition>),
    /// These partitions may already belong to another member: stop at once, commit nothing.
    Lost(BTreeSet<TopicPartition>),
    /// Members of the group that do not keep this product's state with their commits, by member id (which begins
    /// with the client id). Reported by the leader.
    OtherClients(Vec<String>),
    /// The leader cannot read what this member subscribes to, and assigns nothing to it.
    UnreadableSubscription {
        /// The member's id, which begins with its client id.
        member_id: String,
        /// What is wrong with its subscription.
        error: ConsumerProtocolError,
    },
    /// The membership has ended for good.
    Fatal(MemberError),
}

/// Why a membership ended for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Another process joined with the same `group.instance.id`.
    #[error(
        "group.instance.id {instance_id} is used by another member, which has fenced this one ({error:?})"
    )]
    FencedInstance {
        /// The shared identity.
        instance_id: String,
        /// The code the coordinator answered.
        error: ResponseError,
    },
    /// The coordinator refused the member in a way that no retry can change.
    #[error("the group coordinator refused {request}: {error:?}")]
    Refused {
        /// The request's name.
        request: &'static str,
        /// The code the coordinator answered.
        error: ResponseError,
    },
    /// This member's subscription or assignment does not follow the consumer protocol.
    #[error("{what} does not follow the consumer protocol")]
    Protocol {
        /// What was being read or written.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: ConsumerProtocolError,
    },
}

/// Whether offsets may be committed, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitPermission {
    /// Commit with this identity.
    Granted(CommitIdentity),
    /// The group is between two generations: wait for the next one.
    Wait,
    /// This member owns nothing in the group.
    Denied,
}

/// The identity that the coordinator checks a commit against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitIdentity {
    /// The member's id.
    pub member_id: String,
    /// The generation the member is in.
    pub generation: i32,
}

#[derive(Debug)]
enum State {
    /// Not in the group, or on the way back into it.
    Unjoined { not_before: Instant },
    /// JoinGroup is on its way.
    Joining,
    /// This member leads and needs partition counts to assign.
    Assigning {
        members: Vec<MemberSubscription>,
        next_heartbeat: Instant,
        /// Until when a topic of this member's own is asked for again that the cluster does not know.
        unknown_until: Instant,
    },
    /// SyncGroup is to be sent.
    ReadyToSync {
        not_before: Instant,
        assignments: Vec<messages::sync_group_request::SyncGroupRequestAssignment>,
    },
    /// SyncGroup is on its way.
    Syncing,
    /// A member of the current generation.
    Stable { next_heartbeat: Instant, rejoin: bool },
    /// Left, or ended by an error.
    Stopped,
}

/// Errors without a meaning that the coordinator answers again and again.
#[derive(Clone, Copy, Debug)]
struct Unexplained {
    since: Instant,
    /// The pause before the next try.
    pause: Duration,
}

/// One consumer's membership in one group.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the protocol's name for it is member id")]
pub struct Member {
    config: MemberConfig,
    state: State,
    member_id: String,
    /// The generation of the last JoinGroup response; −1 before the first and after being fenced.
    generation: i32,
    owned: BTreeSet<TopicPartition>,
    /// The part of `owned` that was revoked and is not drained yet.
    draining: BTreeSet<TopicPartition>,
    /// Partition counts that the last assignment was made with, by topic, as far as this member knows.
    assigned_counts: BTreeMap<String, i32>,
    /// The topics that members of the present generation subscribe to; kept by the leader.
    subscribed: BTreeSet<String>,
    is_leader: bool,
    heartbeat_in_flight: bool,
    needs_coordinator: bool,
    /// Errors without a meaning since the coordinator last let this member stay.
    unexplained: Option<Unexplained>,
    events: VecDeque<Event>,
}

impl Member {
    /// Creates a member that is about to join.
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

    /// Notes that a connection to the group's coordinator stands.
    pub fn on_coordinator_found(&mut self) {
        self.needs_coordinator = false;
    }

    /// Returns the request to send to the coordinator, if one is due. At most one is in flight: after this returned
    /// one, call the matching `on_…` method or [`Member::on_disconnected`] first.
    #[must_use]
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        match &mut self.state {
            State::Unjoined { not_before } if *not_before <= now => self.join(),
            State::ReadyToSync { not_before, assignments } if *not_before <= now => {
                let assignments = std::mem::take(assignments);
                self.state = State::Syncing;
                Some(Request::Sync(requests::sync(self, assignments)))
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
                Some(Request::Heartbeat(requests::heartbeat(self)))
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

    /// Returns when [`Member::poll_request`] may have something to send; `None` while it waits for an answer.
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

    /// Notes that the connection to the coordinator broke, or that a request on it missed its deadline.
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

    /// Notes that revoked partitions are drained and committed; the member joins again when all of them are.
    pub fn drained(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            if self.draining.remove(partition) {
                self.owned.remove(partition);
            }
        }
    }

    /// Returns whether offsets may be committed, and as whom.
    ///
    /// While JoinGroup is on its way the coordinator accepts the old generation; between its answer and that of
    /// SyncGroup it accepts none.
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

    /// Returns whether this member is in the group's current generation with nothing left to drain.
    pub fn is_stable(&self) -> bool {
        matches!(self.state, State::Stable { rejoin: false, .. })
    }

    /// Ends the membership: returns the LeaveGroup to send, or `None` where there is nothing to leave.
    #[must_use]
    pub fn leave(&mut self) -> Option<Request> {
        let joined = !self.member_id.is_empty() && !matches!(self.state, State::Stopped);
        let request = joined.then(|| Request::Leave(requests::leave(self)));
        self.state = State::Stopped;
        self.owned.clear();
        self.draining.clear();
        request
    }

    /// Returns the member's configuration.
    pub fn config(&self) -> &MemberConfig {
        &self.config
    }

    fn join(&mut self) -> Option<Request> {
        match requests::join(self) {
            Ok(request) => {
                self.state = State::Joining;
                Some(Request::Join(request))
            }
            Err(source) => {
                self.stop(MemberError::Protocol { what: "the subscription", source });
                None
            }
        }
    }

    /// Makes a stable member join again, once an eager one has drained.
    fn rejoin(&mut self) {
        if let State::Stable { rejoin, .. } = &mut self.state {
            *rejoin = true;
            self.revoke_all_if_eager();
        }
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

    fn lose_everything(&mut self) {
        self.generation = -1;
        self.is_leader = false;
        self.draining.clear();
        let lost = std::mem::take(&mut self.owned);
        if !lost.is_empty() {
            self.events.push_back(Event::Lost(lost));
        }
    }

    fn stop(&mut self, error: MemberError) {
        self.lose_everything();
        self.state = State::Stopped;
        self.events.push_back(Event::Fatal(error));
    }
}
