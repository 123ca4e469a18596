//! Several nodes: who answers what, and what moves.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, DescribeGroupsRequest, FetchRequest,
    FindCoordinatorRequest, GroupId, InitProducerIdRequest, LeaveGroupRequest, ListOffsetsRequest,
    MetadataRequest, MetadataResponse, OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;
use tokio::net::TcpStream;

use crate::client::{Client, batch, fetch_request, name, produce_request, start_nodes};
use crate::groups::{group, heartbeat, join_request, member_id, sync_request};

const NOT_COORDINATOR: i16 = ResponseError::NotCoordinator.code();
const NOT_LEADER: i16 = ResponseError::NotLeaderOrFollower.code();

#[tokio::test]
async fn metadata_lists_nodes_controller_and_leaders() {
    let broker = start_nodes(3).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 4, &[]).await;
    for node in 1..=3 {
        let found = metadata(&mut Client::connect_to(&broker, node).await).await;
        let nodes: Vec<_> = found.brokers.iter().map(|node| (node.node_id.0, node.port)).collect();
        let ports = broker.addresses().map(|address| i32::from(address.port()));
        assert_eq!(nodes, (1..=3).zip(ports).collect::<Vec<_>>());
        assert_eq!(found.controller_id.0, 1);
        let partitions = &found.topics[0].partitions;
        assert_eq!(leaders(partitions), [(1, 0), (2, 0), (3, 0), (1, 0)]);
        assert_eq!(ids(&partitions[1].replica_nodes), [2, 3, 1]);
        assert_eq!(ids(&partitions[1].isr_nodes), [2, 3, 1]);
        assert!(partitions[1].offline_replicas.is_empty());
    }
}

#[tokio::test]
async fn only_a_partitions_leader_serves_it_and_other_nodes_name_it() {
    let broker = start_nodes(3).await;
    let mut leader = Client::connect(&broker).await;
    leader.create_topic("orders", 1, &[]).await;
    let mut other = Client::connect_to(&broker, 2).await;
    for (client, expected) in [(&mut leader, 0), (&mut other, NOT_LEADER)] {
        assert_eq!(client.produce("orders", batch(&["a"])).await.error_code, expected);
        assert_eq!(client.fetch("orders", 0).await.error_code, expected);
        assert_eq!(end(client).await.0, expected);
    }

    let produced = other.ask(10, &produce_request("orders", batch(&["a"]), -1)).await;
    let hint = &produced.responses[0].partition_responses[0].current_leader;
    assert_eq!((hint.leader_id.0, hint.leader_epoch), (1, 0));
    let endpoint = &produced.node_endpoints[0];
    let port = i32::from(broker.address().port());
    assert_eq!((endpoint.node_id.0, endpoint.host.as_str(), endpoint.port), (1, "127.0.0.1", port));
    assert_eq!(produced.node_endpoints.len(), 1);

    let mut request = fetch_request("orders", 0);
    request.topics[0].topic_id = other.topic_id("orders").await;
    request.topics[0].topic = name("");
    let fetched = other.ask(16, &request).await;
    let partition = &fetched.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.current_leader.leader_id.0), (NOT_LEADER, 1));
    let endpoint = &fetched.node_endpoints[0];
    assert_eq!((endpoint.node_id.0, endpoint.port), (1, port));
    let fetched = leader.ask(16, &request).await;
    assert_eq!(fetched.responses[0].partitions[0].current_leader.leader_id.0, -1);
    assert!(fetched.node_endpoints.is_empty());
}

#[tokio::test]
async fn a_moved_leader_keeps_the_log_and_ends_waiting_fetches() {
    let broker = start_nodes(2).await;
    let mut before = Client::connect(&broker).await;
    before.create_topic("orders", 1, &[]).await;
    before.produce("orders", batch(&["a"])).await;
    let request = fetch_request("orders", 1).with_min_bytes(1).with_max_wait_ms(100_000);
    before.send(12, &request).await;
    broker.move_leader("orders", 0, 2).unwrap();
    let ended = before.receive::<FetchRequest>(12).await;
    assert_eq!(ended.responses[0].partitions[0].error_code, NOT_LEADER);
    assert_eq!(leaders(&metadata(&mut before).await.topics[0].partitions), [(2, 1)]);
    assert_eq!(broker.leader("orders", 0), Some(2));

    let mut after = Client::connect_to(&broker, 2).await;
    assert_eq!(after.produce("orders", batch(&["b"])).await.base_offset, 1);
    assert_eq!(after.fetch("orders", 0).await.high_watermark, 2);
    assert!(broker.move_leader("orders", 0, 3).is_err() && broker.move_leader("x", 0, 1).is_err());
}

