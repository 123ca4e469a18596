//! Leader epochs, and logs that lose records.

use bytes::Bytes;
use embedded_kafka::EmbeddedKafka;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest};

use crate::client::{Client, batch, fetch_request, name, start_nodes};

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const FENCED: i16 = ResponseError::FencedLeaderEpoch.code();
const UNKNOWN: i16 = ResponseError::UnknownLeaderEpoch.code();
const NOT_LEADER: i16 = ResponseError::NotLeaderOrFollower.code();

/// Starts two nodes with offsets 0 and 1 of epoch 0, and 2 of epoch 1; node 2 leads.
async fn two_epochs() -> (EmbeddedKafka, Client) {
    let broker = start_nodes(2).await;
    let mut first = Client::connect(&broker).await;
    first.create_topic("orders", 1, &[]).await;
    for value in ["a", "b"] {
        first.produce("orders", batch(&[value])).await;
    }
    broker.move_leader("orders", 0, 2).unwrap();
    let mut leader = Client::connect_to(&broker, 2).await;
    assert_eq!(leader.produce("orders", batch(&["c"])).await.base_offset, 2);
    (broker, leader)
}

#[tokio::test]
async fn requests_with_another_leader_epoch_are_refused() {
    let (broker, mut leader) = two_epochs().await;
    let mut follower = Client::connect(&broker).await;
    for (epoch, at_leader, at_follower) in
        [(-1, 0, NOT_LEADER), (0, FENCED, FENCED), (1, 0, NOT_LEADER), (2, UNKNOWN, UNKNOWN)]
    {
        for (client, expected) in [(&mut leader, at_leader), (&mut follower, at_follower)] {
            assert_eq!(fetch(client, 0, epoch, -1).await.error_code, expected, "fetch {epoch}");
            assert_eq!(list(client, LATEST, epoch).await.0, expected, "list {epoch}");
            assert_eq!(end_of(client, 0, epoch).await.0, expected, "end {epoch}");
        }
    }
}

#[tokio::test]
async fn a_fenced_fetch_names_the_leader() {
    let (_broker, mut leader) = two_epochs().await;
    let id = leader.topic_id("orders").await;
    let mut request = fetch_request("orders", 0);
    request.topics[0].topic = name("");
    request.topics[0].topic_id = id;
    request.topics[0].partitions[0].current_leader_epoch = 0;
    let fetched = leader.ask(16, &request).await;
    let partition = &fetched.responses[0].partitions[0];
    let hint = &partition.current_leader;
    assert_eq!((partition.error_code, hint.leader_id.0, hint.leader_epoch), (FENCED, 2, 1));
    assert_eq!(fetched.node_endpoints[0].node_id.0, 2);
    let fetched = leader.ask(15, &request).await;
    assert_eq!(fetched.responses[0].partitions[0].current_leader.leader_id.0, -1);
}

#[tokio::test]
async fn batches_offsets_and_ends_have_their_epochs() {
    let (_broker, mut leader) = two_epochs().await;
    let records = fetch(&mut leader, 0, 1, -1).await.records.unwrap();
    let size = batch(&["a"]).len();
    let epochs = [0, size, 2 * size].map(|start| records[start + 15]);
    assert_eq!(epochs, [0, 0, 1]);
    assert_eq!(list(&mut leader, LATEST, 1).await, (0, 3, 1));
    assert_eq!(list(&mut leader, EARLIEST, 1).await, (0, 0, 0));
    assert_eq!(list(&mut leader, 0, 1).await, (0, 0, 0), "by timestamp");
    assert_eq!(end_of(&mut leader, 0, 1).await, (0, 0, 2));
    assert_eq!(end_of(&mut leader, 1, 1).await, (0, 1, 3));
    assert_eq!(end_of(&mut leader, 2, 1).await, (0, -1, -1), "the leader knows no such epoch");
}

