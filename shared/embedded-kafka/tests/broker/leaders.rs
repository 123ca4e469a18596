//! Partitions that lose their leader.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest, MetadataRequest};

use crate::client::{Client, batch, fetch_request, name, start};

#[tokio::test]
async fn a_partition_without_a_leader_serves_no_requests() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 2, &[]).await;
    client.produce("orders", batch(&["a"])).await;

    broker.lose_leader("orders", 0).unwrap();
    let not_leader = ResponseError::NotLeaderOrFollower.code();
    let [lost, led] = &partitions(&mut client).await[..] else { panic!("two partitions") };
    assert_eq!((lost.error_code, lost.leader_id.0), (code(ResponseError::LeaderNotAvailable), -1));
    assert_eq!((led.error_code, led.leader_id.0), (0, 1));
    assert_eq!(client.produce("orders", batch(&["b"])).await.error_code, not_leader);
    assert_eq!(client.fetch("orders", 0).await.error_code, not_leader);
    assert_eq!(ends(&mut client).await, [(not_leader, -1), (0, 0)]);

    broker.elect_leader("orders", 0).unwrap();
    assert_eq!(ends(&mut client).await, [(0, 1), (0, 0)], "the log is as it was");
    assert_eq!(client.produce("orders", batch(&["b"])).await.base_offset, 1);
    assert!(broker.lose_leader("orders", 2).is_err() && broker.lose_leader("other", 0).is_err());
}

#[tokio::test]
async fn a_waiting_fetch_ends_when_its_partition_loses_its_leader() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    let request = fetch_request("orders", 0).with_min_bytes(1).with_max_wait_ms(100_000);
    client.send(12, &request).await;
    broker.lose_leader("orders", 0).unwrap();
    let response = client.receive::<FetchRequest>(12).await;
    let error_code = response.responses[0].partitions[0].error_code;
    assert_eq!(error_code, code(ResponseError::NotLeaderOrFollower));
}

async fn partitions(client: &mut Client) -> Vec<MetadataResponsePartition> {
    let topic = MetadataRequestTopic::default().with_name(Some(name("orders")));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    client.ask(12, &request).await.topics.remove(0).partitions
}

/// Returns error and end of both partitions.
async fn ends(client: &mut Client) -> Vec<(i16, i64)> {
    const LATEST: i64 = -1;
    let asked = |index| {
        let partition = ListOffsetsPartition::default().with_partition_index(index);
        partition.with_current_leader_epoch(-1).with_timestamp(LATEST)
    };
    let topic = ListOffsetsTopic::default().with_name(name("orders"));
    let topic = topic.with_partitions(vec![asked(0), asked(1)]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    let response = client.ask(7, &request).await;
    response.topics[0].partitions.iter().map(|end| (end.error_code, end.offset)).collect()
}

fn code(error: ResponseError) -> i16 {
    error.code()
}