#[tokio::test]
async fn a_stopped_nodes_partitions_move_to_other_replicas() {
    let broker = start_nodes(3).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 3, &[]).await;
    create(&mut client, "alone", 3, 1).await;
    let mut second = Client::connect_to(&broker, 2).await;
    assert_eq!(metadata(&mut second).await.brokers.len(), 3);

    broker.stop_node(2).await.unwrap();
    assert_eq!(second.receive_raw().await, None, "its connections are closed");
    let address = broker.addresses().nth(1).unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "its port refuses connections");
    let found = metadata(&mut client).await;
    assert_eq!(found.brokers.len(), 2);
    let [alone, orders] = &found.topics[..] else { panic!("two topics") };
    assert_eq!(leaders(&orders.partitions), [(1, 0), (3, 1), (3, 0)]);
    assert_eq!(ids(&orders.partitions[1].isr_nodes), [3, 1]);
    assert_eq!(ids(&orders.partitions[1].offline_replicas), [2]);
    assert_eq!(leaders(&alone.partitions), [(1, 0), (-1, 1), (3, 0)]);
    let lost = &alone.partitions[1];
    assert_eq!(lost.error_code, ResponseError::LeaderNotAvailable.code());
    assert_eq!((ids(&lost.isr_nodes), ids(&lost.offline_replicas)), (vec![2], vec![2]));
    assert!(broker.move_leader("orders", 1, 2).is_err(), "the node does not run");

    broker.start_node(2).await.unwrap();
    broker.start_node(2).await.unwrap();
    let found = metadata(&mut Client::connect_to(&broker, 2).await).await;
    let [alone, orders] = &found.topics[..] else { panic!("two topics") };
    assert_eq!(leaders(&orders.partitions), [(1, 0), (3, 1), (3, 0)], "leaders stay");
    assert_eq!(leaders(&alone.partitions), [(1, 0), (2, 2), (3, 0)]);
    assert!(broker.stop_node(4).await.is_err() && broker.start_node(4).await.is_err());
}

#[tokio::test]
async fn only_the_controller_creates_and_deletes_topics() {
    let broker = start_nodes(2).await;
    let not_controller = ResponseError::NotController.code();
    for controller in [1, 2] {
        let mut other = Client::connect_to(&broker, 3 - controller).await;
        assert_eq!(create(&mut other, "orders", 1, -1).await, not_controller);
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name("orders")]);
        assert_eq!(other.ask(5, &request).await.responses[0].error_code, not_controller);
        let mut client = Client::connect_to(&broker, controller).await;
        assert_eq!(create(&mut client, "orders", 1, -1).await, 0);
        assert_eq!(client.ask(5, &request).await.responses[0].error_code, 0);
        let many = ResponseError::InvalidReplicationFactor.code();
        assert_eq!(create(&mut client, "orders", 1, 3).await, many);
        broker.move_controller(2).unwrap();
        assert_eq!(metadata(&mut client).await.controller_id.0, 2);
    }
    broker.stop_node(2).await.unwrap();
    let mut client = Client::connect(&broker).await;
    assert_eq!(metadata(&mut client).await.controller_id.0, 1);
    assert_eq!(create(&mut client, "orders", 1, -1).await, 0);
}

#[tokio::test]
async fn a_group_is_served_by_its_coordinator_alone() {
    let broker = start_nodes(2).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    broker.move_coordinator("group", 2).unwrap();
    let request = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("group"));
    let found = client.ask(3, &request).await;
    let port = i32::from(broker.addresses().nth(1).unwrap().port());
    assert_eq!((found.node_id.0, found.port), (2, port));

    let mut coordinator = Client::connect_to(&broker, 2).await;
    let id = member_id(&mut coordinator).await;
    let joined = coordinator.ask(9, &join_request(&id, 10_000)).await;
    let sync = sync_request(&joined, &[(&id, "work")]);
    for (client, expected) in [(&mut client, NOT_COORDINATOR), (&mut coordinator, 0)] {
        assert_eq!(client.ask(5, &sync).await.error_code, expected);
        assert_eq!(client.ask(4, &heartbeat(&joined)).await.error_code, expected);
        let committed = client.ask(9, &commit_request()).await;
        let code = committed.topics[0].partitions[0].error_code;
        assert_eq!(code, if expected == 0 { 25 } else { expected }, "the commit names no member");
        for version in [1, 7, 8] {
            let fetched = client.ask(version, &offset_fetch_request(version)).await;
            let code = match version {
                8 => fetched.groups[0].error_code,
                7 => fetched.error_code,
                _ => fetched.topics[0].partitions[0].error_code,
            };
            assert_eq!(code, expected, "version {version}");
        }
        let request = DescribeGroupsRequest::default().with_groups(vec![group()]);
        assert_eq!(client.ask(5, &request).await.groups[0].error_code, expected);
        let producer = InitProducerIdRequest::default().with_transactional_id(None);
        assert_eq!(client.ask(4, &producer).await.error_code, 0, "any node serves it");
    }
    let mut other = Client::connect(&broker).await;
    assert_eq!(other.ask(9, &join_request(&id, 10_000)).await.error_code, NOT_COORDINATOR);
    let leave = LeaveGroupRequest::default().with_group_id(group());
    assert_eq!(other.ask(3, &leave).await.error_code, NOT_COORDINATOR);
}

