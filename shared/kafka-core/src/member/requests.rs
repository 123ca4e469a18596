//! The requests that a member sends to the group coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;

use super::config::MemberConfig;
use crate::TopicPartition;
use crate::consumer_protocol::{
    Assignment, ConsumerProtocolError, Implementation, MemberSubscription, TopicPartitions,
};

/// The protocol type of consumers; Connect workers have another.
const PROTOCOL_TYPE: StrBytes = StrBytes::from_static_str("consumer");

/// A request to the group coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Joins the group. The response may take the whole rebalance timeout.
    Join(messages::JoinGroupRequest),
    /// Asks for this member's assignment. The leader's request carries all assignments.
    Sync(messages::SyncGroupRequest),
    /// Keeps the session alive. The response says whether a rebalance has begun.
    Heartbeat(messages::HeartbeatRequest),
    /// Ends the membership without waiting for the session timeout.
    Leave(messages::LeaveGroupRequest),
}

pub(super) struct Identity<'a> {
    pub(super) config: &'a MemberConfig,
    pub(super) member_id: &'a str,
    pub(super) generation: i32,
}

impl Identity<'_> {
    fn group_id(&self) -> messages::GroupId {
        StrBytes::from_string(self.config.group_id.clone()).into()
    }

    fn member_id(&self) -> StrBytes {
        StrBytes::from_string(self.member_id.to_owned())
    }

    fn instance_id(&self) -> Option<StrBytes> {
        self.config.instance_id.clone().map(StrBytes::from_string)
    }
}

pub(super) fn join(member: &Identity<'_>, subscription: Bytes) -> messages::JoinGroupRequest {
    let config = member.config;
    let protocol = messages::join_group_request::JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str(config.assignor.name()))
        .with_metadata(subscription);
    messages::JoinGroupRequest::default()
        .with_group_id(member.group_id())
        .with_session_timeout_ms(milliseconds(config.session_timeout))
        .with_rebalance_timeout_ms(milliseconds(config.rebalance_timeout))
        .with_member_id(member.member_id())
        .with_group_instance_id(member.instance_id())
        .with_protocol_type(PROTOCOL_TYPE)
        .with_protocols(vec![protocol])
}

pub(super) fn sync(
    member: &Identity<'_>,
    assignments: Vec<messages::sync_group_request::SyncGroupRequestAssignment>,
) -> messages::SyncGroupRequest {
    messages::SyncGroupRequest::default()
        .with_group_id(member.group_id())
        .with_generation_id(member.generation)
        .with_member_id(member.member_id())
        .with_group_instance_id(member.instance_id())
        .with_protocol_type(Some(PROTOCOL_TYPE))
        .with_protocol_name(Some(StrBytes::from_static_str(member.config.assignor.name())))
        .with_assignments(assignments)
}

pub(super) fn heartbeat(member: &Identity<'_>) -> messages::HeartbeatRequest {
    messages::HeartbeatRequest::default()
        .with_group_id(member.group_id())
        .with_generation_id(member.generation)
        .with_member_id(member.member_id())
        .with_group_instance_id(member.instance_id())
}

pub(super) fn leave(member: &Identity<'_>) -> messages::LeaveGroupRequest {
    let identity = messages::leave_group_request::MemberIdentity::default()
        .with_member_id(member.member_id())
        .with_group_instance_id(member.instance_id());
    messages::LeaveGroupRequest::default()
        .with_group_id(member.group_id())
        .with_members(vec![identity])
}

/// Encodes the leader's assignments. Those of members of this implementation also carry the partition counts that the
/// leader assigned with.
pub(super) fn assignments(
    members: &[MemberSubscription],
    mut assigned: BTreeMap<String, TopicPartitions>,
    counts: &BTreeMap<String, i32>,
) -> Result<Vec<messages::sync_group_request::SyncGroupRequestAssignment>, ConsumerProtocolError> {
    members
        .iter()
        .map(|member| {
            let partition_counts = match member.subscription.implementation {
                Implementation::This => counts.clone(),
                Implementation::Other => BTreeMap::new(),
            };
            let partitions = assigned.remove(&member.member_id).unwrap_or_default();
            let assignment = Assignment { partitions, partition_counts };
            Ok(messages::sync_group_request::SyncGroupRequestAssignment::default()
                .with_member_id(StrBytes::from_string(member.member_id.clone()))
                .with_assignment(assignment.encode()?))
        })
        .collect()
}

pub(super) fn partitions(assigned: TopicPartitions) -> BTreeSet<TopicPartition> {
    assigned
        .into_iter()
        .flat_map(|(topic, indexes)| {
            let topic: Arc<str> = topic.into();
            indexes.into_iter().map(move |index| TopicPartition::new(Arc::clone(&topic), index))
        })
        .collect()
}

pub(super) fn by_topic(partitions: &BTreeSet<TopicPartition>) -> TopicPartitions {
    let mut topics = TopicPartitions::new();
    for tp in partitions {
        topics.entry(tp.topic.to_string()).or_default().push(tp.partition);
    }
    topics
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
