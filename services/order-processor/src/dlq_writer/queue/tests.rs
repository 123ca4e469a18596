//! A queue and a broker that answers each produce request as the test says.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{self, ApiKey, BrokerId, ResponseHeader, TopicName};
use kafka_protocol::protocol::{
    Encodable, HeaderVersion, StrBytes, decode_request_header_from_buffer,
};
use service_runtime::{Health, Metrics};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::*;
use crate::flow::pause_reasons::PauseReasons;
use crate::telemetry::metrics::Instruments;

const TOPIC: &str = "orders-dlq";
const METADATA_VERSION: i16 = 12;
const PRODUCE_VERSION: i16 = 9;
const IDENTITY_VERSION: i16 = 4;
const WAITING: &str = "waiting for the dead-letter topic";
const TAKEN_AGAIN: &str = "takes letters again";

#[tokio::test]
async fn the_end_of_an_outage_is_reported_whichever_form_of_a_letter_ends_it() {
    const REFUSED: Option<ResponseError> = Some(ResponseError::InvalidRecord);
    const AWAY: Option<ResponseError> = Some(ResponseError::NotLeaderOrFollower);
    for answers in [
        vec![AWAY, None],
        // The topic refuses every form of the letter for a while.
        vec![REFUSED, REFUSED, REFUSED, None],
        // It is away, and takes only a changed letter then.
        vec![AWAY, REFUSED, None],
        vec![AWAY, REFUSED, REFUSED, REFUSED, AWAY, None],
    ] {
        let (outcome, lines) = write(&answers).await;
        assert_eq!(outcome, Ok(()), "{answers:?}");
        let places = [WAITING, TAKEN_AGAIN].map(|line| lines.find(line));
        assert!(places[0].is_some() && places[0] < places[1], "{answers:?}: {lines}");
        assert_eq!(lines.matches(TAKEN_AGAIN).count(), 1, "{answers:?}: {lines}");
    }
}

#[tokio::test]
async fn no_end_is_reported_of_an_outage_that_was_none() {
    for answers in [vec![None], vec![Some(ResponseError::InvalidTimestamp), None]] {
        let (outcome, lines) = write(&answers).await;
        assert_eq!(outcome, Ok(()));
        assert!(!lines.contains(WAITING) && !lines.contains(TAKEN_AGAIN), "{lines}");
    }
}

/// Writes a letter with a key to a topic that gives these answers, and returns the outcome and the log.
async fn write(answers: &[Option<ResponseError>]) -> (Result<(), LetterError>, String) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer({
        let lines = lines.clone();
        move || lines.clone()
    });
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let (address, _broker) = broker(answers).await;
    let context = DlqContext {
        cluster: Cluster::new(BrokerConfig::new(vec![address], "queue-test")),
        watchdog: Arc::default(),
        pause_reasons: PauseReasons::new(Health::default().check("work")),
        instruments: Instruments::new(&Metrics::default(), "group"),
    };
    let (letters, letters_rx) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    let producer = Producer::start(context.cluster.clone(), None);
    tasks.spawn(run(context, producer, TopicPartition::new(TOPIC, 0), letters_rx));
    let record = ProducerRecord {
        timestamp_ms: 5,
        key: Some(Bytes::from_static(b"key")),
        value: None,
        headers: Vec::new(),
    };
    let (answer, written) = oneshot::channel();
    letters.send(Letter { record, answer }).await.unwrap();
    (written.await.unwrap(), lines.text())
}

/// Log lines in memory; clones share them.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Starts a broker of one topic that gives each produce request the next answer; `None` is an acknowledgement.
async fn broker(answers: &[Option<ResponseError>]) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(serve(stream, Arc::clone(&answers), address.port()));
        }
    });
    (address.to_string(), task)
}

async fn serve(
    mut stream: TcpStream,
    answers: Arc<Mutex<VecDeque<Option<ResponseError>>>>,
    port: u16,
) {
    while let Ok(size) = stream.read_i32().await {
        let mut frame = vec![0; usize::try_from(size).unwrap()];
        stream.read_exact(&mut frame).await.unwrap();
        let mut frame = Bytes::from(frame);
        let key = ApiKey::try_from(frame.clone().get_i16()).unwrap();
        let id = decode_request_header_from_buffer(&mut frame).unwrap().correlation_id;
        let response = if key == ApiKey::ApiVersions {
            encode(id, &api_versions(), 3)
        } else if key == ApiKey::Metadata {
            encode(id, &metadata(port), METADATA_VERSION)
        } else if key == ApiKey::InitProducerId {
            encode(id, &messages::InitProducerIdResponse::default(), IDENTITY_VERSION)
        } else {
            let answer = answers.lock().unwrap().pop_front().expect("one more answer");
            encode(id, &produced(answer), PRODUCE_VERSION)
        };
        stream.write_all(&response).await.unwrap();
    }
}

fn encode<R: Encodable + HeaderVersion>(id: i32, response: &R, version: i16) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(id);
    header.encode(&mut frame, R::header_version(version)).unwrap();
    response.encode(&mut frame, version).unwrap();
    let size = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame.freeze()
}

fn api_versions() -> messages::ApiVersionsResponse {
    // The codes of Metadata, InitProducerId and Produce.
    let versions = [(3, METADATA_VERSION), (22, IDENTITY_VERSION), (0, PRODUCE_VERSION)];
    let keys = versions.map(|(code, version)| {
        ApiVersion::default().with_api_key(code).with_min_version(version).with_max_version(version)
    });
    messages::ApiVersionsResponse::default().with_api_keys(keys.to_vec())
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

fn metadata(port: u16) -> messages::MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(i32::from(port));
    let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(1));
    let topic = MetadataResponseTopic::default()
        .with_name(Some(name()))
        .with_topic_id(Uuid::from_u128(7))
        .with_partitions(vec![partition]);
    messages::MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic])
}

fn produced(answer: Option<ResponseError>) -> messages::ProduceResponse {
    let partition =
        PartitionProduceResponse::default().with_error_code(answer.map_or(0, |error| error.code()));
    let topic =
        TopicProduceResponse::default().with_name(name()).with_partition_responses(vec![partition]);
    messages::ProduceResponse::default().with_responses(vec![topic])
}
