//! `CreateTopics`, `CreatePartitions` and `DeleteTopics`.

use std::collections::BTreeMap;

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
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};

use crate::api::configs::source_of;
use crate::api::request::{RequestContext, text};
use crate::refusal::Refusal;
use crate::state::{NODE_ID, State};
use crate::topics::config::{KNOWN_CONFIGS, TopicConfig};

/// The only replication factor of a single broker.
const REPLICATION_FACTOR: i16 = 1;
/// The number with which a client asks for the broker's default.
const BROKERS_CHOICE: i32 = -1;

/// Answers `CreateTopics`.
pub(crate) fn create_topics(
    state: &mut State,
    _context: &RequestContext,
    request: &CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut requested: BTreeMap<&TopicName, Vec<&CreatableTopic>> = BTreeMap::new();
    for topic in &request.topics {
        requested.entry(&topic.name).or_default().push(topic);
    }
    let create = |(name, topics): (&TopicName, Vec<&CreatableTopic>)| {
        let created = match topics[..] {
            [topic] => create_topic(state, topic, request),
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
    _context: &RequestContext,
    request: &CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let grow = |topic: &CreatePartitionsTopic| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        match grow_topic(state, topic, request) {
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
    _context: &RequestContext,
    request: &DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let named = request
        .topic_names
        .iter()
        .map(|name| DeleteTopicState::default().with_name(Some(name.clone())));
    let delete = |topic: DeleteTopicState| delete_topic(state, topic);
    let responses = request.topics.iter().cloned().chain(named).map(delete).collect();
    DeleteTopicsResponse::default().with_responses(responses)
}

fn create_topic(
    state: &mut State,
    topic: &CreatableTopic,
    request: &CreateTopicsRequest,
) -> Result<CreatableTopicResult, Refusal> {
    let name = topic.name.as_str();
    let partition_count = partition_count(state, topic)?;
    state.topics.check_new(name, partition_count)?;
    let mut config = state.default_config();
    for entry in &topic.configs {
        config.set(&entry.name, entry.value.as_deref())?;
    }
    let result = CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_num_partitions(partition_count)
        .with_replication_factor(REPLICATION_FACTOR)
        .with_configs(Some(describe(&config)));
    if request.validate_only {
        return Ok(result);
    }
    state.create_topic(name, partition_count, config)?;
    let id = state.topics.get(name).map(|topic| topic.id).unwrap_or_default();
    Ok(result.with_topic_id(id))
}

/// Checks the requested replicas and returns the number of partitions.
fn partition_count(state: &State, topic: &CreatableTopic) -> Result<i32, Refusal> {
    let leaves_counts = (topic.num_partitions == BROKERS_CHOICE)
        && (i32::from(topic.replication_factor) == BROKERS_CHOICE);
    if !topic.assignments.is_empty() {
        if !leaves_counts {
            return Err(Refusal::new(
                ResponseError::InvalidRequest,
                "a topic with assigned replicas cannot have a number of partitions or replicas",
            ));
        }
        let mut indexes: Vec<i32> =
            topic.assignments.iter().map(|assignment| assignment.partition_index).collect();
        indexes.sort_unstable();
        let is_gapless = (0..).zip(&indexes).all(|(expected, index)| expected == *index);
        let on_this_broker =
            topic.assignments.iter().all(|assignment| assignment.broker_ids == [BrokerId(NODE_ID)]);
        if !is_gapless || !on_this_broker {
            return Err(Refusal::new(
                ResponseError::InvalidReplicaAssignment,
                format!("every partition from 0 on must be assigned to broker {NODE_ID} alone"),
            ));
        }
        return Ok(i32::try_from(indexes.len()).unwrap_or(i32::MAX));
    }
    if (topic.replication_factor != REPLICATION_FACTOR)
        && (i32::from(topic.replication_factor) != BROKERS_CHOICE)
    {
        return Err(Refusal::new(
            ResponseError::InvalidReplicationFactor,
            format!(
                "Unable to replicate the partition {} time(s): only 1 broker is registered.",
                topic.replication_factor
            ),
        ));
    }
    let is_brokers_choice = topic.num_partitions == BROKERS_CHOICE;
    Ok(if is_brokers_choice { state.settings.default_partitions } else { topic.num_partitions })
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
    let Some(found) = state.topic_to_change(&topic.name) else {
        return Err(Refusal::new(
            ResponseError::UnknownTopicOrPartition,
            "This server does not host this topic-partition.",
        ));
    };
    if request.validate_only {
        found.check_growth(topic.count).map(|_| ())
    } else {
        found.grow(topic.count)
    }
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
