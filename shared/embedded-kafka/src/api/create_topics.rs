//! `CreateTopics`, `CreatePartitions` and `DeleteTopics`.

use std::collections::BTreeMap;

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use uuid::Uuid;

use crate::api::configs::source_of;
use crate::api::request::{RequestContext, text};
use crate::refusal::Refusal;
use crate::state::State;
use crate::topics::config::{KNOWN_CONFIGS, TopicConfig};

/// The number with which a client asks for the broker's default.
const BROKERS_CHOICE: i32 = -1;

/// Answers `CreateTopics`.
pub(crate) fn create_topics(
    state: &mut State,
    context: &RequestContext,
    request: &CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut requested: BTreeMap<&TopicName, Vec<&CreatableTopic>> = BTreeMap::new();
    for topic in &request.topics {
        requested.entry(&topic.name).or_default().push(topic);
    }
    let create = |(name, topics): (&TopicName, Vec<&CreatableTopic>)| {
        let created = match topics[..] {
            [topic] => state
                .check_controller(context.node)
                .and_then(|()| create_topic(state, topic, request)),
            _ => Err(Refusal::new(ResponseError::InvalidRequest, "Duplicate topic name.")),
        };
        created.unwrap_or_else(|refusal| {
            CreatableTopicResult::default()
                .with_error_code(refusal.error.code())
                .with_error_message(Some(text(refusal.message)))
                .with_configs(Some(Vec::new()))
                .with_name(name.clone())
        })
    };
    CreateTopicsResponse::default().with_topics(requested.into_iter().map(create).collect())
}

/// Answers `CreatePartitions`.
pub(crate) fn create_partitions(
    state: &mut State,
    context: &RequestContext,
    request: &CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let grow = |topic: &CreatePartitionsTopic| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        let grown =
            state.check_controller(context.node).and_then(|()| grow_topic(state, topic, request));
        match grown {
            Ok(()) => result,
            Err(refusal) => result
                .with_error_code(refusal.error.code())
                .with_error_message(Some(text(refusal.message))),
        }
    };
    CreatePartitionsResponse::default().with_results(request.topics.iter().map(grow).collect())
}

/// Answers `DeleteTopics`, by name or, from version 6, by id.
pub(crate) fn delete_topics(
    state: &mut State,
    context: &RequestContext,
    request: &DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let named = request
        .topic_names
        .iter()
        .map(|name| DeleteTopicState::default().with_name(Some(name.clone())));
    let delete = |topic: DeleteTopicState| match state.check_controller(context.node) {
        Ok(()) => delete_topic(state, topic),
        Err(refusal) => DeletableTopicResult::default()
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_error_code(refusal.error.code())
            .with_error_message(Some(text(refusal.message))),
    };
    let responses = request.topics.iter().cloned().chain(named).map(delete).collect();
    DeleteTopicsResponse::default().with_responses(responses)
}

fn create_topic(
    state: &mut State,
    topic: &CreatableTopic,
    request: &CreateTopicsRequest,
) -> Result<CreatableTopicResult, Refusal> {
    let replicas = replicas(state, topic)?;
    let mut config = state.default_config();
    for entry in &topic.configs {
        config.set(&entry.name, entry.value.as_deref())?;
    }
    let result = CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_num_partitions(i32::try_from(replicas.len()).unwrap_or(i32::MAX))
        .with_replication_factor(replication_factor(&replicas))
        .with_configs(Some(describe(&config)));
    if request.validate_only {
        return Ok(result);
    }
    let id = Uuid::new_v4();
    state.topics.create(&topic.name, id, replicas, config);
    Ok(result.with_topic_id(id))
}

fn replication_factor(replicas: &[Vec<NodeId>]) -> i16 {
    i16::try_from(replicas.first().map_or(0, Vec::len)).unwrap_or(i16::MAX)
}

