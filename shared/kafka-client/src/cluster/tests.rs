//! A cluster of fake brokers on real sockets.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, decode_request_header_from_buffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::connection::api_code;

/// Nothing in these tests may wait for so long.
const HOUR: Duration = Duration::from_hours(1);
const DEADLINE: Duration = Duration::from_secs(30);

/// A broker on loopback. Its tasks end with it.
struct FakeBroker {
    address: String,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl FakeBroker {
    /// Accepts connections and reads, but never answers.
    async fn silent() -> Self {
        Self::start(|_key, _version| None).await
    }

    /// Answers what `respond` returns, and the supported versions.
    async fn start(respond: fn(ApiKey, i16) -> Option<BytesMut>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let counted = Arc::clone(&connections);
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                served.spawn(serve(stream, respond));
            }
        });
        Self { address, connections, _tasks: tasks }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, respond: fn(ApiKey, i16) -> Option<BytesMut>) {
    while let Ok(size) = stream.read_i32().await {
        let mut frame = vec![0; usize::try_from(size).unwrap()];
        stream.read_exact(&mut frame).await.unwrap();
        let header = decode_request_header_from_buffer(&mut Bytes::from(frame)).unwrap();
        let key = ApiKey::try_from(header.request_api_key).unwrap();
        let Some(body) = respond(key, header.request_api_version) else { continue };
        let mut response = BytesMut::new();
        let version = key.response_header_version(header.request_api_version);
        let header = ResponseHeader::default().with_correlation_id(header.correlation_id);
        header.encode(&mut response, version).unwrap();
        response.extend_from_slice(&body);
        stream.write_i32(i32::try_from(response.len()).unwrap()).await.unwrap();
        stream.write_all(&response).await.unwrap();
    }
}

fn encode<R: Encodable + HeaderVersion>(response: &R, version: i16) -> BytesMut {
    let mut body = BytesMut::new();
    response.encode(&mut body, version).unwrap();
    body
}

fn versions(version: i16) -> BytesMut {
    let api = |key| {
        ApiVersion::default().with_api_key(api_code(key)).with_min_version(0).with_max_version(99)
    };
    let keys = [ApiKey::Metadata, ApiKey::FindCoordinator, ApiKey::Heartbeat].map(api);
    encode(&messages::ApiVersionsResponse::default().with_api_keys(keys.into()), version)
}

/// A broker of a cluster that consists of nobody.
fn empty(key: ApiKey, version: i16) -> Option<BytesMut> {
    let metadata = || encode(&messages::MetadataResponse::default(), version);
    let is_metadata = key == ApiKey::Metadata;
    (key == ApiKey::ApiVersions).then(|| versions(version)).or_else(|| is_metadata.then(metadata))
}

fn cluster(servers: &[&FakeBroker]) -> Cluster {
    let servers = servers.iter().map(|broker| broker.address.clone()).collect();
    let mut config = BrokerConfig::new(servers, "test");
    (config.connect_timeout, config.request_timeout) = (HOUR, HOUR);
    Cluster::new(config)
}

#[tokio::test]
async fn a_bootstrap_server_that_accepts_and_is_silent_is_passed_over_and_not_asked_again() {
    let (silent, empty) = (FakeBroker::silent().await, FakeBroker::start(empty).await);
    let cluster = cluster(&[&silent, &empty]);
    for _ in 0..3 {
        timeout(DEADLINE, cluster.describe(&[])).await.expect("the other one answers").unwrap();
    }
    assert_eq!((silent.connections(), empty.connections()), (1, 1));
}

#[tokio::test]
async fn refreshes_at_the_same_time_are_one_request() {
    static REQUESTS: AtomicUsize = AtomicUsize::new(0);
    let broker = FakeBroker::start(|key, version| {
        if key == ApiKey::Metadata {
            REQUESTS.fetch_add(1, Ordering::Relaxed);
        }
        empty(key, version)
    })
    .await;
    let cluster = cluster(&[&broker]);
    let refresh = || cluster.refresh(&["orders"]);
    let (one, two, three) = tokio::join!(refresh(), refresh(), refresh());
    one.and(two).and(three).unwrap();
    assert_eq!(REQUESTS.load(Ordering::Relaxed), 1);
    refresh().await.unwrap();
    assert_eq!(REQUESTS.load(Ordering::Relaxed), 2, "a later call is about a later moment");
}

#[tokio::test]
async fn a_request_at_the_former_coordinator_ends_when_another_broker_is_found_to_be_it() {
    static COORDINATOR: Mutex<String> = Mutex::new(String::new());
    let respond: fn(ApiKey, i16) -> Option<BytesMut> = |key, version| {
        if key == ApiKey::ApiVersions {
            return Some(versions(version));
        }
        if key == ApiKey::Heartbeat {
            return None;
        }
        assert_eq!(key, ApiKey::FindCoordinator);
        let address = COORDINATOR.lock().unwrap().clone();
        let (host, port) = address.rsplit_once(':').unwrap();
        let coordinator = Coordinator::default()
            .with_host(StrBytes::from_string(host.to_owned()))
            .with_port(port.parse().unwrap());
        let response = messages::FindCoordinatorResponse::default();
        Some(encode(&response.with_coordinators(vec![coordinator]), version))
    };
    let (former, next) = (FakeBroker::start(respond).await, FakeBroker::start(respond).await);
    let cluster = cluster(&[&former, &next]);
    COORDINATOR.lock().unwrap().clone_from(&former.address);
    let coordinator = cluster.coordinator("group");
    let mut connection = Some(coordinator.connect().await.unwrap());
    let request = messages::HeartbeatRequest::default();
    let waiting = coordinator.call(&mut connection, &request);
    let moving = async {
        COORDINATOR.lock().unwrap().clone_from(&next.address);
        let another_handle = cluster.coordinator("group");
        assert_eq!(*another_handle.find().await.unwrap(), *former.address, "it is known");
        another_handle.doubt("another:9092");
        assert_eq!(*another_handle.find().await.unwrap(), *former.address, "not in doubt");
        another_handle.doubt(&former.address);
        assert_eq!(*another_handle.find().await.unwrap(), *next.address);
    };
    let (ended, ()) = timeout(DEADLINE, async { tokio::join!(waiting, moving) })
        .await
        .expect("the request does not wait at the former coordinator");
    let error = ended.unwrap_err();
    assert!(error.may_have_acted(ApiKey::Heartbeat), "{error:?}");
    let found = tokio::join!(coordinator.find(), coordinator.find());
    assert_eq!(*found.0.unwrap(), *found.1.unwrap());
}
