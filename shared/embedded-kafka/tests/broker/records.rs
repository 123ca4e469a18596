//! Producing and fetching.

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, InitProducerIdRequest, ProduceRequest,
};

use crate::client::{Client, batch, fetch_request, name, produce_request, start};

/// Returns the base offsets of the batches in a fetch.
fn base_offsets(records: Option<Bytes>) -> Vec<i64> {
    let mut records = records.unwrap_or_default();
    let mut offsets = Vec::new();
    while records.has_remaining() {
        offsets.push(records.get_i64());
        let length = usize::try_from(records.get_i32()).unwrap();
        records.advance(length);
    }
    offsets
}

#[tokio::test]
async fn fetched_records_have_the_offsets_of_their_produce_response() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    assert_eq!(client.produce("orders", batch(&["a", "b"])).await.base_offset, 0);
    assert_eq!(client.produce("orders", batch(&["c"])).await.base_offset, 2);
    let fetched = client.fetch("orders", 0).await;
    assert_eq!((fetched.error_code, fetched.high_watermark), (0, 3));
    assert_eq!(fetched.last_stable_offset, 3);
    let records = fetched.records.clone().unwrap();
    assert!(records.windows(1).any(|window| window == b"c"));
    assert_eq!(base_offsets(fetched.records), [0, 2]);
    assert_eq!(base_offsets(client.fetch("orders", 2).await.records), [2]);
}

#[tokio::test]
async fn a_fetch_waits_for_records_to_be_produced() {
    let broker = start().await;
    let mut consumer = Client::connect(&broker).await;
    consumer.create_topic("orders", 1, &[]).await;
    let request = fetch_request("orders", 0).with_min_bytes(1).with_max_wait_ms(19_000);
    consumer.send(12, &request).await;
    let mut producer = Client::connect(&broker).await;
    producer.produce("orders", batch(&["a"])).await;
    let response = consumer.receive::<FetchRequest>(12).await;
    assert_eq!(base_offsets(response.responses[0].partitions[0].records.clone()), [0]);
}

#[tokio::test]
async fn a_fetch_with_less_than_min_bytes_ends_after_its_wait() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    client.produce("orders", batch(&["a"])).await;
    let request = fetch_request("orders", 0).with_min_bytes(1_000_000).with_max_wait_ms(1);
    let response = client.ask(12, &request).await;
    assert_eq!(base_offsets(response.responses[0].partitions[0].records.clone()), [0]);
}

#[tokio::test]
async fn a_fetch_with_an_error_is_answered_at_once() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    let patient =
        |topic, offset| fetch_request(topic, offset).with_min_bytes(1).with_max_wait_ms(100_000);
    let response = client.ask(12, &patient("orders", 7)).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, ResponseError::OffsetOutOfRange.code());
    let response = client.ask(12, &patient("unknown", 0)).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, ResponseError::UnknownTopicOrPartition.code());
    let response = client.ask(12, &FetchRequest::default().with_max_wait_ms(100_000)).await;
    assert_eq!((response.error_code, response.session_id), (0, 0));
}

#[tokio::test]
async fn a_fetch_keeps_its_limits_but_always_returns_one_batch() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    let one = batch(&["a"]).len();
    for _ in 0..3 {
        client.produce("orders", batch(&["a"])).await;
    }
    for (partition_max, max, expected) in
        [(2 * one, 100 * one, 2), (100 * one, 2 * one, 2), (1, 1, 1), (3 * one, 3 * one, 3)]
    {
        let mut request = fetch_request("orders", 0);
        request.max_bytes = i32::try_from(max).unwrap();
        request.topics[0].partitions[0].partition_max_bytes = i32::try_from(partition_max).unwrap();
        let response = client.ask(12, &request).await;
        let records = response.responses[0].partitions[0].records.clone();
        assert_eq!(base_offsets(records).len(), expected, "{partition_max} {max}");
    }
}

#[tokio::test]
async fn batches_larger_than_the_topic_allows_are_refused() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("small", 1, &[("max.message.bytes", "100")]).await;
    assert_eq!(client.produce("small", batch(&["a"])).await.error_code, 0);
    let long = "x".repeat(40);
    let refused = client.produce("small", batch(&[&long])).await;
    assert_eq!(refused.error_code, ResponseError::MessageTooLarge.code());
    assert_eq!(refused.base_offset, -1);
    assert!(refused.error_message.unwrap().contains("allows 100"));
    assert_eq!(client.fetch("small", 0).await.high_watermark, 1);
}

#[tokio::test]
async fn damaged_batches_unknown_topics_and_invalid_acks_are_refused() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    let mut damaged = batch(&["a"]).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let code = client.produce("orders", Bytes::from(damaged)).await.error_code;
    assert_eq!(code, ResponseError::CorruptMessage.code());
    let code = client.produce("unknown", batch(&["a"])).await.error_code;
    assert_eq!(code, ResponseError::UnknownTopicOrPartition.code());
    let response = client.ask(9, &produce_request("orders", batch(&["a"]), 2)).await;
    let code = response.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ResponseError::InvalidRequiredAcks.code());
    assert_eq!(client.fetch("orders", 0).await.high_watermark, 0);
}

#[tokio::test]
async fn a_refused_produce_with_acks_0_closes_the_connection() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    client.send(9, &produce_request("orders", batch(&["a"]), 0)).await;
    // The next frame is the response to the next request.
    let response = client.ask(0, &ApiVersionsRequest::default()).await;
    assert_eq!(response.error_code, 0);
    assert_eq!(client.fetch("orders", 0).await.high_watermark, 1);
    client.send(9, &produce_request("unknown", batch(&["a"]), 0)).await;
    assert_eq!(client.receive_raw().await, None);
}

#[tokio::test]
async fn requests_of_a_connection_are_answered_in_order() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    let patient = fetch_request("orders", 0).with_min_bytes(1).with_max_wait_ms(5);
    client.send(12, &patient).await;
    client.send(9, &produce_request("orders", batch(&["a"]), -1)).await;
    let response = client.receive::<FetchRequest>(12).await;
    let records = response.responses[0].partitions[0].records.clone();
    assert_eq!(base_offsets(records), Vec::<i64>::new(), "the produce behind it has to wait");
    assert_eq!(client.receive::<ProduceRequest>(9).await.responses.len(), 1);
}

#[tokio::test]
async fn producer_ids_are_unique_and_transactions_refused() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    let idempotent = InitProducerIdRequest::default().with_transactional_id(None);
    let first = client.ask(4, &idempotent).await.producer_id;
    assert_ne!(first, client.ask(4, &idempotent).await.producer_id);
    let transactional = idempotent.with_transactional_id(Some("t".to_owned().into_id()));
    let refused = client.ask(4, &transactional).await.error_code;
    assert_eq!(refused, ResponseError::TransactionalIdAuthorizationFailed.code());
}

trait IntoId {
    fn into_id(self) -> kafka_protocol::messages::TransactionalId;
}

impl IntoId for String {
    fn into_id(self) -> kafka_protocol::messages::TransactionalId {
        kafka_protocol::messages::TransactionalId(name(&self).0)
    }
}
