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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopics,
    };
    use kafka_protocol::messages::offset_fetch_response::{
        OffsetFetchResponsePartition, OffsetFetchResponseTopic,
    };
    use kafka_protocol::protocol::{Decodable, StrBytes};

    use crate::api::Call;
    use crate::cluster::topic_name;

    use super::*;

    /// Sends a request of the newest form through a broker of this version, and returns what the broker gets.
    fn through<R: Call + Clone + Decodable>(request: &R, version: i16) -> R {
        let request = request.older(version).unwrap_or_else(|| request.clone());
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).unwrap();
        R::decode(&mut bytes.freeze(), version).unwrap()
    }

    #[test]
    fn a_coordinator_is_looked_up_in_every_version() {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec!["group".into()]);
        for version in FindCoordinatorRequest::VERSIONS {
            let got = through(&request, version);
            let keys = (got.key.to_string(), got.coordinator_keys.len());
            let expected = if version < 4 { ("group", 0) } else { ("", 1) };
            assert_eq!((keys.0.as_str(), keys.1), expected, "{version}");
        }
        let answer = FindCoordinatorResponse::default()
            .with_node_id(3.into())
            .with_host("broker".into())
            .with_port(9092)
            .with_error_code(15);
        let newer = FindCoordinatorRequest::newer(answer, 3);
        let [found] = &newer.coordinators[..] else { panic!("{newer:?}") };
        let found = (found.node_id.0, found.host.as_str(), found.port, found.error_code);
        assert_eq!(found, (3, "broker", 9092, 15));
    }

    #[test]
    fn committed_offsets_are_asked_for_in_every_version() {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(topic_name("orders"))
            .with_partition_indexes(vec![0, 1]);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(StrBytes::from_static_str("group").into())
            .with_topics(Some(vec![topic]));
        let request =
            OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
        for version in OffsetFetchRequest::VERSIONS {
            let got = through(&request, version);
            assert_eq!(got.require_stable, version >= 7, "{version}");
            let indexes = if version < 8 {
                assert_eq!(got.group_id.0.as_str(), "group", "{version}");
                got.topics.unwrap()[0].partition_indexes.clone()
            } else {
                got.groups[0].topics.as_ref().unwrap()[0].partition_indexes.clone()
            };
            assert_eq!(indexes, [0, 1], "{version}");
        }
        let partition = OffsetFetchResponsePartition::default()
            .with_partition_index(1)
            .with_committed_offset(7)
            .with_committed_leader_epoch(2)
            .with_metadata(Some("metadata".into()))
            .with_error_code(3);
        let topic = OffsetFetchResponseTopic::default()
            .with_name(topic_name("orders"))
            .with_partitions(vec![partition]);
        let answer = OffsetFetchResponse::default().with_topics(vec![topic]).with_error_code(16);
        let newer = OffsetFetchRequest::newer(answer, 7);
        let [group] = &newer.groups[..] else { panic!("{newer:?}") };
        assert_eq!((group.error_code, group.topics[0].name.0.as_str()), (16, "orders"));
        let found = &group.topics[0].partitions[0];
        let numbers = (found.partition_index, found.committed_offset, found.committed_leader_epoch);
        assert_eq!((numbers, found.error_code), ((1, 7, 2), 3));
        assert_eq!(found.metadata.as_deref(), Some("metadata"));
    }
}
