//! The requests a member sends, built from its present state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;

use super::Member;
use crate::TopicPartition;
use crate::assignor::MemberSubscription;
use crate::consumer_protocol::{
    Assignment, ConsumerProtocolError, Implementation, Subscription, TopicPartitions,
};

/// The protocol type of consumers, as opposed to Connect workers and others.
const PROTOCOL_TYPE: StrBytes = StrBytes::from_static_str("consumer");

/// A request to the group coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Joins the group, or joins it again. Its answer may take the whole rebalance timeout.
    Join(messages::JoinGroupRequest),
    /// Fetches this member's assignment; the leader's brings everybody's.
    Sync(messages::SyncGroupRequest),
    /// Keeps the session alive and asks whether a rebalance has begun.
    Heartbeat(messages::HeartbeatRequest),
    /// Gives up the membership at once instead of after the session timeout.
    Leave(messages::LeaveGroupRequest),
}

pub(super) fn join(member: &Member) -> Result<messages::JoinGroupRequest, ConsumerProtocolError> {
    let config = &member.config;
    let subscription = Subscription {
        topics: config.topics.iter().map(ToString::to_string).collect(),
        owned: by_topic(&member.owned),
        generation: (member.generation >= 0).then_some(member.generation),
        ..Subscription::default()
    };
    let protocol = messages::join_group_request::JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str(config.assignor.name()))
        .with_metadata(subscription.encode()?);
    Ok(messages::JoinGroupRequest::default()
        .with_group_id(StrBytes::from_string(config.group_id.clone()).into())
        .with_session_timeout_ms(milliseconds(config.session_timeout))
        .with_rebalance_timeout_ms(milliseconds(config.rebalance_timeout))
        .with_member_id(StrBytes::from_string(member.member_id.clone()))
        .with_group_instance_id(instance_id(member))
        .with_protocol_type(PROTOCOL_TYPE)
        .with_protocols(vec![protocol]))
}

pub(super) fn sync(
    member: &Member,
    assignments: Vec<messages::sync_group_request::SyncGroupRequestAssignment>,
) -> messages::SyncGroupRequest {
    messages::SyncGroupRequest::default()
        .with_group_id(StrBytes::from_string(member.config.group_id.clone()).into())
        .with_generation_id(member.generation)
        .with_member_id(StrBytes::from_string(member.member_id.clone()))
        .with_group_instance_id(instance_id(member))
        .with_protocol_type(Some(PROTOCOL_TYPE))
        .with_protocol_name(Some(StrBytes::from_static_str(member.config.assignor.name())))
        .with_assignments(assignments)
}

pub(super) fn heartbeat(member: &Member) -> messages::HeartbeatRequest {
    messages::HeartbeatRequest::default()
        .with_group_id(StrBytes::from_string(member.config.group_id.clone()).into())
        .with_generation_id(member.generation)
        .with_member_id(StrBytes::from_string(member.member_id.clone()))
        .with_group_instance_id(instance_id(member))
}

pub(super) fn leave(member: &Member) -> messages::LeaveGroupRequest {
    let identity = messages::leave_group_request::MemberIdentity::default()
        .with_member_id(StrBytes::from_string(member.member_id.clone()))
        .with_group_instance_id(instance_id(member));
    messages::LeaveGroupRequest::default()
        .with_group_id(StrBytes::from_string(member.config.group_id.clone()).into())
        .with_members(vec![identity])
}

/// Encodes what the leader hands out, one blob a member. Members of this implementation also learn the counts that it
/// was assigned with.
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

/// Lists the partitions of an assignment.
pub(super) fn partitions(assigned: TopicPartitions) -> BTreeSet<TopicPartition> {
    assigned
        .into_iter()
        .flat_map(|(topic, indexes)| {
            let topic: Arc<str> = topic.into();
            indexes.into_iter().map(move |index| TopicPartition::new(Arc::clone(&topic), index))
        })
        .collect()
}

fn by_topic(partitions: &BTreeSet<TopicPartition>) -> TopicPartitions {
    let mut topics = TopicPartitions::new();
    for tp in partitions {
        topics.entry(tp.topic.to_string()).or_default().push(tp.partition);
    }
    topics
}

fn instance_id(member: &Member) -> Option<StrBytes> {
    member.config.instance_id.clone().map(StrBytes::from_string)
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
