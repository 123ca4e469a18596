//! Fetch sessions over real sockets.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use crate::client::{Client, batch, fetch_request, name, start_nodes};

/// Sends an incremental request, which answers at once when it has records.
async fn incremental(client: &mut Client, id: i32, epoch: i32) -> FetchResponse {
    client.ask(12, &waiting(id, epoch)).await
}

fn waiting(id: i32, epoch: i32) -> FetchRequest {
    FetchRequest::default()
        .with_session_id(id)
        .with_session_epoch(epoch)
        .with_min_bytes(1)
        .with_max_wait_ms(100_000)
        .with_max_bytes(1 << 20)
}

/// Begins a session for two topics, whose answer holds both.
async fn begin(client: &mut Client) -> i32 {
    let mut request = fetch_request("one", 0).with_session_epoch(0);
    request.topics.extend(fetch_request("two", 0).topics);
    let response = client.ask(12, &request).await;
    assert_eq!((response.error_code, response.responses.len()), (0, 2));
    response.session_id
}

#[tokio::test]
async fn an_incremental_fetch_waits_and_answers_only_what_has_records() {
    let broker = start_nodes(1).await;
    let mut client = Client::connect(&broker).await;
    for topic in ["one", "two"] {
        client.create_topic(topic, 1, &[]).await;
    }
    let id = begin(&mut client).await;
    assert_ne!(id, 0);
    let mut other = Client::connect(&broker).await;
    client.send(12, &waiting(id, 1)).await;
    other.produce("two", batch(&["a"])).await;
    let response = client.receive::<FetchRequest>(12).await;
    assert_eq!((response.session_id, response.responses.len()), (id, 1));
    assert_eq!(response.responses[0].topic, name("two"));
    assert!(!response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());

    let mut moved = fetch_request("two", 1);
    moved = waiting(id, 2).with_topics(std::mem::take(&mut moved.topics));
    client.send(12, &moved).await;
    other.produce("one", batch(&["a"])).await;
    let response = client.receive::<FetchRequest>(12).await;
    let topics: Vec<_> = response.responses.iter().map(|topic| topic.topic.as_str()).collect();
    assert_eq!(topics, ["one"]);
}

#[tokio::test]
async fn sessions_end_with_their_node_and_with_their_slots() {
    let broker = start_nodes(2).await;
    let mut client = Client::connect(&broker).await;
    for topic in ["one", "two"] {
        client.create_topic(topic, 1, &[]).await;
        client.produce(topic, batch(&["a"])).await;
    }
    let not_found = ResponseError::FetchSessionIdNotFound.code();
    let id = begin(&mut client).await;
    let mut other = Client::connect_to(&broker, 2).await;
    assert_eq!(incremental(&mut other, id, 1).await.error_code, not_found);
    let wrong_epoch = ResponseError::InvalidFetchSessionEpoch.code();
    assert_eq!(incremental(&mut client, id, 2).await.error_code, wrong_epoch);
    broker.stop_node(1).await.unwrap();
    broker.start_node(1).await.unwrap();
    let mut client = Client::connect(&broker).await;
    assert_eq!(incremental(&mut client, id, 1).await.error_code, not_found);

    for topic in ["one", "two"] {
        broker.move_leader(topic, 0, 1).unwrap();
    }
    broker.limit_fetch_sessions(1);
    let (first, second) = (begin(&mut client).await, begin(&mut client).await);
    assert_eq!(incremental(&mut client, first, 1).await.error_code, not_found);
    assert_eq!(incremental(&mut client, second, 1).await.error_code, 0);
    broker.limit_fetch_sessions(0);
    assert_eq!(begin(&mut client).await, 0);
}
