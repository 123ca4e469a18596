use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{self, ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, decode_request_header_from_buffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{Connection, ConnectionError, FRAME_BYTES_MAX, api_code};
use crate::config::BrokerConfig;

const DEADLINE: Duration = Duration::from_secs(5);

fn config() -> BrokerConfig {
    BrokerConfig {
        bootstrap_servers: vec![],
        client_id: "test".to_owned(),
        connect_timeout: DEADLINE,
        request_timeout: DEADLINE,
    }
}

/// Reads one request's frame and returns its correlation id.
async fn receive(broker: &mut DuplexStream) -> i32 {
    let size = usize::try_from(broker.read_i32().await.unwrap()).unwrap();
    let mut frame = vec![0; size];
    broker.read_exact(&mut frame).await.unwrap();
    decode_request_header_from_buffer(&mut Bytes::from(frame)).unwrap().correlation_id
}

async fn send<R: Encodable + HeaderVersion + Sync>(
    broker: &mut DuplexStream,
    correlation_id: i32,
    response: &R,
    version: i16,
) {
    let mut frame = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header.encode(&mut frame, R::header_version(version)).unwrap();
    response.encode(&mut frame, version).unwrap();
    broker.write_i32(i32::try_from(frame.len()).unwrap()).await.unwrap();
    broker.write_all(&frame).await.unwrap();
}

fn speaks(key: ApiKey, min: i16, max: i16) -> ApiVersion {
    ApiVersion::default().with_api_key(api_code(key)).with_min_version(min).with_max_version(max)
}

/// A connection to a broker that speaks Heartbeat `versions`, and the broker's end of it.
async fn connected(versions: (i16, i16)) -> (Connection, DuplexStream) {
    let (ours, mut broker) = tokio::io::duplex(64 * 1024);
    let config = config();
    let handshake = Connection::handshake(Box::new(ours), "broker:9092", &config);
    let answer = async {
        let id = receive(&mut broker).await;
        let response = messages::ApiVersionsResponse::default().with_api_keys(vec![speaks(
            ApiKey::Heartbeat,
            versions.0,
            versions.1,
        )]);
        send(&mut broker, id, &response, 3).await;
    };
    let (connection, ()) = tokio::join!(handshake, answer);
    (connection.unwrap(), broker)
}

#[tokio::test(start_paused = true)]
async fn requests_are_sent_in_the_newest_version_that_both_sides_speak() {
    for (theirs, spoken) in [((0, 4), 4), ((0, 3), 3), ((3, 9), 4)] {
        let (connection, _broker) = connected(theirs).await;
        assert_eq!(connection.version::<messages::HeartbeatRequest>().unwrap(), spoken);
    }
    let (mut connection, mut broker) = connected((0, 2)).await;
    let refused = connection.call(&messages::HeartbeatRequest::default(), DEADLINE).await;
    assert!(matches!(refused, Err(ConnectionError::Unsupported { .. })), "{refused:?}");
    let mut nothing = [0];
    let sent = tokio::time::timeout(DEADLINE, broker.read(&mut nothing)).await;
    assert!(sent.is_err(), "nothing is sent in a version that nobody speaks");
}

#[tokio::test(start_paused = true)]
async fn an_answer_reaches_the_request_it_belongs_to() {
    let (mut connection, mut broker) = connected((0, 4)).await;
    let request = messages::HeartbeatRequest::default();
    for error_code in [0, 27] {
        let answer = async {
            let id = receive(&mut broker).await;
            let response = messages::HeartbeatResponse::default().with_error_code(error_code);
            send(&mut broker, id, &response, 4).await;
        };
        let (response, ()) = tokio::join!(connection.call(&request, DEADLINE), answer);
        assert_eq!(response.unwrap().error_code, error_code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missed_deadline_makes_the_connection_unusable() {
    let (mut connection, _broker) = connected((0, 4)).await;
    let request = messages::HeartbeatRequest::default();
    let late = connection.call(&request, DEADLINE).await;
    assert!(matches!(late, Err(ConnectionError::Deadline { .. })), "{late:?}");
    let next = connection.call(&request, DEADLINE).await;
    assert!(matches!(next, Err(ConnectionError::Broken { .. })), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_makes_the_connection_unusable() {
    let (mut connection, mut broker) = connected((0, 4)).await;
    let request = messages::HeartbeatRequest::default();
    tokio::select! {
        biased;
        _ = connection.call(&request, DEADLINE) => panic!("nobody answered"),
        id = receive(&mut broker) => {
            // The answer to the abandoned request would be taken for the next one's.
            let response = messages::HeartbeatResponse::default();
            send(&mut broker, id, &response, 4).await;
        }
    }
    let next = connection.call(&request, DEADLINE).await;
    assert!(matches!(next, Err(ConnectionError::Broken { .. })), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_follow_the_protocol_are_refused() {
    let (mut connection, mut broker) = connected((0, 4)).await;
    let request = messages::HeartbeatRequest::default();
    let answer = async {
        let id = receive(&mut broker).await;
        send(&mut broker, id + 1, &messages::HeartbeatResponse::default(), 4).await;
    };
    let (response, ()) = tokio::join!(connection.call(&request, DEADLINE), answer);
    assert!(matches!(response, Err(ConnectionError::Malformed { .. })), "{response:?}");

    let (mut connection, mut broker) = connected((0, 4)).await;
    let answer = async {
        receive(&mut broker).await;
        let mut frame = BytesMut::new();
        frame.put_i32(i32::try_from(FRAME_BYTES_MAX).unwrap() + 1);
        broker.write_all(&frame).await.unwrap();
    };
    let (response, ()) = tokio::join!(connection.call(&request, DEADLINE), answer);
    assert!(matches!(response, Err(ConnectionError::Broken { .. })), "{response:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_reported_as_broken() {
    let (mut connection, broker) = connected((0, 4)).await;
    drop(broker);
    let response = connection.call(&messages::HeartbeatRequest::default(), DEADLINE).await;
    assert!(matches!(response, Err(ConnectionError::Broken { .. })), "{response:?}");
}
