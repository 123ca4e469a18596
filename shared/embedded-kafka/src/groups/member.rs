//! One member of a group, and what members ask and are answered.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Where the answer to a held request goes.
///
/// Whoever waits may have gone away; then the answer is dropped, as a broker drops one for a closed connection.
#[derive(Debug)]
pub(crate) struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// Creates a reply and the receiver its answer arrives at.
    pub(crate) fn channel() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers.
    pub(crate) fn send(self, answer: T) {
        drop(self.0.send(answer));
    }
}

/// An assignment strategy a member offers, with its metadata for it.
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
    /// The group to join.
    pub(crate) group_id: String,
    /// The member id, empty for a new member.
    pub(crate) member_id: String,
    /// The id of a static member.
    pub(crate) group_instance_id: Option<String>,
    /// The client's id, which member ids begin with.
    pub(crate) client_id: String,
    /// Where the client connects from.
    pub(crate) client_host: String,
    /// How long the member may be silent.
    pub(crate) session_timeout: Duration,
    /// How long the group waits for the member in a rebalance.
    pub(crate) rebalance_timeout: Duration,
    /// `consumer` for consumers.
    pub(crate) protocol_type: String,
    /// What the member offers, most preferred first.
    pub(crate) protocols: Vec<Protocol>,
    /// What makes the id of a new member unique.
    pub(crate) fresh_id: Uuid,
    /// What the version of the request lets the client understand.
    pub(crate) abilities: JoinAbilities,
}

/// What a client understands by the version of its `JoinGroup` request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinAbilities {
    /// A new dynamic member is first told its id and joins with it (KIP-394, version 4).
    pub(crate) joins_with_given_id: bool,
    /// A static leader that comes back can be told not to assign (KIP-814, version 9).
    pub(crate) skips_assignment: bool,
}

/// A `JoinGroup` response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinAnswer {
    /// Why the member did not join.
    pub(crate) error: Option<ResponseError>,
    /// The member's id.
    pub(crate) member_id: String,
    /// The generation joined, −1 with an error.
    pub(crate) generation_id: i32,
    /// The group's protocol type.
    pub(crate) protocol_type: Option<String>,
    /// The protocol selected.
    pub(crate) protocol_name: Option<String>,
    /// The member that assigns.
    pub(crate) leader: String,
    /// Whether the leader is to leave the assignment as it is.
    pub(crate) skip_assignment: bool,
    /// All members, told to the leader only.
    pub(crate) members: Vec<JoinedMember>,
}

impl JoinAnswer {
    /// Refuses a join.
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

/// A member as the leader is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    /// The member's id.
    pub(crate) member_id: String,
    /// The id of a static member.
    pub(crate) group_instance_id: Option<String>,
    /// The metadata for the selected protocol.
    pub(crate) metadata: Bytes,
}

/// Who sends a request within a group: what `SyncGroup`, Heartbeat, `LeaveGroup` and `OffsetCommit` have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the names of the protocol")]
pub(crate) struct Claim {
    /// The member's id.
    pub(crate) member_id: String,
    /// The id of a static member.
    pub(crate) group_instance_id: Option<String>,
    /// The generation the member believes in.
    pub(crate) generation_id: i32,
}

/// A `SyncGroup` request.
#[derive(Debug, Clone)]
pub(crate) struct SyncRequest {
    /// The group.
    pub(crate) group_id: String,
    /// Who asks.
    pub(crate) claim: Claim,
    /// The protocol type the member believes in, from version 5.
    pub(crate) protocol_type: Option<String>,
    /// The protocol the member believes in, from version 5.
    pub(crate) protocol_name: Option<String>,
    /// Every member's assignment, from the leader only.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// A `SyncGroup` response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncAnswer {
    /// Why there is no assignment.
    pub(crate) error: Option<ResponseError>,
    /// The group's protocol type.
    pub(crate) protocol_type: Option<String>,
    /// The protocol selected.
    pub(crate) protocol_name: Option<String>,
    /// What the member is to work on.
    pub(crate) assignment: Bytes,
}

impl SyncAnswer {
    /// Refuses an assignment.
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
    /// What the group keeps of the member when the broker restarts.
    pub(crate) stored: StoredMember,
    /// What the member offers, most preferred first.
    pub(crate) protocols: Vec<Protocol>,
    /// The `JoinGroup` request held back until all have joined.
    pub(crate) awaiting_join: Option<Reply<JoinAnswer>>,
    /// The `SyncGroup` request held back until the leader has assigned.
    pub(crate) awaiting_sync: Option<Reply<SyncAnswer>>,
    /// Whether the member has not been in a generation yet.
    pub(crate) is_new: bool,
    /// When the member is taken for dead unless it is heard of before.
    pub(crate) session_ends: Option<Duration>,
}

/// What the group keeps of a member when the broker restarts.
#[derive(Debug, Clone)]
pub(crate) struct StoredMember {
    /// The id of a static member.
    pub(crate) group_instance_id: Option<String>,
    /// The client's id.
    pub(crate) client_id: String,
    /// Where the client connects from.
    pub(crate) client_host: String,
    /// How long the member may be silent.
    pub(crate) session_timeout: Duration,
    /// How long the group waits for the member in a rebalance.
    pub(crate) rebalance_timeout: Duration,
    /// What the member works on.
    pub(crate) assignment: Bytes,
}

impl Member {
    /// Creates the member a `JoinGroup` request asks for.
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

    /// Creates a member as it was kept over a restart of the broker.
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

    /// Starts the session anew.
    pub(crate) fn heard(&mut self, now: Duration) {
        self.session_ends = Some(now + self.stored.session_timeout);
    }

    /// Returns whether the member may be silent because the broker holds a request of it back.
    ///
    /// A member that has not been in a generation yet is the exception: it does not know its id, so a client that went away
    /// would wait here for ever.
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

    /// Answers a `JoinGroup` request that is held back.
    pub(crate) fn answer_join(&mut self, answer: impl FnOnce() -> JoinAnswer) {
        if let Some(reply) = self.awaiting_join.take() {
            reply.send(answer());
        }
    }

    /// Answers a `SyncGroup` request that is held back and returns whether there was one.
    pub(crate) fn answer_sync(&mut self, answer: SyncAnswer) -> bool {
        self.awaiting_sync.take().is_some_and(|reply| {
            reply.send(answer);
            true
        })
    }
}
