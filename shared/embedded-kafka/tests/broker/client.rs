//! A client that sends one request at a time, in any version.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use embedded_kafka::{BrokerOptions, EmbeddedKafka};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, MetadataRequest, ProduceRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// The deadline of every response; only a broken test reaches it.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn start() -> EmbeddedKafka {
    start_nodes(1).await
}

pub(crate) async fn start_nodes(nodes: u16) -> EmbeddedKafka {
    let options = BrokerOptions {
        nodes,
        min_session_timeout: Duration::from_millis(50),
        default_partitions: 3,
        ..BrokerOptions::default()
    };
    EmbeddedKafka::start(options).await.unwrap()
}

/// A connection to the broker.
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(crate) async fn connect(broker: &EmbeddedKafka) -> Self {
        Self::connect_to(broker, 1).await
    }

    /// Connects to a node.
    pub(crate) async fn connect_to(broker: &EmbeddedKafka, node: usize) -> Self {
        let address = broker.addresses().nth(node - 1).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream, correlation_id: 0 }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.receive::<R>(version).await
    }

    /// Sends a request without waiting.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("tester")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.send_raw(&frame).await;
    }

    pub(crate) async fn send_raw(&mut self, frame: &[u8]) {
        let size = i32::try_from(frame.len()).unwrap();
        self.stream.write_all(&[&size.to_be_bytes(), frame].concat()).await.unwrap();
    }

    /// Receives the response to the oldest unanswered request.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut frame = self.receive_raw().await.expect("the broker closed the connection");
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "API {} version {version} leaves bytes", R::KEY);
        response
    }

    /// Receives a frame, `None` when the broker closes the connection.
    pub(crate) async fn receive_raw(&mut self) -> Option<Bytes> {
        let receive = async {
            let size = self.stream.read_i32().await.ok()?;
            let mut frame = vec![0; usize::try_from(size).unwrap()];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        tokio::time::timeout(DEADLINE, receive).await.expect("no answer")
    }

    pub(crate) async fn create_topic(
        &mut self,
        topic: &str,
        partitions: i32,
        configs: &[(&'static str, &'static str)],
    ) {
        let configs = configs
            .iter()
            .map(|(name, value)| {
                CreatableTopicConfig::default()
                    .with_name(StrBytes::from_static_str(name))
                    .with_value(Some(StrBytes::from_static_str(value)))
            })
            .collect();
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_configs(configs);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let response = self.ask(7, &request).await;
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    }

    pub(crate) async fn topic_id(&mut self, topic: &str) -> Uuid {
        let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        self.ask(12, &request).await.topics[0].topic_id
    }

    /// Writes a batch to partition 0 of a topic.
    pub(crate) async fn produce(&mut self, topic: &str, batch: Bytes) -> PartitionProduceResponse {
        let response = self.ask(9, &produce_request(topic, batch, -1)).await;
        response.responses[0].partition_responses[0].clone()
    }

    /// Reads from partition 0 of a topic.
    pub(crate) async fn fetch(&mut self, topic: &str, offset: i64) -> PartitionData {
        let response = self.ask(12, &fetch_request(topic, offset)).await;
        response.responses[0].partitions[0].clone()
    }
}

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

pub(crate) fn produce_request(topic: &str, batch: Bytes, acks: i16) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch));
    let topic =
        TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

/// A fetch that does not wait.
pub(crate) fn fetch_request(topic: &str, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic])
}

/// Encodes a record batch with keys, uncompressed.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    let count = i32::try_from(values.len()).unwrap();
    let mut records = BytesMut::new();
    for (index, value) in values.iter().enumerate() {
        let mut record = BytesMut::new();
        record.put_slice(&[0, 0, small(index), small(1), b'k', small(value.len())]);
        record.put_slice(value.as_bytes());
        record.put_slice(&[0]);
        records.put_u8(small(record.len()));
        records.put_slice(&record);
    }
    let mut checked = BytesMut::new();
    checked.put_i16(0);
    checked.put_i32(count - 1);
    checked.put_i64(1_700_000_000_000);
    checked.put_i64(1_700_000_000_000);
    checked.put_i64(-1);
    checked.put_i16(-1);
    checked.put_i32(-1);
    checked.put_i32(count);
    checked.put_slice(&records);
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(i32::try_from(checked.len() + 9).unwrap());
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(crc32c::crc32c(&checked));
    batch.put_slice(&checked);
    batch.freeze()
}

/// The encoding of a small number as a variable-length integer.
fn small(value: usize) -> u8 {
    assert!(value < 64, "{value} takes more than a byte");
    u8::try_from(value * 2).unwrap()
}
