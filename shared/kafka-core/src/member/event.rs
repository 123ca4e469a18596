//! What the application learns of a membership.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;

use crate::TopicPartition;
use crate::consumer_protocol::ConsumerProtocolError;

/// A change of the membership. The application acts on events in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A rebalance ended: the group is in a new generation.
    Joined {
        /// The group's generation, which rises with every rebalance.
        generation: i32,
        /// Whether this member leads the group: it assigns the partitions.
        is_leader: bool,
        /// How many partitions this member owns, including those of the `Assigned` that follows.
        owned: usize,
    },
    /// These partitions belong to this member from here on.
    Assigned(BTreeSet<TopicPartition>),
    /// These partitions go to another member: stop fetching, drain, commit, then call
    /// [`Member::drained`](super::Member::drained).
    Revoked(BTreeSet<TopicPartition>),
    /// These partitions may already belong to another member: stop at once, commit nothing.
    Lost(BTreeSet<TopicPartition>),
    /// Members that run another client, by member id (which begins with the client id). They commit offsets without a
    /// checkpoint. Only the leader reports them.
    OtherClients(Vec<String>),
    /// The leader cannot read this member's subscription, and assigns nothing to it.
    UnreadableSubscription {
        /// The member's id, which begins with its client id.
        member_id: String,
        /// What is wrong with the subscription.
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
        /// The `group.instance.id` that both members have.
        instance_id: String,
        /// The error code of the response.
        error: ResponseError,
    },
    /// The coordinator refused a request, and no retry can change that.
    #[error("the group coordinator refused {request}: {error:?}")]
    Refused {
        /// The name of the request in Kafka's protocol.
        request: &'static str,
        /// The error code of the response.
        error: ResponseError,
    },
    /// This member's subscription or assignment does not follow the consumer protocol.
    #[error("{what} does not follow the consumer protocol")]
    Protocol {
        /// What was read or written.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: ConsumerProtocolError,
    },
}

/// Whether this member may commit offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitPermission {
    /// The coordinator accepts commits with this identity.
    Granted(CommitIdentity),
    /// The group is between two generations: wait for the next one.
    Wait,
    /// This member owns no partition.
    Denied,
}

/// The identity by which the coordinator accepts or refuses a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitIdentity {
    /// The id that the coordinator gave the member.
    pub member_id: String,
    /// The generation that the member is in.
    pub generation: i32,
}
