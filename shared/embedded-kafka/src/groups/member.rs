//! One member of a group; its requests and their answers.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;
use uuid::Uuid;

/// The receiver of the answer to a waiting request.
///
/// The answer is dropped if the connection has closed.
#[derive(Debug)]
pub(crate) struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// Creates a reply and the receiver its answer arrives at.
    pub(crate) fn channel() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    pub(crate) fn send(self, answer: T) {
        drop(self.0.send(answer));
    }
}

/// An assignment strategy of a member, with its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    /// The name, for consumers that of the assignor.
    pub(crate) name: String,
    /// The metadata, for consumers the subscription.
    pub(crate) metadata: Bytes,
}

/// A `JoinGroup` request.
#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
    pub(crate) group_id: String,
    /// The member id, empty for a new member.
    pub(crate) member_id: String,
    /// The id of a static member.
    pub(crate) group_instance_id: Option<String>,
    /// The first part of member ids.
    pub(crate) client_id: String,
    /// The client's address.
    pub(crate) client_host: String,
    /// The longest time between two heartbeats.
    pub(crate) session_timeout: Duration,
    /// How long the group waits for the member in a rebalance.
    pub(crate) rebalance_timeout: Duration,
    /// `consumer` for consumers.
    pub(crate) protocol_type: String,
    /// What the member offers, most preferred first.
    pub(crate) protocols: Vec<Protocol>,
    /// The unique part of a new member's id.
    pub(crate) fresh_id: Uuid,
    pub(crate) abilities: JoinAbilities,
}

/// The abilities of a client by the version of its `JoinGroup` request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinAbilities {
    /// A new dynamic member gets its id first, and joins with it (KIP-394, version 4).
    pub(crate) joins_with_given_id: bool,
    /// A restarted static leader can skip the assignment (KIP-814, version 9).
    pub(crate) skips_assignment: bool,
}

/// A `JoinGroup` response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinAnswer {
    /// Why the member did not join.
    pub(crate) error: Option<ResponseError>,
    pub(crate) member_id: String,
    /// −1 with an error.
    pub(crate) generation_id: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol_name: Option<String>,
    pub(crate) leader: String,
    /// Whether the leader keeps the assignment.
    pub(crate) skip_assignment: bool,
    /// All members in the leader's answer, else none.
    pub(crate) members: Vec<JoinedMember>,
}

impl JoinAnswer {
    pub(crate) fn refused(error: ResponseError, member_id: impl Into<String>) -> Self {
        Self {
            error: Some(error),
            member_id: member_id.into(),
            generation_id: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

/// A member in the leader's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: String,
    /// The id of a static member.
    pub(crate) group_instance_id: Option<String>,
    /// The metadata for the selected protocol.
    pub(crate) metadata: Bytes,
}

/// The sender of a `SyncGroup`, Heartbeat or `OffsetCommit` request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the names of the protocol")]
pub(crate) struct Claim {
    pub(crate) member_id: String,
    /// The id of a static member.
    pub(crate) group_instance_id: Option<String>,
    /// The member's generation.
    pub(crate) generation_id: i32,
}

/// A `SyncGroup` request.
#[derive(Debug, Clone)]
pub(crate) struct SyncRequest {
    pub(crate) group_id: String,
    pub(crate) claim: Claim,
    /// The member's protocol type, from version 5.
    pub(crate) protocol_type: Option<String>,
    /// The member's protocol, from version 5.
    pub(crate) protocol_name: Option<String>,
    /// Every member's assignment, in the leader's request.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// A `SyncGroup` response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncAnswer {
    /// Why there is no assignment.
    pub(crate) error: Option<ResponseError>,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol_name: Option<String>,
    pub(crate) assignment: Bytes,
}

impl SyncAnswer {
    pub(crate) fn refused(error: ResponseError) -> Self {
        Self {
            error: Some(error),
            protocol_type: None,
            protocol_name: None,
            assignment: Bytes::new(),
        }
    }
}

/// One member of a group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) stored: StoredMember,
    /// What the member offers, most preferred first.
    pub(crate) protocols: Vec<Protocol>,
    /// The `JoinGroup` request that waits until all members have joined.
    pub(crate) awaiting_join: Option<Reply<JoinAnswer>>,
    /// The `SyncGroup` request that waits until the leader has assigned.
    pub(crate) awaiting_sync: Option<Reply<SyncAnswer>>,
    /// Whether the member has not been in a generation yet.
    pub(crate) is_new: bool,
    /// When the group removes the member unless a request of it arrives.
    pub(crate) session_ends: Option<Duration>,
}

/// The parts of a member that survive a restart of the broker.
#[derive(Debug, Clone)]
pub(crate) struct StoredMember {
    /// The id of a static member.
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    /// The client's address.
    pub(crate) client_host: String,
    /// The longest time between two heartbeats.
    pub(crate) session_timeout: Duration,
    /// How long the group waits for the member in a rebalance.
    pub(crate) rebalance_timeout: Duration,
    pub(crate) assignment: Bytes,
}

impl Member {
    /// Creates a member from its `JoinGroup` request.
    pub(crate) fn joining(request: JoinRequest, reply: Reply<JoinAnswer>) -> Self {
        Self {
            stored: StoredMember {
                group_instance_id: request.group_instance_id,
                client_id: request.client_id,
                client_host: request.client_host,
                session_timeout: request.session_timeout,
                rebalance_timeout: request.rebalance_timeout,
                assignment: Bytes::new(),
            },
            protocols: request.protocols,
            awaiting_join: Some(reply),
            awaiting_sync: None,
            is_new: true,
            session_ends: None,
        }
    }

    /// Creates a member after a restart of the broker.
    pub(crate) fn restored(stored: StoredMember, protocol: Protocol, now: Duration) -> Self {
        let session_ends = Some(now + stored.session_timeout);
        Self {
            stored,
            protocols: vec![protocol],
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            session_ends,
        }
    }

    pub(crate) fn heard(&mut self, now: Duration) {
        self.session_ends = Some(now + self.stored.session_timeout);
    }

    /// Returns whether the member sends no heartbeats because a request of it waits.
    ///
    /// A new member has no excuse: it does not know its id, and the member of a closed connection would stay.
    pub(crate) fn is_excused(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    /// Returns whether the member offers a protocol.
    pub(crate) fn offers(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|offered| offered.name == protocol)
    }

    /// Returns the metadata for a protocol, empty when the member does not offer it.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|offered| offered.name == protocol)
            .map(|offered| offered.metadata.clone())
            .unwrap_or_default()
    }

    /// Answers a waiting `JoinGroup` request.
    pub(crate) fn answer_join(&mut self, answer: impl FnOnce() -> JoinAnswer) {
        if let Some(reply) = self.awaiting_join.take() {
            reply.send(answer());
        }
    }

    /// Answers a waiting `SyncGroup` request and returns whether one waited.
    pub(crate) fn answer_sync(&mut self, answer: SyncAnswer) -> bool {
        self.awaiting_sync.take().is_some_and(|reply| {
            reply.send(answer);
            true
        })
    }
}