/// Checks a new topic, and returns the replicas of each partition.
fn replicas(state: &State, topic: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let name = topic.name.as_str();
    if !topic.assignments.is_empty() {
        let assigned = assigned_replicas(state, topic)?;
        let count = i32::try_from(assigned.len()).unwrap_or(i32::MAX);
        return state.topics.check_new(name, count).map(|_| assigned);
    }
    let is_brokers_choice = topic.num_partitions == BROKERS_CHOICE;
    let count =
        if is_brokers_choice { state.settings.default_partitions } else { topic.num_partitions };
    let running = state.cluster.running().count();
    let wanted = i32::from(topic.replication_factor);
    let factor =
        if wanted == BROKERS_CHOICE { Some(running) } else { usize::try_from(wanted).ok() };
    let Some(factor) = factor.filter(|factor| (1..=running).contains(factor)) else {
        return Err(Refusal::new(
            ResponseError::InvalidReplicationFactor,
            format!(
                "Unable to replicate the partition {wanted} time(s): only {running} broker(s) are registered."
            ),
        ));
    };
    let count = state.topics.check_new(name, count)?;
    Ok((0..count).map(|index| state.cluster.place(index, factor)).collect())
}

/// Returns the replicas that the client assigns to each partition.
fn assigned_replicas(state: &State, topic: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let leaves_counts = (topic.num_partitions == BROKERS_CHOICE)
        && (i32::from(topic.replication_factor) == BROKERS_CHOICE);
    if !leaves_counts {
        return Err(Refusal::new(
            ResponseError::InvalidRequest,
            "a topic with assigned replicas cannot have a number of partitions or replicas",
        ));
    }
    let by_index: BTreeMap<i32, Vec<NodeId>> = topic
        .assignments
        .iter()
        .map(|one| (one.partition_index, one.broker_ids.iter().map(|id| id.0).collect()))
        .collect();
    let is_gapless = (by_index.len() == topic.assignments.len())
        && (0..).zip(by_index.keys()).all(|(expected, index)| expected == *index);
    let are_running = |nodes: &Vec<NodeId>| {
        !nodes.is_empty() && nodes.iter().all(|node| state.cluster.is_running(*node))
    };
    if !is_gapless || !by_index.values().all(are_running) {
        return Err(Refusal::new(
            ResponseError::InvalidReplicaAssignment,
            "every partition from 0 on must be assigned to nodes that run",
        ));
    }
    Ok(by_index.into_values().collect())
}

fn describe(config: &TopicConfig) -> Vec<CreatableTopicConfigs> {
    KNOWN_CONFIGS
        .iter()
        .map(|known| {
            let overridden = config.overridden(known.name);
            CreatableTopicConfigs::default()
                .with_name(text(known.name))
                .with_value(Some(overridden.map_or_else(|| text(config.default_of(known)), text)))
                .with_config_source(source_of(overridden))
        })
        .collect()
}

fn grow_topic(
    state: &mut State,
    topic: &CreatePartitionsTopic,
    request: &CreatePartitionsRequest,
) -> Result<(), Refusal> {
    let Some(found) = state.topics.get(&topic.name) else {
        return Err(Refusal::new(
            ResponseError::UnknownTopicOrPartition,
            "This server does not host this topic-partition.",
        ));
    };
    let count = found.check_growth(topic.count)?;
    if request.validate_only {
        return Ok(());
    }
    let (current, factor) = (found.partitions().len(), found.replication_factor());
    let replicas: Vec<_> =
        (current..count).map(|index| state.cluster.place(index, factor)).collect();
    if let Some(found) = state.topic_to_change(&topic.name) {
        found.grow(replicas);
    }
    Ok(())
}

fn delete_topic(state: &mut State, topic: DeleteTopicState) -> DeletableTopicResult {
    let unknown = match topic.name {
        Some(_) => ResponseError::UnknownTopicOrPartition,
        None => ResponseError::UnknownTopicId,
    };
    let name = match &topic.name {
        Some(name) => Some(name.to_string()),
        None => state.topics.name_of(topic.topic_id).map(str::to_owned),
    };
    let id = name.as_ref().and_then(|name| state.topics.get(name)).map(|found| found.id);
    let result = DeletableTopicResult::default().with_topic_id(id.unwrap_or(topic.topic_id));
    match name {
        Some(name) if state.delete_topic(&name) => {
            result.with_name(Some(crate::api::request::topic_name(&name)))
        }
        Some(_) | None => result
            .with_name(topic.name)
            .with_error_code(unknown.code())
            .with_error_message(Some(text(unknown.to_string()))),
    }
}
