//! Metadata: which topics, partitions and brokers there are.

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use uuid::Uuid;

use crate::api::request::{RequestContext, text, topic_name};
use crate::cluster::{Cluster, Node};
use crate::refusal::Refusal;
use crate::state::{CLUSTER_ID, State};
use crate::topics::Topic;
use crate::topics::partition::Partition;

/// The operations that the broker allows on the cluster, as bits of `AclOperation`; it has no authorizer.
const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// The operations that the broker allows on a topic.
const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
const NO_LEADER: BrokerId = BrokerId(-1);
/// The first version with topics without a name.
const NULLABLE_NAME_VERSION: i16 = 12;

const fn bits(operations: &[u8]) -> i32 {
    let mut set = 0;
    let mut index = 0;
    while index < operations.len() {
        set |= 1 << operations[index];
        index += 1;
    }
    set
}

/// Answers Metadata and creates missing topics if the client and the broker allow it.
pub(crate) fn metadata(
    state: &mut State,
    context: &RequestContext,
    request: &MetadataRequest,
) -> MetadataResponse {
    let wants_operations = request.include_topic_authorized_operations;
    let wants_all = request.topics.as_ref().is_none_or(|topics| {
        // Version 0 has no null array.
        topics.is_empty() && (context.api_version == 0)
    });
    let mut topics: Vec<MetadataResponseTopic> = if wants_all {
        let describe = |(name, topic)| describe_topic(&state.cluster, name, topic);
        state.topics.iter().map(describe).collect()
    } else {
        let may_create = request.allow_auto_topic_creation && state.settings.auto_create_topics;
        let asked = request.topics.as_deref().unwrap_or_default();
        let describe = |topic: &MetadataRequestTopic| {
            let created = if may_create { create_if_missing(state, topic) } else { Ok(()) };
            created.map_or_else(
                |refusal| unknown_topic(refusal.error).with_name(topic.name.clone()),
                |()| topic_asked_for(state, context, topic),
            )
        };
        asked.iter().map(describe).collect()
    };
    if wants_operations {
        for topic in &mut topics {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    let broker = |node: &Node| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node.id))
            .with_host(text(node.host.as_str()))
            .with_port(i32::from(node.port))
    };
    let mut response = MetadataResponse::default()
        .with_brokers(state.cluster.running().map(broker).collect())
        .with_cluster_id(Some(text(CLUSTER_ID)))
        .with_controller_id(BrokerId(state.cluster.controller()))
        .with_topics(topics);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

fn create_if_missing(state: &mut State, asked: &MetadataRequestTopic) -> Result<(), Refusal> {
    match &asked.name {
        Some(name) if state.topics.get(name).is_none() => {
            let config = state.default_config();
            state.create_topic(name, state.settings.default_partitions, config)
        }
        Some(_) | None => Ok(()),
    }
}

fn topic_asked_for(
    state: &State,
    context: &RequestContext,
    asked: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let Some(name) = &asked.name else {
        return topic_by_id(state, context, asked.topic_id);
    };
    if let Some(topic) = state.topics.get(name) {
        return describe_topic(&state.cluster, name, topic);
    }
    let error = match crate::topics::name::check(name) {
        Ok(()) => ResponseError::UnknownTopicOrPartition,
        Err(refusal) => refusal.error,
    };
    unknown_topic(error).with_name(Some(name.clone()))
}

fn topic_by_id(state: &State, context: &RequestContext, id: Uuid) -> MetadataResponseTopic {
    let found = state.topics.name_of(id).and_then(|name| Some((name, state.topics.get(name)?)));
    if let Some((name, topic)) = found {
        return describe_topic(&state.cluster, name, topic);
    }
    let no_name = (context.api_version < NULLABLE_NAME_VERSION).then(|| topic_name(""));
    unknown_topic(ResponseError::UnknownTopicId).with_name(no_name).with_topic_id(id)
}

fn unknown_topic(error: ResponseError) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(error.code())
}

fn describe_topic(cluster: &Cluster, name: &str, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..).zip(topic.partitions());
    let partitions = partitions.map(|(index, found)| describe_partition(cluster, index, found));
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(name)))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

fn describe_partition(
    cluster: &Cluster,
    index: i32,
    partition: &Partition,
) -> MetadataResponsePartition {
    let ids = |nodes: &[NodeId]| nodes.iter().copied().map(BrokerId).collect();
    let replicas = partition.replicas();
    let (in_sync, offline): (Vec<NodeId>, Vec<NodeId>) =
        replicas.iter().partition(|replica| partition.is_in_sync(**replica, cluster));
    // As in Kafka, the last replica in sync stays so when it goes offline.
    let last = replicas.iter().copied().take(usize::from(in_sync.is_empty()));
    let in_sync: Vec<NodeId> = in_sync.into_iter().chain(last).collect();
    let described = MetadataResponsePartition::default()
        .with_partition_index(index)
        .with_leader_epoch(partition.leader_epoch())
        .with_replica_nodes(ids(replicas))
        .with_isr_nodes(ids(&in_sync))
        .with_offline_replicas(ids(&offline));
    match partition.leader() {
        Some(leader) => described.with_leader_id(BrokerId(leader)),
        None => described
            .with_error_code(ResponseError::LeaderNotAvailable.code())
            .with_leader_id(NO_LEADER),
    }
}
