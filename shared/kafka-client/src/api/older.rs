//! Requests and answers of versions that ask for one group at a time.
//!
//! The rest of the crate knows the newest form. Brokers that offer FindCoordinator up to 3 or OffsetFetch up to 7 get the older one.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, OffsetFetchRequest, OffsetFetchResponse,
};

/// Returns the request for the coordinator of its first key.
pub(super) fn find_coordinator(request: &FindCoordinatorRequest) -> FindCoordinatorRequest {
    let key = request.coordinator_keys.first().cloned().unwrap_or_default();
    FindCoordinatorRequest::default().with_key_type(request.key_type).with_key(key)
}

/// Returns the answer as newer versions have it.
pub(super) fn coordinator(answer: FindCoordinatorResponse) -> FindCoordinatorResponse {
    let coordinator = Coordinator::default()
        .with_node_id(answer.node_id)
        .with_host(answer.host.clone())
        .with_port(answer.port)
        .with_error_code(answer.error_code)
        .with_error_message(answer.error_message.clone());
    answer.with_coordinators(vec![coordinator])
}

/// Returns the request for the offsets of its first group. Offsets of open transactions are known as such since version 7.
pub(super) fn offset_fetch(request: &OffsetFetchRequest, version: i16) -> OffsetFetchRequest {
    let group = request.groups.first().cloned().unwrap_or_default();
    let topics = group.topics.map(|topics| {
        let older = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopic::default()
                .with_name(topic.name)
                .with_partition_indexes(topic.partition_indexes)
        });
        older.collect()
    });
    OffsetFetchRequest::default()
        .with_group_id(group.group_id)
        .with_topics(topics)
        .with_require_stable(request.require_stable && version >= 7)
}

/// Returns the answer as newer versions have it.
pub(super) fn offsets(answer: OffsetFetchResponse) -> OffsetFetchResponse {
    let topics = answer.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata.clone())
                .with_error_code(partition.error_code)
        });
        OffsetFetchResponseTopics::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    let group = OffsetFetchResponseGroup::default()
        .with_topics(topics.collect())
        .with_error_code(answer.error_code);
    answer.with_groups(vec![group])
}
