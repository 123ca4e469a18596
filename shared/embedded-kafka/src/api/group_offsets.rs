//! `OffsetCommit` and `OffsetFetch`.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};

use crate::api::request::{RequestContext, owned, text, topic_name};
use crate::groups::CommitRequest;
use crate::groups::member::Claim;
use crate::groups::offsets::{CommittedOffset, Offsets};
use crate::refusal::code_of;
use crate::state::State;

const FIRST_COMMIT_WITH_GROUP_NOT_FOUND: i16 = 9;
/// The first version with an error outside the partitions.
const FIRST_FETCH_WITH_ERROR: i16 = 2;
const FIRST_FETCH_OF_SEVERAL_GROUPS: i16 = 8;
const NOT_COMMITTED: i64 = -1;
const NO_EPOCH: i32 = -1;

/// Answers `OffsetCommit`.
pub(crate) fn offset_commit(
    state: &mut State,
    context: &RequestContext,
    request: &OffsetCommitRequest,
) -> OffsetCommitResponse {
    let exists = |topic: &str, partition| {
        state.topics.get(topic).is_some_and(|topic| topic.has_partition(partition))
    };
    let mut offsets = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if exists(&topic.name, partition.partition_index) {
                offsets.push((
                    topic.name.to_string(),
                    partition.partition_index,
                    committed(partition),
                ));
            }
        }
    }
    let keys: Vec<(String, i32)> =
        offsets.iter().map(|(topic, partition, _)| (topic.clone(), *partition)).collect();
    let has_new_error = FIRST_COMMIT_WITH_GROUP_NOT_FOUND <= context.api_version;
    let commit = CommitRequest {
        group_id: request.group_id.to_string(),
        claim: Claim {
            member_id: request.member_id.to_string(),
            group_instance_id: owned(request.group_instance_id.as_ref()),
            generation_id: request.generation_id_or_member_epoch,
        },
        offsets,
        no_group_error: if has_new_error {
            ResponseError::GroupIdNotFound
        } else {
            ResponseError::IllegalGeneration
        },
    };
    // As in Kafka, a request without an existing partition never reaches the coordinator.
    let results: BTreeMap<(String, i32), Option<ResponseError>> = if keys.is_empty() {
        BTreeMap::new()
    } else {
        let committed = state
            .check_coordinator(context.node, &request.group_id)
            .and_then(|()| state.groups.commit(context.now, commit));
        match committed {
            Ok(results) => keys.into_iter().zip(results).collect(),
            Err(error) => keys.into_iter().map(|key| (key, Some(error))).collect(),
        }
    };
    let topics = request.topics.iter().map(|topic| {
        let partition = |partition: &OffsetCommitRequestPartition| {
            let index = partition.partition_index;
            let unknown = Some(ResponseError::UnknownTopicOrPartition);
            let error = results.get(&(topic.name.to_string(), index)).copied().unwrap_or(unknown);
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code_of(error))
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Answers `OffsetFetch`, for one group or, from version 8, for several.
pub(crate) fn offset_fetch(
    state: &mut State,
    context: &RequestContext,
    request: &OffsetFetchRequest,
) -> OffsetFetchResponse {
    if FIRST_FETCH_OF_SEVERAL_GROUPS <= context.api_version {
        let fetch = |group| fetch_group(state, context, group);
        let groups = request.groups.iter().map(fetch).collect();
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let wide = |topic: &OffsetFetchRequestTopic| {
        OffsetFetchRequestTopics::default()
            .with_name(topic.name.clone())
            .with_partition_indexes(topic.partition_indexes.clone())
    };
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id.clone())
        .with_topics(request.topics.as_ref().map(|topics| topics.iter().map(wide).collect()));
    let mut fetched = fetch_group(state, context, &group);
    if (context.api_version < FIRST_FETCH_WITH_ERROR) && (fetched.error_code != 0) {
        let asked = group.topics.iter().flatten();
        fetched.topics = asked.map(|topic| refused_topic(topic, fetched.error_code)).collect();
        fetched.error_code = 0;
    }
    OffsetFetchResponse::default()
        .with_error_code(fetched.error_code)
        .with_topics(fetched.topics.into_iter().map(narrow).collect())
}

fn committed(partition: &OffsetCommitRequestPartition) -> CommittedOffset {
    CommittedOffset {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: owned(partition.committed_metadata.as_ref()).unwrap_or_default(),
    }
}

fn fetch_group(
    state: &mut State,
    context: &RequestContext,
    request: &OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(request.group_id.clone());
    if let Err(error) = state.check_coordinator(context.node, &request.group_id) {
        return response.with_error_code(error.code());
    }
    let offsets = state.groups.get(&request.group_id).map(|group| &group.offsets);
    let topics = match &request.topics {
        Some(topics) => topics.iter().map(|topic| fetch_topic(offsets, topic)).collect(),
        None => offsets.map(all_topics).unwrap_or_default(),
    };
    response.with_topics(topics)
}

fn fetch_topic(
    offsets: Option<&Offsets>,
    topic: &OffsetFetchRequestTopics,
) -> OffsetFetchResponseTopics {
    let partition = |index| {
        let committed = offsets.and_then(|offsets| offsets.get(&topic.name, index));
        fetched_partition(index, committed)
    };
    let partitions = topic.partition_indexes.iter().copied().map(partition).collect();
    OffsetFetchResponseTopics::default().with_name(topic.name.clone()).with_partitions(partitions)
}

fn refused_topic(topic: &OffsetFetchRequestTopics, error_code: i16) -> OffsetFetchResponseTopics {
    let refused = |index: &i32| fetched_partition(*index, None).with_error_code(error_code);
    let partitions = topic.partition_indexes.iter().map(refused).collect();
    OffsetFetchResponseTopics::default().with_name(topic.name.clone()).with_partitions(partitions)
}

fn all_topics(offsets: &Offsets) -> Vec<OffsetFetchResponseTopics> {
    let topic = |(topic, partitions): (&str, &BTreeMap<i32, CommittedOffset>)| {
        let partitions = partitions
            .iter()
            .map(|(index, committed)| fetched_partition(*index, Some(committed)))
            .collect();
        OffsetFetchResponseTopics::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions)
    };
    offsets.iter().map(topic).collect()
}

fn fetched_partition(
    index: i32,
    committed: Option<&CommittedOffset>,
) -> OffsetFetchResponsePartitions {
    let partition = OffsetFetchResponsePartitions::default().with_partition_index(index);
    match committed {
        Some(committed) => partition
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(text(committed.metadata.as_str()))),
        None => partition
            .with_committed_offset(NOT_COMMITTED)
            .with_committed_leader_epoch(NO_EPOCH)
            .with_metadata(Some(text(""))),
    }
}

/// Converts a topic of a response for several groups into a topic of a response for one group.
fn narrow(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partition = |partition: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    };
    let partitions = topic.partitions.into_iter().map(partition).collect();
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions)
}
