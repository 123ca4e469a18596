//! The broker answers every version of every API that it lists in `ApiVersions`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest, FetchRequest,
    FindCoordinatorRequest, GroupId, HeartbeatRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetFetchResponse, OffsetForLeaderEpochRequest, ProduceRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use uuid::Uuid;

use crate::client::{Client, batch, fetch_request, name, produce_request, start};

const TOPIC: &str = "orders";
const TOPIC_RESOURCE: i8 = 2;
const UNKNOWN_MEMBER_ID: i16 = ResponseError::UnknownMemberId.code();

/// The listed versions of the APIs without a check so far.
struct Offers {
    client: Client,
    unchecked: BTreeMap<i16, RangeInclusive<i16>>,
}

impl Offers {
    /// Sends a request in every listed version and checks the responses.
    async fn check<R: Request>(
        &mut self,
        request: impl Fn(i16) -> R,
        check: impl Fn(i16, R::Response),
    ) {
        let offered = self.unchecked.remove(&R::KEY).expect("the API is offered");
        for version in offered {
            let response = self.client.ask(version, &request(version)).await;
            check(version, response);
        }
    }
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn group() -> GroupId {
    GroupId(text("group"))
}

#[tokio::test]
async fn every_supported_version_of_every_api_is_answered() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic(TOPIC, 2, &[]).await;
    client.produce(TOPIC, batch(&["zero"])).await;
    let id = client.topic_id(TOPIC).await;
    let response = client.ask(0, &ApiVersionsRequest::default()).await;
    let range = |api: &ApiVersion| {
        // The broker lists Produce 0 to 2 for librdkafka, and does not serve them.
        let min = if api.api_key == ProduceRequest::KEY { 3 } else { api.min_version };
        (api.api_key, min..=api.max_version)
    };
    let mut offers = Offers { client, unchecked: response.api_keys.iter().map(range).collect() };
    check_topics(&mut offers, id).await;
    check_topic_changes(&mut offers).await;
    check_records(&mut offers, id).await;
    check_log_ends(&mut offers).await;
    check_offsets_of_groups(&mut offers).await;
    check_membership(&mut offers).await;
    check_deletions(&mut offers).await;
    assert_eq!(offers.unchecked.keys().collect::<Vec<_>>(), Vec::<&i16>::new(), "unchecked");
}

async fn check_topics(offers: &mut Offers, id: Uuid) {
    offers
        .check(|_| ApiVersionsRequest::default(), |_, response| assert_eq!(response.error_code, 0))
        .await;
    offers
        .check(
            |version| {
                let topic = match version {
                    12.. => MetadataRequestTopic::default().with_name(None).with_topic_id(id),
                    _ => MetadataRequestTopic::default().with_name(Some(name(TOPIC))),
                };
                MetadataRequest::default()
                    .with_topics(Some(vec![topic]))
                    .with_include_topic_authorized_operations(8 <= version)
                    .with_include_cluster_authorized_operations((8..=10).contains(&version))
            },
            |_, response| {
                assert_eq!(response.topics[0].name, Some(name(TOPIC)));
                assert_eq!(response.topics[0].partitions.len(), 2);
            },
        )
        .await;
}

async fn check_topic_changes(offers: &mut Offers) {
    offers
        .check(
            |version| {
                let topic = CreatableTopic::default()
                    .with_name(name(&format!("created-{version}")))
                    .with_num_partitions(1)
                    .with_replication_factor(1);
                CreateTopicsRequest::default().with_topics(vec![topic])
            },
            |_, response| assert_eq!(response.topics[0].error_code, 0),
        )
        .await;
    offers
        .check(
            |version| {
                let count = 3 + i32::from(version);
                let topic =
                    CreatePartitionsTopic::default().with_name(name(TOPIC)).with_count(count);
                CreatePartitionsRequest::default().with_topics(vec![topic])
            },
            |_, response| assert_eq!(response.results[0].error_code, 0),
        )
        .await;
    offers
        .check(
            |version| {
                let resource = DescribeConfigsResource::default()
                    .with_resource_type(TOPIC_RESOURCE)
                    .with_resource_name(text(TOPIC))
                    .with_configuration_keys(Some(vec![text("max.message.bytes")]));
                DescribeConfigsRequest::default()
                    .with_resources(vec![resource])
                    .with_include_synonyms(1 <= version)
            },
            |_, response| {
                let config = &response.results[0].configs[0];
                assert_eq!(config.value.as_deref(), Some("1048588"));
            },
        )
        .await;
}

