//! Quotas, caps on fetches, and replicas in sync.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiVersionsRequest;
use tokio::time::Instant;

use crate::client::{Client, batch, fetch_request, name, produce_request, start, start_nodes};

#[tokio::test]
async fn a_producer_over_its_quota_is_answered_and_then_muted() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    let request = produce_request("orders", batch(&["a"]), -1);
    assert_eq!(client.ask(9, &request).await.throttle_time_ms, 0);
    // Some requests use up ten seconds' bytes; the next one exceeds them by less than its size.
    broker.limit_produce_rate(Some(200));
    let mut written = 1;
    let (begin, throttled) = loop {
        let begin = Instant::now();
        let response = client.ask(9, &request).await;
        assert_eq!(response.responses[0].partition_responses[0].base_offset, written);
        written += 1;
        if 0 < response.throttle_time_ms {
            break (begin, response);
        }
    };
    let throttle_ms = u64::try_from(throttled.throttle_time_ms).unwrap();
    assert!((1..1000).contains(&throttle_ms), "{throttle_ms}");
    client.ask(0, &ApiVersionsRequest::default()).await;
    assert!(Duration::from_millis(throttle_ms) <= begin.elapsed(), "the connection is muted");
    broker.limit_produce_rate(None);
    assert_eq!(client.ask(9, &request).await.throttle_time_ms, 0);
}

#[tokio::test]
async fn a_consumer_over_its_quota_gets_an_empty_answer_and_then_the_records() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    let one = batch(&["a"]).len();
    for _ in 0..41 {
        client.produce("orders", batch(&["a"])).await;
    }
    // Forty batches pass in ten seconds.
    broker.limit_fetch_rate(Some(u64::try_from(4 * one).unwrap()));
    let mut request = fetch_request("orders", 0).with_session_epoch(0);
    let first = client.ask(12, &request).await;
    assert_eq!(first.throttle_time_ms, 0);
    let records = first.responses[0].partitions[0].records.as_ref().unwrap();
    assert_eq!(records.len(), 40 * one, "no answer is larger than ten seconds' bytes");

    request.topics[0].partitions[0].fetch_offset = 40;
    let throttled = client.ask(12, &request).await;
    assert!(throttled.responses.is_empty());
    assert!((1..=250).contains(&throttled.throttle_time_ms), "{}", throttled.throttle_time_ms);
    assert_eq!((throttled.error_code, throttled.session_id), (0, 0), "it begins no session");
    let passed = client.ask(12, &request).await;
    assert_eq!(passed.throttle_time_ms, 0);
    assert_eq!(passed.responses[0].partitions[0].records.as_ref().unwrap().len(), one);
}

#[tokio::test]
async fn an_answer_ends_inside_a_batch_where_its_cap_is() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    client.create_topic("others", 1, &[]).await;
    let one = batch(&["a"]).len();
    for _ in 0..3 {
        client.produce("orders", batch(&["a"])).await;
        client.produce("others", batch(&["a"])).await;
    }
    let mut request = fetch_request("orders", 0);
    request.topics.extend(fetch_request("others", 0).topics);
    for (cap, expected) in [
        (100 * one, [3 * one, 3 * one]),
        (4 * one + 7, [3 * one, one + 7]),
        (3 * one + 7, [3 * one, 0]),
        (3 * one - 7, [3 * one - 7, 0]),
        (one - 7, [one, 0]),
        (0, [one, 0]),
    ] {
        broker.limit_fetch_bytes(cap);
        let response = client.ask(12, &request).await;
        let topics = response.responses.iter();
        let sizes = topics.map(|topic| topic.partitions[0].records.as_ref().map_or(0, Bytes::len));
        assert_eq!(sizes.collect::<Vec<_>>(), expected, "cap {cap}");
    }
}

#[tokio::test]
async fn writes_with_all_acknowledgements_need_enough_replicas() {
    let broker = start_nodes(2).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    client.create_topic("strict", 1, &[("min.insync.replicas", "2")]).await;
    let refused = ResponseError::NotEnoughReplicas.code();
    let outcomes = async |client: &mut Client| {
        let orders = client.produce("orders", batch(&["a"])).await.error_code;
        (orders, client.produce("strict", batch(&["a"])).await.error_code)
    };
    assert_eq!(outcomes(&mut client).await, (0, 0));
    broker.stop_node(2).await.unwrap();
    assert_eq!(outcomes(&mut client).await, (0, refused));
    let response = client.ask(9, &produce_request("strict", batch(&["a"]), 1)).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0, "acks=1 needs one");
    broker.require_in_sync(2);
    assert_eq!(outcomes(&mut client).await, (refused, refused));
    broker.start_node(2).await.unwrap();
    assert_eq!(outcomes(&mut client).await, (0, 0));
    broker.require_in_sync(3);
    assert_eq!(outcomes(&mut client).await, (refused, 0));
}

#[tokio::test]
async fn a_recreated_topic_is_empty_and_has_another_id() {
    let broker = start_nodes(2).await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 2, &[("max.message.bytes", "70")]).await;
    let long = client.produce("orders", batch(&["long enough"])).await.error_code;
    assert_eq!(long, ResponseError::MessageTooLarge.code());
    let before = client.topic_id("orders").await;
    broker.move_leader("orders", 0, 2).unwrap();
    broker.recreate_topic("orders").unwrap();
    let after = client.topic_id("orders").await;
    assert_ne!(before, after);
    assert_eq!([0, 1].map(|index| broker.leader("orders", index)), [Some(1), Some(2)]);
    assert_eq!(client.fetch("orders", 0).await.high_watermark, 0);
    let long = client.produce("orders", batch(&["long enough"])).await.error_code;
    assert_eq!(long, ResponseError::MessageTooLarge.code(), "the configuration is kept");
    assert!(broker.recreate_topic("unknown").is_err());

    let mut stale = fetch_request("orders", 0);
    stale.topics[0].topic = name("");
    stale.topics[0].topic_id = before;
    let response = client.ask(13, &stale).await;
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, ResponseError::UnknownTopicId.code());
}
