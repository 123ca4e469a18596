//! Consumer groups over several connections.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteTopicsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::client::{Client, name, start};

const REBALANCE_IN_PROGRESS: i16 = ResponseError::RebalanceInProgress.code();

pub(crate) fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("group"))
}

pub(crate) fn join_request(member_id: &StrBytes, session_timeout_ms: i32) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from_static(b"metadata"));
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(session_timeout_ms)
        .with_rebalance_timeout_ms(19_000)
        .with_member_id(member_id.clone())
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol])
}

/// Asks for a member id.
pub(crate) async fn member_id(client: &mut Client) -> StrBytes {
    let given = client.ask(9, &join_request(&StrBytes::new(), 10_000)).await;
    assert_eq!(given.error_code, ResponseError::MemberIdRequired.code());
    given.member_id
}

pub(crate) fn heartbeat(joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(joined.member_id.clone())
        .with_generation_id(joined.generation_id)
}

pub(crate) fn sync_request(
    joined: &JoinGroupResponse,
    to: &[(&StrBytes, &'static str)],
) -> SyncGroupRequest {
    let assignments = to
        .iter()
        .map(|(member, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id((*member).clone())
                .with_assignment(Bytes::from_static(assignment.as_bytes()))
        })
        .collect();
    SyncGroupRequest::default()
        .with_group_id(group())
        .with_member_id(joined.member_id.clone())
        .with_generation_id(joined.generation_id)
        .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
        .with_protocol_name(Some(StrBytes::from_static_str("range")))
        .with_assignments(assignments)
}

fn commit_request(joined: &JoinGroupResponse) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_member_id(joined.member_id.clone())
        .with_generation_id_or_member_epoch(joined.generation_id)
        .with_topics(vec![topic])
}

#[tokio::test]
async fn a_waiting_join_blocks_only_its_own_connection() {
    let broker = start().await;
    let mut first = Client::connect(&broker).await;
    let mut second = Client::connect(&broker).await;
    let mut commits = Client::connect(&broker).await;
    commits.create_topic("orders", 1, &[]).await;
    let first_id = member_id(&mut first).await;
    let alone = first.ask(9, &join_request(&first_id, 10_000)).await;
    assert_eq!((alone.error_code, alone.leader.clone()), (0, first_id.clone()));
    first.ask(5, &sync_request(&alone, &[(&first_id, "all")])).await;

    let second_id = member_id(&mut second).await;
    second.send(9, &join_request(&second_id, 10_000)).await;
    second.send(4, &heartbeat(&alone)).await;
    // The broker has the second member's `JoinGroup` once it tells the first member to join again.
    while first.ask(4, &heartbeat(&alone)).await.error_code != REBALANCE_IN_PROGRESS {}
    let committed = commits.ask(9, &commit_request(&alone)).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0, "the generation that ends");

    let joined = first.ask(9, &join_request(&first_id, 10_000)).await;
    let follower = second.receive::<JoinGroupRequest>(9).await;
    assert_eq!((joined.members.len(), follower.members.len()), (2, 0));
    assert_eq!(joined.generation_id, alone.generation_id + 1);
    let late = second.receive::<HeartbeatRequest>(4).await.error_code;
    assert_eq!(late, ResponseError::IllegalGeneration.code(), "it waited behind the JoinGroup");
    let committed = commits.ask(9, &commit_request(&joined)).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, REBALANCE_IN_PROGRESS);

    second.send(5, &sync_request(&follower, &[])).await;
    let assignments = [(&first_id, "p0"), (&second_id, "p1")];
    let own = first.ask(5, &sync_request(&joined, &assignments)).await;
    let others = second.receive::<SyncGroupRequest>(5).await;
    assert_eq!((&own.assignment[..], &others.assignment[..]), (&b"p0"[..], &b"p1"[..]));
    let described =
        commits.ask(5, &DescribeGroupsRequest::default().with_groups(vec![group()])).await;
    let described = &described.groups[0];
    assert_eq!((described.group_state.as_str(), described.members.len()), ("Stable", 2));
    assert_eq!(described.members[0].client_host.as_str(), "/127.0.0.1");
    assert_eq!(described.members[0].client_id.as_str(), "tester");
}

#[tokio::test]
async fn a_waiting_join_is_answered_when_the_session_of_another_member_ends() {
    let broker = start().await;
    let mut silent = Client::connect(&broker).await;
    let silent_id = member_id(&mut silent).await;
    let alone = silent.ask(9, &join_request(&silent_id, 50)).await;
    silent.send(5, &sync_request(&alone, &[])).await;
    // No client sends another request: only the broker's timer can answer.
    let mut second = Client::connect(&broker).await;
    let second_id = member_id(&mut second).await;
    let joined = second.ask(9, &join_request(&second_id, 10_000)).await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
}

#[tokio::test]
async fn offsets_are_committed_for_existing_partitions_and_deleted_with_their_topic() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    let simple = JoinGroupResponse::default().with_generation_id(-1);
    let commit = commit_request(&simple);
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(client.ask(9, &commit).await.topics[0].partitions[0].error_code, unknown);
    client.create_topic("orders", 1, &[]).await;
    assert_eq!(client.ask(9, &commit).await.topics[0].partitions[0].error_code, 0);
    let everything = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
    let fetch = OffsetFetchRequest::default().with_groups(vec![everything]);
    let fetched = client.ask(9, &fetch).await.groups.remove(0);
    assert_eq!(fetched.topics[0].partitions[0].committed_offset, 5);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![name("orders")]);
    client.ask(5, &delete).await;
    assert!(client.ask(9, &fetch).await.groups[0].topics.is_empty());
}

#[tokio::test]
async fn a_silent_member_is_removed_when_its_session_ends() {
    let broker = start().await;
    let mut first = Client::connect(&broker).await;
    let first_id = member_id(&mut first).await;
    let alone = first.ask(9, &join_request(&first_id, 10_000)).await;
    first.ask(5, &sync_request(&alone, &[])).await;

    let mut second = Client::connect(&broker).await;
    let second_id = member_id(&mut second).await;
    second.send(9, &join_request(&second_id, 50)).await;
    while first.ask(4, &heartbeat(&alone)).await.error_code != REBALANCE_IN_PROGRESS {}
    let both = first.ask(9, &join_request(&first_id, 10_000)).await;
    assert_eq!(both.members.len(), 2);
    drop(second);
    first.ask(5, &sync_request(&both, &[])).await;
    while first.ask(4, &heartbeat(&both)).await.error_code != REBALANCE_IN_PROGRESS {}
    let alone_again = first.ask(9, &join_request(&first_id, 10_000)).await;
    assert_eq!(alone_again.members.len(), 1);
}