async fn check_records(offers: &mut Offers, id: Uuid) {
    offers
        .check(
            |_| InitProducerIdRequest::default().with_transactional_id(None),
            |_, response| {
                assert_eq!(response.error_code, 0);
            },
        )
        .await;
    offers
        .check(
            |version| {
                let mut request = produce_request(TOPIC, batch(&["value"]), -1);
                if 13 <= version {
                    request.topic_data[0].name = name("");
                    request.topic_data[0].topic_id = id;
                }
                request
            },
            |version, response: <ProduceRequest as Request>::Response| {
                let partition = &response.responses[0].partition_responses[0];
                let written_before = i64::from(version - 3) + 1;
                assert_eq!((partition.error_code, partition.base_offset), (0, written_before));
            },
        )
        .await;
    offers
        .check(
            |version| {
                let mut request = fetch_request(TOPIC, 1);
                if 13 <= version {
                    request.topics[0].topic = name("");
                    request.topics[0].topic_id = id;
                }
                request
            },
            |version, response: <FetchRequest as Request>::Response| {
                let partition = &response.responses[0].partitions[0];
                assert_eq!((partition.error_code, partition.high_watermark), (0, 12));
                let mut records = partition.records.clone().unwrap();
                assert_eq!(records.get_i64(), 1, "version {version}");
            },
        )
        .await;
}

async fn check_log_ends(offers: &mut Offers) {
    offers
        .check(
            |_| {
                let partition = OffsetForLeaderPartition::default().with_leader_epoch(0);
                let topic = OffsetForLeaderTopic::default()
                    .with_topic(name(TOPIC))
                    .with_partitions(vec![partition]);
                OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
            },
            |_, response| {
                let partition = &response.topics[0].partitions[0];
                assert_eq!((partition.leader_epoch, partition.end_offset), (0, 12));
            },
        )
        .await;
    offers
        .check(
            |_| {
                let partition = ListOffsetsPartition::default().with_timestamp(-1);
                let topic = ListOffsetsTopic::default()
                    .with_name(name(TOPIC))
                    .with_partitions(vec![partition]);
                ListOffsetsRequest::default().with_topics(vec![topic])
            },
            |version, response| {
                let partition = &response.topics[0].partitions[0];
                let epoch = if version < 4 { -1 } else { 0 };
                assert_eq!((partition.offset, partition.leader_epoch), (12, epoch));
            },
        )
        .await;
    offers
        .check(
            |version| {
                let partition =
                    DeleteRecordsPartition::default().with_offset(i64::from(version) + 1);
                let topic = DeleteRecordsTopic::default()
                    .with_name(name(TOPIC))
                    .with_partitions(vec![partition]);
                DeleteRecordsRequest::default().with_topics(vec![topic])
            },
            |version, response| {
                let partition = &response.topics[0].partitions[0];
                assert_eq!(partition.low_watermark, i64::from(version) + 1);
            },
        )
        .await;
}

async fn check_offsets_of_groups(offers: &mut Offers) {
    offers
        .check(
            |version| match version {
                4.. => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group")]),
                _ => FindCoordinatorRequest::default().with_key(text("group")),
            },
            |version, response| {
                let node = match version {
                    4.. => response.coordinators[0].node_id,
                    _ => response.node_id,
                };
                assert_eq!(i32::from(node), 1);
            },
        )
        .await;
    offers
        .check(
            |version| {
                let partition = OffsetCommitRequestPartition::default()
                    .with_committed_offset(i64::from(version))
                    .with_committed_metadata(Some(text("state")));
                let topic = OffsetCommitRequestTopic::default()
                    .with_name(name(TOPIC))
                    .with_partitions(vec![partition]);
                OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![topic])
            },
            |_, response| assert_eq!(response.topics[0].partitions[0].error_code, 0),
        )
        .await;
    offers
        .check(offset_fetch_request, |version, response| {
            if version < 8 {
                return check_old_offset_fetch(&response);
            }
            let partition = &response.groups[0].topics[0].partitions[0];
            assert_eq!(partition.committed_offset, 9);
            assert_eq!(partition.metadata, Some(text("state")));
        })
        .await;
    offers
        .check(
            |_| DescribeGroupsRequest::default().with_groups(vec![group()]),
            |_, response| {
                assert_eq!(response.groups[0].group_state.as_str(), "Empty");
            },
        )
        .await;
}

