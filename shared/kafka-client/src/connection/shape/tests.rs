use bytes::BytesMut;
use kafka_protocol::messages::{
    create_topics_response as create, describe_groups_response as groups,
    list_offsets_response as list, metadata_response as metadata, offset_commit_response as commit,
    offset_fetch_response as committed, produce_response as produce,
};
use kafka_protocol::protocol::Encodable;

use super::*;
use crate::api::Call;

/// Checks that a complete answer fits in every version before KIP-482 that this crate speaks, no shorter one does, and the shape
/// covers all of it.
fn check<R: Call<Response = A>, A: Encodable>(answer: &A, flexible_since: i16) {
    for version in *R::VERSIONS.start()..flexible_since {
        let mut bytes = BytesMut::new();
        answer.encode(&mut bytes, version).unwrap();
        let shape = shape(R::KEY, version).expect("its counts are checked");
        let mut whole = Answer { rest: &bytes };
        whole.skip(shape.as_bytes()).unwrap();
        assert!(whole.rest.is_empty(), "{:?} {version}: {:?}", R::KEY, whole.rest);
        for length in 0..bytes.len() {
            assert!(!fits(R::KEY, version, &bytes[..length]), "{:?} {version} {length}", R::KEY);
        }
    }
}

#[test]
fn the_shapes_are_those_of_the_protocol() {
    use kafka_protocol::messages::*;

    let partition = metadata::MetadataResponsePartition::default()
        .with_replica_nodes(vec![1.into(), 2.into()])
        .with_isr_nodes(vec![1.into()])
        .with_offline_replicas(vec![2.into(), 3.into(), 4.into()]);
    let topic = metadata::MetadataResponseTopic::default()
        .with_name(Some(TopicName("orders".into())))
        .with_partitions(vec![partition.clone(), partition]);
    let broker = metadata::MetadataResponseBroker::default().with_rack(Some("a".into()));
    let answer = MetadataResponse::default()
        .with_brokers(vec![broker.clone(), broker])
        .with_cluster_id(Some("cluster".into()))
        .with_topics(vec![topic]);
    check::<MetadataRequest, _>(&answer, 9);

    let topic = create::CreatableTopicResult::default().with_error_message(Some("no".into()));
    check::<CreateTopicsRequest, _>(&CreateTopicsResponse::default().with_topics(vec![topic]), 5);

    let topic = produce::TopicProduceResponse::default()
        .with_partition_responses(vec![produce::PartitionProduceResponse::default()]);
    check::<ProduceRequest, _>(&ProduceResponse::default().with_responses(vec![topic]), 9);

    let topic = list::ListOffsetsTopicResponse::default()
        .with_partitions(vec![list::ListOffsetsPartitionResponse::default()]);
    check::<ListOffsetsRequest, _>(&ListOffsetsResponse::default().with_topics(vec![topic]), 6);

    let member = groups::DescribedGroupMember::default().with_member_metadata("metadata".into());
    let group = groups::DescribedGroup::default().with_members(vec![member.clone(), member]);
    check::<DescribeGroupsRequest, _>(
        &DescribeGroupsResponse::default().with_groups(vec![group]),
        5,
    );

    let member = join_group_response::JoinGroupResponseMember::default()
        .with_group_instance_id(Some("one".into()))
        .with_metadata("metadata".into());
    check::<JoinGroupRequest, _>(&JoinGroupResponse::default().with_members(vec![member]), 6);

    let member = leave_group_response::MemberResponse::default();
    check::<LeaveGroupRequest, _>(&LeaveGroupResponse::default().with_members(vec![member]), 4);

    let topic = commit::OffsetCommitResponseTopic::default()
        .with_partitions(vec![commit::OffsetCommitResponsePartition::default()]);
    check::<OffsetCommitRequest, _>(&OffsetCommitResponse::default().with_topics(vec![topic]), 8);

    let topic = committed::OffsetFetchResponseTopic::default()
        .with_partitions(vec![committed::OffsetFetchResponsePartition::default()]);
    check::<OffsetFetchRequest, _>(&OffsetFetchResponse::default().with_topics(vec![topic]), 6);
}

#[test]
fn a_count_that_the_bytes_cannot_hold_is_refused() {
    for count in [1, 2, i32::MAX] {
        let answer = [&[0; 4][..], &count.to_be_bytes(), &[0; 3]].concat();
        assert!(!fits(ApiKey::Metadata, 7, &answer), "{count}");
    }
}