#[tokio::test]
async fn members_and_offsets_follow_a_moved_coordinator() {
    let broker = start_nodes(2).await;
    broker.move_coordinator("group", 1).unwrap();
    let mut first = Client::connect(&broker).await;
    let id = member_id(&mut first).await;
    let joined = first.ask(9, &join_request(&id, 10_000)).await;
    assert_eq!(first.ask(5, &sync_request(&joined, &[(&id, "work")])).await.error_code, 0);
    // Another member joins, and waits for the first.
    let second = member_id(&mut first).await;
    let mut waiting = Client::connect(&broker).await;
    waiting.send(9, &join_request(&second, 10_000)).await;
    while first.ask(4, &heartbeat(&joined)).await.error_code == 0 {}

    broker.move_coordinator("group", 2).unwrap();
    let refused = waiting.receive::<kafka_protocol::messages::JoinGroupRequest>(9).await;
    assert_eq!(refused.error_code, NOT_COORDINATOR);
    assert_eq!(first.ask(4, &heartbeat(&joined)).await.error_code, NOT_COORDINATOR);
    let mut moved = Client::connect_to(&broker, 2).await;
    assert_eq!(moved.ask(4, &heartbeat(&joined)).await.error_code, 0);
    assert_eq!(&moved.ask(5, &sync_request(&joined, &[])).await.assignment[..], b"work");

    broker.stop_node(2).await.unwrap();
    assert_eq!(broker.coordinator("group"), Some(1));
    assert_eq!(first.ask(4, &heartbeat(&joined)).await.error_code, 0);
    assert!(broker.move_coordinator("group", 2).is_err());
}

#[tokio::test]
async fn all_nodes_of_a_restarted_broker_run_on_their_ports() {
    let broker = start_nodes(3).await;
    let mut client = Client::connect(&broker).await;
    create(&mut client, "orders", 3, 1).await;
    broker.stop_node(3).await.unwrap();
    let addresses: Vec<_> = broker.addresses().collect();
    let broker = broker.stop().await.start().await.unwrap();
    assert_eq!(broker.addresses().collect::<Vec<_>>(), addresses);
    let found = metadata(&mut Client::connect_to(&broker, 3).await).await;
    assert_eq!(found.brokers.len(), 3);
    assert_eq!(leaders(&found.topics[0].partitions), [(1, 0), (2, 0), (3, 2)]);
}

async fn metadata(client: &mut Client) -> MetadataResponse {
    let request = MetadataRequest::default().with_topics(None::<Vec<MetadataRequestTopic>>);
    client.ask(12, &request).await
}

/// Creates a topic and returns the error code.
async fn create(client: &mut Client, topic: &str, partitions: i32, replicas: i16) -> i16 {
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    client.ask(7, &request).await.topics[0].error_code
}

/// Returns leader and leader epoch of each partition.
fn leaders(partitions: &[MetadataResponsePartition]) -> Vec<(i32, i32)> {
    partitions.iter().map(|found| (found.leader_id.0, found.leader_epoch)).collect()
}

fn ids(nodes: &[BrokerId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

/// Returns error, end and leader epoch of partition 0.
async fn end(client: &mut Client) -> (i16, i64, i32) {
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(name("orders"));
    let topic = topic.with_partitions(vec![partition.with_current_leader_epoch(-1)]);
    let response = client.ask(7, &ListOffsetsRequest::default().with_topics(vec![topic])).await;
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.offset, found.leader_epoch)
}

fn commit_request() -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let topic = OffsetCommitRequestTopic::default().with_name(name("orders"));
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(1)
        .with_topics(vec![topic.with_partitions(vec![partition])])
}

fn offset_fetch_request(version: i16) -> OffsetFetchRequest {
    if 8 <= version {
        let group = OffsetFetchRequestGroup::default().with_group_id(group());
        return OffsetFetchRequest::default().with_groups(vec![group.with_topics(None)]);
    }
    let topic = kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(name("orders"))
        .with_partition_indexes(vec![0]);
    let group_id: GroupId = group();
    OffsetFetchRequest::default().with_group_id(group_id).with_topics(Some(vec![topic]))
}
