//! Stopping and starting.

use kafka_protocol::messages::ApiVersionsRequest;

use crate::client::{Client, batch, start};
use crate::groups::{heartbeat, join_request, member_id, sync_request};

#[tokio::test]
async fn a_restarted_broker_has_its_port_its_log_and_its_groups() {
    let broker = start().await;
    let address = broker.address();
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    client.produce("orders", batch(&["a", "b"])).await;
    let id = member_id(&mut client).await;
    let joined = client.ask(9, &join_request(&id, 10_000)).await;
    client.ask(5, &sync_request(&joined, &[(&id, "work")])).await;

    let stopped = broker.stop().await;
    assert_eq!(client.receive_raw().await, None, "connections are cut");
    let broker = stopped.start().await.unwrap();
    assert_eq!(broker.address(), address);
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.fetch("orders", 0).await.high_watermark, 2);
    assert_eq!(client.produce("orders", batch(&["c"])).await.base_offset, 2);
    assert_eq!(client.ask(4, &heartbeat(&joined)).await.error_code, 0);
    let assignment = client.ask(5, &sync_request(&joined, &[])).await.assignment;
    assert_eq!(&assignment[..], b"work");
}

#[tokio::test]
async fn dropping_a_broker_closes_its_port() {
    let broker = start().await;
    let address = broker.address();
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.ask(0, &ApiVersionsRequest::default()).await.error_code, 0);
    drop(broker);
    assert_eq!(client.receive_raw().await, None);
    tokio::net::TcpListener::bind(address).await.expect("the port is free again");
}