#[tokio::test]
async fn a_fetch_learns_where_a_truncated_log_diverged() {
    let (broker, mut leader) = two_epochs().await;
    let mut first = Client::connect(&broker).await;
    let request = fetch_request("orders", 3).with_min_bytes(1).with_max_wait_ms(100_000);
    leader.send(12, &request).await;
    broker.elect_unclean("orders", 0, 1, 1).unwrap();
    let ended = leader.receive::<FetchRequest>(12).await;
    assert_eq!(ended.responses[0].partitions[0].error_code, NOT_LEADER);
    assert_eq!(first.produce("orders", batch(&["d"])).await.base_offset, 1);

    // (offset, last fetched epoch) and the epoch and offset of the divergence.
    for (offset, last_fetched, expected) in
        [(1, 0, (-1, -1)), (2, 0, (0, 1)), (3, 1, (0, 1)), (2, 2, (-1, -1)), (0, -1, (-1, -1))]
    {
        let found = fetch(&mut first, offset, 2, last_fetched).await;
        let diverging = (found.diverging_epoch.epoch, found.diverging_epoch.end_offset);
        assert_eq!((found.error_code, diverging), (0, expected), "{offset} {last_fetched}");
        assert!((diverging.0 == -1) || found.records == Some(Bytes::new()));
        assert_eq!(found.high_watermark, 2);
    }
    let out_of_range = ResponseError::OffsetOutOfRange.code();
    assert_eq!(fetch(&mut first, 1, 2, 7).await.error_code, out_of_range, "an unknown epoch");
    assert_eq!(fetch(&mut first, 3, 2, -1).await.error_code, out_of_range, "beyond the end");
    assert_eq!(end_of(&mut first, 1, 2).await, (0, 0, 1));
    assert!(broker.elect_unclean("orders", 0, 3, 0).is_err());
}

#[tokio::test]
async fn a_divergence_is_answered_at_once() {
    let (broker, mut leader) = two_epochs().await;
    broker.elect_unclean("orders", 0, 2, 1).unwrap();
    let mut request = fetch_request("orders", 3).with_min_bytes(1).with_max_wait_ms(100_000);
    request.topics[0].partitions[0].last_fetched_epoch = 1;
    let fetched = leader.ask(12, &request).await;
    assert_eq!(fetched.responses[0].partitions[0].diverging_epoch.end_offset, 1);
}

#[tokio::test]
async fn a_leader_that_is_lost_and_elected_again_has_a_new_epoch() {
    let (broker, mut leader) = two_epochs().await;
    broker.lose_leader("orders", 0).unwrap();
    assert_eq!(fetch(&mut leader, 0, 1, -1).await.error_code, NOT_LEADER);
    broker.elect_leader("orders", 0).unwrap();
    let mut first = Client::connect(&broker).await;
    assert_eq!(fetch(&mut first, 0, 1, -1).await.error_code, FENCED);
    assert_eq!(fetch(&mut first, 0, 3, 1).await.error_code, 0);
    assert_eq!(list(&mut first, LATEST, 3).await, (0, 3, 3));
}

async fn fetch(
    client: &mut Client,
    offset: i64,
    current_leader_epoch: i32,
    last_fetched_epoch: i32,
) -> PartitionData {
    let mut request = fetch_request("orders", offset);
    let partition = &mut request.topics[0].partitions[0];
    partition.current_leader_epoch = current_leader_epoch;
    partition.last_fetched_epoch = last_fetched_epoch;
    client.ask(12, &request).await.responses[0].partitions[0].clone()
}

/// Returns error, offset and leader epoch.
async fn list(client: &mut Client, timestamp: i64, current_leader_epoch: i32) -> (i16, i64, i32) {
    let partition = ListOffsetsPartition::default()
        .with_timestamp(timestamp)
        .with_current_leader_epoch(current_leader_epoch);
    let topic = ListOffsetsTopic::default().with_name(name("orders"));
    let topic = topic.with_partitions(vec![partition]);
    let response = client.ask(7, &ListOffsetsRequest::default().with_topics(vec![topic])).await;
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.offset, found.leader_epoch)
}

/// Returns error, epoch and end offset.
async fn end_of(client: &mut Client, epoch: i32, current_leader_epoch: i32) -> (i16, i32, i64) {
    let partition = OffsetForLeaderPartition::default()
        .with_leader_epoch(epoch)
        .with_current_leader_epoch(current_leader_epoch);
    let topic = OffsetForLeaderTopic::default().with_topic(name("orders"));
    let topic = topic.with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    let response = client.ask(4, &request).await;
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.leader_epoch, found.end_offset)
}
