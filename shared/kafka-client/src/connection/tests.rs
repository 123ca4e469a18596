use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{self, ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, decode_request_header_from_buffer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep, timeout};

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
async fn receive(broker: &mut (impl AsyncRead + Unpin)) -> i32 {
    let size = usize::try_from(broker.read_i32().await.unwrap()).unwrap();
    let mut frame = vec![0; size];
    broker.read_exact(&mut frame).await.unwrap();
    decode_request_header_from_buffer(&mut Bytes::from(frame)).unwrap().correlation_id
}

async fn send<R: Encodable + HeaderVersion + Sync>(
    broker: &mut (impl AsyncWrite + Unpin),
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
    connected_through(64 * 1024, versions).await
}

/// The same, with room for so many bytes between both ends.
async fn connected_through(room: usize, versions: (i16, i16)) -> (Connection, DuplexStream) {
    let (ours, mut broker) = tokio::io::duplex(room);
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
    let sent = timeout(DEADLINE, broker.read(&mut nothing)).await;
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
async fn the_next_request_waits_until_a_throttle_is_over_and_has_its_whole_deadline_then() {
    const THROTTLE: Duration = Duration::from_secs(20);
    let (mut connection, mut broker) = connected((0, 4)).await;
    let request = messages::HeartbeatRequest::default();
    let begun = Instant::now();
    let mut sent_at = Vec::new();
    for throttle_time_ms in [20_000, 0, -1, 0] {
        let answer = async {
            let id = receive(&mut broker).await;
            sent_at.push(begun.elapsed());
            sleep(DEADLINE / 2).await;
            let response =
                messages::HeartbeatResponse::default().with_throttle_time_ms(throttle_time_ms);
            send(&mut broker, id, &response, 4).await;
        };
        let (response, ()) = tokio::join!(connection.call(&request, DEADLINE), answer);
        response.unwrap();
    }
    let half = DEADLINE / 2;
    let second = half + THROTTLE;
    assert_eq!(sent_at, [Duration::ZERO, second, second + half, second + half * 2]);
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

/// The process stands still with half of the request written, and wakes after the deadline with room for the rest.
#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_the_deadline() {
    const ROOM: usize = 100;
    let (mut connection, mut broker) = connected_through(ROOM, (0, 4)).await;
    let member_id = "m".repeat(ROOM).into();
    let request = messages::HeartbeatRequest::default().with_member_id(member_id);
    let mut call = Box::pin(connection.call(&request, DEADLINE));
    let begun = timeout(Duration::ZERO, &mut call).await;
    assert!(begun.is_err(), "{begun:?}");

    tokio::time::advance(2 * DEADLINE).await;
    broker.read_exact(&mut [0; ROOM]).await.unwrap();
    let late = call.await;
    assert!(matches!(late, Err(ConnectionError::Deadline { .. })), "{late:?}");
    drop(connection);
    let mut rest = Vec::new();
    broker.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{} bytes were written late", rest.len());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_any_time_left_is_not_written() {
    let (mut connection, mut broker) = connected((0, 4)).await;
    let late = connection.call(&messages::HeartbeatRequest::default(), Duration::ZERO).await;
    assert!(matches!(late, Err(ConnectionError::Deadline { .. })), "{late:?}");
    drop(connection);
    let mut written = Vec::new();
    broker.read_to_end(&mut written).await.unwrap();
    assert!(written.is_empty(), "{} bytes were written", written.len());
}

/// The request is in the client's send buffer, because the broker does not read, when its deadline passes.
#[tokio::test]
async fn a_request_that_is_given_up_does_not_reach_the_broker_later() {
    const ROOM: u32 = 4 * 1024;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(ROOM).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = config();
    let connecting = Connection::connect(&address, &config);
    let answering = async {
        let (mut broker, _) = listener.accept().await.unwrap();
        let id = receive(&mut broker).await;
        let heartbeat = speaks(ApiKey::Heartbeat, 0, 4);
        let response = messages::ApiVersionsResponse::default().with_api_keys(vec![heartbeat]);
        send(&mut broker, id, &response, 3).await;
        broker
    };
    let (connection, mut broker) = tokio::join!(connecting, answering);
    let mut connection = connection.unwrap();
    let member_id = "m".repeat(16 * usize::try_from(ROOM).unwrap());
    let bytes = member_id.len();
    let request = messages::HeartbeatRequest::default().with_member_id(member_id.into());
    let late = connection.call(&request, Duration::from_millis(50)).await;
    assert!(matches!(late, Err(ConnectionError::Deadline { .. })), "{late:?}");
    drop(connection);

    let mut received = Vec::new();
    let ended = broker.read_to_end(&mut received).await;
    assert!(received.len() < bytes, "all {bytes} bytes came: {ended:?}");
}

#[tokio::test]
async fn a_connection_that_the_broker_has_closed_or_that_is_in_doubt_is_not_used_again() {
    let (connection, mut broker) = connected((3, 4)).await;
    let connection = connection.if_open().expect("it is open");

    broker.write_i32(0).await.unwrap();
    assert!(connection.if_open().is_none(), "what nobody asked for");

    let (connection, broker) = connected((3, 4)).await;
    drop(broker);
    assert!(connection.if_open().is_none(), "it is closed");

    let (mut connection, _broker) = connected((3, 4)).await;
    let request = messages::HeartbeatRequest::default();
    let abandoned = connection.call(&request, DEADLINE);
    assert!(timeout(Duration::ZERO, abandoned).await.is_err());
    assert!(connection.if_open().is_none(), "its answer may come");
}
