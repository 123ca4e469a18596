//! Stopping and starting, and being reached by another name.

use kafka_protocol::messages::{ApiVersionsRequest, FindCoordinatorRequest, MetadataRequest};
use kafka_protocol::protocol::StrBytes;

use crate::client::{Client, batch, start};
use crate::groups::{heartbeat, join_request, member_id, sync_request};

#[tokio::test]
async fn a_broker_comes_back_on_its_port_with_its_log_and_its_groups() {
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

#[tokio::test]
async fn an_advertised_address_can_be_set_while_the_broker_runs() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    let port = i32::from(broker.address().port());
    assert_eq!(client.ask(12, &request).await.brokers[0].port, port);
    broker.advertise("proxy.example", 4711);
    let told = client.ask(12, &request).await.brokers.remove(0);
    assert_eq!((told.host.as_str(), told.port), ("proxy.example", 4711));
    let find = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("group"));
    assert_eq!(client.ask(3, &find).await.port, 4711);
    assert_eq!(broker.bootstrap_servers(), format!("127.0.0.1:{port}"));

    let broker = broker.stop().await.start().await.unwrap();
    let mut client = Client::connect(&broker).await;
    assert_eq!(client.ask(12, &request).await.brokers[0].port, 4711, "it outlives a restart");
}
