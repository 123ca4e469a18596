//! The injected faults happen: without them, the suites would prove nothing.

use std::time::Duration;

use embedded_kafka::{BrokerOptions, EmbeddedKafka};
use tokio::time::Instant;

use super::*;
use crate::topic;

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_writes_the_record_of_a_lost_response_but_not_of_a_lost_request() {
    for (fault, written) in [(Fault::LoseAnswer, 2), (Fault::LoseRequest, 1)] {
        let (broker, proxy) = start().await;
        proxy.inject(ApiKey::Produce, fault, 0, 1);
        // rskafka repeats a record without a response.
        topic::write(&proxy.address(), "t", 0, None, Some(b"v"))
            .await
            .expect("the second attempt succeeds");
        let records =
            topic::read(&broker.bootstrap_servers(), "t").await.expect("the topic is there");
        assert_eq!((records.len(), proxy.hits(ApiKey::Produce)), (written, 1), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_reaches_the_broker_after_its_connection_has_closed() {
    let (broker, proxy) = start().await;
    let servers = broker.bootstrap_servers();
    topic::write(&servers, "t", 0, None, Some(b"early")).await.expect("the broker takes it");
    proxy.inject(ApiKey::Produce, Fault::Hold, 0, 1);
    let address = proxy.address();
    tokio::select! {
        _written = topic::write(&address, "t", 0, None, Some(b"late")) => panic!("nothing was held"),
        () = proxy.hit(ApiKey::Produce, 1) => {}
    }
    for written in [1, 2] {
        let records = topic::read(&servers, "t").await.expect("the topic is there");
        assert_eq!(records.len(), written);
        assert_eq!(proxy.deliver_held().await.expect("the broker answers"), 2 - written);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_response_comes_later() {
    const DELAY: Duration = Duration::from_millis(300);
    let (_broker, proxy) = start().await;
    proxy.inject(ApiKey::Produce, Fault::DelayAnswer(DELAY), 1, 1);
    for is_late in [false, true] {
        let started = Instant::now();
        topic::write(&proxy.address(), "t", 0, None, Some(b"v")).await.expect("the broker answers");
        assert!(!is_late || (started.elapsed() >= DELAY));
        assert_eq!(proxy.hits(ApiKey::Produce), u32::from(is_late));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_damaged_as_often_as_requested() {
    let (_broker, proxy) = start().await;
    for value in [b"first", b"other"] {
        topic::write(&proxy.address(), "t", 0, None, Some(value)).await.expect("it is written");
    }
    let value_at = 61 + 6;
    proxy.damage((0, 1), value_at, DamageKind::Plain, 1);
    let damaged = topic::read(&proxy.address(), "t").await;
    assert!(damaged.is_err_and(|error| format!("{error:#}").contains("CRC")));

    proxy.damage((0, 1), value_at, DamageKind::Forged, 1);
    for expected in ["first nther", "first other"] {
        let records = topic::read(&proxy.address(), "t").await.expect("the checksums are right");
        let values = records.into_iter().filter_map(|record| record.value);
        let values: Vec<_> = values.map(|v| String::from_utf8_lossy(&v).into_owned()).collect();
        assert_eq!(values.join(" "), expected);
    }
    assert_eq!(proxy.damaged(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_stay_with_the_proxy_and_reconnect_when_it_opens() {
    let (broker, proxy) = start().await;
    proxy.close();
    let address = proxy.address();
    let writing = tokio::join!(topic::write(&address, "t", 0, None, Some(b"v")), async {
        proxy.refused(2).await;
        let unwritten = topic::partition_count(&broker.bootstrap_servers(), "t").await;
        proxy.open();
        unwritten
    });
    assert_eq!(writing.1.expect("the broker itself is there"), None, "written around the proxy");
    writing.0.expect("written after the proxy has opened");
}

async fn start() -> (EmbeddedKafka, Proxy) {
    let broker = EmbeddedKafka::start(BrokerOptions::default()).await.expect("a port is free");
    let proxy = Proxy::start(&broker.bootstrap_servers()).await.expect("a port is free");
    (broker, proxy)
}