fn offset_fetch_request(version: i16) -> OffsetFetchRequest {
    if 8 <= version {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(name(TOPIC))
            .with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(group())
            .with_topics(Some(vec![topic]));
        return OffsetFetchRequest::default().with_groups(vec![group]);
    }
    let topic =
        OffsetFetchRequestTopic::default().with_name(name(TOPIC)).with_partition_indexes(vec![0]);
    // From version 2, null asks for all topics.
    let topics = (version < 2).then(|| vec![topic]);
    OffsetFetchRequest::default().with_group_id(group()).with_topics(topics)
}

fn check_old_offset_fetch(response: &OffsetFetchResponse) {
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.committed_offset, 9);
    assert_eq!(partition.metadata, Some(text("state")));
}

async fn check_membership(offers: &mut Offers) {
    // Each version is a static or an old client that joins an empty group of its own in one step.
    offers
        .check(
            |version| {
                let protocol = JoinGroupRequestProtocol::default()
                    .with_name(text("range"))
                    .with_metadata(Bytes::from_static(b"metadata"));
                JoinGroupRequest::default()
                    .with_group_id(GroupId(text(&format!("group-{version}"))))
                    .with_session_timeout_ms(30_000)
                    .with_group_instance_id((5 <= version).then(|| text("instance")))
                    .with_protocol_type(text("consumer"))
                    .with_protocols(vec![protocol])
            },
            |version, response| {
                // Version 4 has member ids but no static members, and must ask for its id first.
                let expected = if version == 4 { (79, -1) } else { (0, 1) };
                assert_eq!((response.error_code, response.generation_id), expected);
            },
        )
        .await;
    offers
        .check(
            |version| {
                SyncGroupRequest::default()
                    .with_group_id(group())
                    .with_protocol_type((5 <= version).then(|| text("consumer")))
                    .with_protocol_name((5 <= version).then(|| text("range")))
            },
            |_, response| assert_eq!(response.error_code, UNKNOWN_MEMBER_ID),
        )
        .await;
    offers
        .check(
            |_| HeartbeatRequest::default().with_group_id(group()),
            |_, response| {
                assert_eq!(response.error_code, UNKNOWN_MEMBER_ID);
            },
        )
        .await;
    offers
        .check(
            |version| {
                let request = LeaveGroupRequest::default().with_group_id(group());
                if version < 3 {
                    return request.with_member_id(text("nobody"));
                }
                let member = MemberIdentity::default().with_member_id(text("nobody"));
                request.with_members(vec![member])
            },
            |version, response| {
                let error = match version {
                    3.. => response.members[0].error_code,
                    _ => response.error_code,
                };
                assert_eq!(error, UNKNOWN_MEMBER_ID);
            },
        )
        .await;
}

async fn check_deletions(offers: &mut Offers) {
    offers
        .check(
            |version| {
                let topic = name(&format!("created-{}", version + 1));
                let request = DeleteTopicsRequest::default();
                if version < 6 {
                    return request.with_topic_names(vec![topic]);
                }
                request.with_topics(vec![DeleteTopicState::default().with_name(Some(topic))])
            },
            |_, response| assert_eq!(response.responses[0].error_code, 0),
        )
        .await;
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    // API key 18, version 77, correlation id 5, then unknown bytes.
    client.send_raw(&[0, 18, 0, 77, 0, 0, 0, 5, 1, 2, 3]).await;
    let mut frame = client.receive_raw().await.unwrap();
    assert_eq!(frame.get_i32(), 5);
    assert_eq!(frame.get_i16(), 35, "UNSUPPORTED_VERSION");
    assert_eq!(frame.get_i32(), 1);
    assert_eq!((frame.get_i16(), frame.get_i16(), frame.get_i16()), (18, 0, 4));
    let response = client.ask(4, &ApiVersionsRequest::default()).await;
    assert_eq!(response.error_code, 0, "the connection goes on");
}

#[tokio::test]
async fn unsupported_requests_close_the_connection() {
    let broker = start().await;
    for frame in [
        &[0, 0, 0, 2, 0, 0, 0, 5, 0, 0][..], // Produce version 2
        &[0, 67, 0, 0, 0, 0, 0, 5, 0, 0],    // AllocateProducerIds
        &[0, 3, 0],                          // too short for a header
        &[0, 3, 0, 12, 0, 0, 0, 5, 0, 99],   // a client id beyond the end
    ] {
        let mut client = Client::connect(&broker).await;
        client.send_raw(frame).await;
        assert_eq!(client.receive_raw().await, None, "{frame:?}");
    }
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.ask(4, &ApiVersionsRequest::default()).await.error_code, 0);
}
