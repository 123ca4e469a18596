//! Reads and writes topics with rskafka, a client outside the product.
//!
//! It reads no transactions and keeps one header of each name, which suffices for the generator's records. Suites that need
//! more use librdkafka and Java ([`crate::outsiders`]).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use chrono::Utc;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use rskafka::BackoffConfig;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most bytes of a fetch.
const FETCH_BYTES_MAX: i32 = 4 * 1024 * 1024;

/// How long a fetch waits for data, in milliseconds.
const FETCH_WAIT_MS: i32 = 500;

/// How long to wait for the leaders of a new topic, in milliseconds.
const CREATION_WAIT_MS: i32 = 10_000;

/// How long to retry a request before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// A record of a topic.
#[derive(Clone, Debug)]
pub struct TopicRecord {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// The timestamp in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers, the last one of each name.
    pub headers: BTreeMap<String, Vec<u8>>,
}

impl TopicRecord {
    /// Returns the coordinates as `partition:offset`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.partition, self.offset)
    }

    /// Returns the header `name` as text, if any.
    pub fn header_text(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// Reads all records of `topic`, partition by partition.
///
/// # Errors
/// When the topic does not exist or the broker does not answer.
///
/// # Cancel safety
/// Cancel safe.
pub async fn read(bootstrap_servers: &str, topic: &str) -> Result<Vec<TopicRecord>> {
    let client = connect(bootstrap_servers).await?;
    let mut records = Vec::new();
    for partition in partitions(&client, topic).await? {
        let reader = open(&client, topic, partition).await?;
        let end = reader.get_offset(OffsetAt::Latest).await?;
        let mut position = reader.get_offset(OffsetAt::Earliest).await?;
        while position < end {
            let (fetched, _) =
                reader.fetch_records(position, 1..FETCH_BYTES_MAX, FETCH_WAIT_MS).await?;
            position = fetched.last().map_or(position, |last| last.offset + 1);
            records.extend(fetched.into_iter().map(|found| TopicRecord {
                partition,
                offset: found.offset,
                timestamp_ms: found.record.timestamp.timestamp_millis(),
                key: found.record.key,
                value: found.record.value,
                headers: found.record.headers,
            }));
        }
    }
    Ok(records)
}

/// Returns the number of partitions of `topic`, or `None` for an unknown topic.
///
/// # Errors
/// When the broker does not answer.
///
/// # Cancel safety
/// Cancel safe.
pub async fn partition_count(bootstrap_servers: &str, topic: &str) -> Result<Option<usize>> {
    let topics = connect(bootstrap_servers).await?.list_topics().await?;
    Ok(topics.into_iter().find(|found| found.name == topic).map(|found| found.partitions.len()))
}

/// Creates a topic with one replica of each partition.
///
/// # Errors
/// When it exists already or the broker does not answer.
///
/// # Cancel safety
/// Not cancel safe: the topic may have been created.
pub async fn create(bootstrap_servers: &str, topic: &str, partitions: i32) -> Result<()> {
    let controller = connect(bootstrap_servers).await?.controller_client()?;
    let created = controller.create_topic(topic, partitions, 1, CREATION_WAIT_MS).await;
    created.with_context(|| format!("create the topic {topic}"))
}

/// Adds partitions to `topic`, up to `count`.
///
/// # Errors
/// When the broker refuses the request.
///
/// # Cancel safety
/// Not cancel safe: the partitions may have been added.
pub async fn grow(bootstrap_servers: &str, topic: &str, count: i32) -> Result<()> {
    // rskafka lacks this call.
    const VERSION: i16 = 3;
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let grown = CreatePartitionsTopic::default().with_name(name).with_count(count);
    let request = CreatePartitionsRequest::default()
        .with_timeout_ms(FETCH_WAIT_MS)
        .with_topics(vec![grown.with_assignments(None)]);
    let header = RequestHeader::default()
        .with_request_api_key(CreatePartitionsRequest::KEY)
        .with_request_api_version(VERSION);
    let mut body = BytesMut::new();
    header.encode(&mut body, CreatePartitionsRequest::header_version(VERSION))?;
    request.encode(&mut body, VERSION)?;
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(body.len())?);
    frame.extend(body);

    let mut connection = TcpStream::connect(bootstrap_servers).await.context("connect")?;
    connection.write_all(&frame).await?;
    let mut answer = vec![0; usize::try_from(connection.read_u32().await?)?];
    connection.read_exact(&mut answer).await?;
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, CreatePartitionsResponse::header_version(VERSION))?;
    let response = CreatePartitionsResponse::decode(&mut answer, VERSION)?;
    let is_grown = response.results.iter().all(|result| result.error_code == 0);
    ensure!(is_grown && response.results.len() == 1, "{topic} was not grown: {response:?}");
    Ok(())
}

/// Deletes a topic.
///
/// # Errors
/// When the broker refuses the request.
///
/// # Cancel safety
/// Not cancel safe: the topic may have been deleted.
pub async fn delete(bootstrap_servers: &str, topic: &str) -> Result<()> {
    let client = connect(bootstrap_servers).await?;
    let controller = client.controller_client().context("find the controller")?;
    controller
        .delete_topic(topic, CREATION_WAIT_MS)
        .await
        .with_context(|| format!("delete topic {topic}"))
}

/// Appends one record with the current time to a partition.
///
/// # Errors
/// When the broker refuses the record.
///
/// # Cancel safety
/// Not cancel safe: the record may have been written.
pub async fn write(
    bootstrap_servers: &str,
    topic: &str,
    partition: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<i64> {
    let record = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
    let offsets = write_batches(bootstrap_servers, topic, partition, vec![vec![record]]).await?;
    offsets.first().copied().context("the broker gave the record no offset")
}

/// Deletes all records of `topic`, as its retention would.
///
/// # Errors
/// When the topic does not exist or the broker refuses the request.
///
/// # Cancel safety
/// Not cancel safe: some partitions may have been emptied.
pub async fn delete_records(bootstrap_servers: &str, topic: &str) -> Result<()> {
    let client = connect(bootstrap_servers).await?;
    for partition in partitions(&client, topic).await? {
        let opened = open(&client, topic, partition).await?;
        let end = opened.get_offset(OffsetAt::Latest).await?;
        let deleted = opened.delete_records(end, FETCH_WAIT_MS).await;
        deleted.with_context(|| format!("delete the records of {topic}-{partition}"))?;
    }
    Ok(())
}

/// Appends a batch of records without keys to partition 0, all with the same headers.
///
/// # Errors
/// When the broker refuses the batch.
///
/// # Cancel safety
/// Not cancel safe: the batch may have been written.
pub async fn write_with_headers(
    bootstrap_servers: &str,
    topic: &str,
    values: &[Vec<u8>],
    headers: &[(&str, &[u8])],
) -> Result<()> {
    let writer = open(&connect(bootstrap_servers).await?, topic, 0).await?;
    let headers: BTreeMap<_, _> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    let record = |value: &Vec<u8>| {
        let (value, headers) = (Some(value.clone()), headers.clone());
        Record { key: None, value, headers, timestamp: Utc::now() }
    };
    writer.produce(values.iter().map(record).collect(), Compression::NoCompression).await?;
    Ok(())
}

/// A record's key and value.
pub type KeyValue = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Appends batches of records with the current time to a partition, and returns their base offsets.
///
/// # Errors
/// When the broker refuses a batch.
///
/// # Cancel safety
/// Not cancel safe: some of them may have been written.
pub async fn write_batches(
    bootstrap_servers: &str,
    topic: &str,
    partition: i32,
    batches: Vec<Vec<KeyValue>>,
) -> Result<Vec<i64>> {
    let client = connect(bootstrap_servers).await?;
    let writer = open(&client, topic, partition).await?;
    let mut base_offsets = Vec::new();
    for batch in batches {
        let record =
            |(key, value)| Record { key, value, headers: BTreeMap::new(), timestamp: Utc::now() };
        let records = batch.into_iter().map(record).collect();
        let offsets = writer.produce(records, Compression::NoCompression).await?;
        base_offsets.extend(offsets.first());
    }
    Ok(base_offsets)
}

/// Returns an order in Confluent's wire format.
///
/// # Errors
/// When a text is longer than 63 bytes.
pub fn order_value(schema_id: u32, order_id: &str, product: &str, price: f32) -> Result<Vec<u8>> {
    let mut value = vec![0];
    value.extend(schema_id.to_be_bytes());
    for text in [order_id, product] {
        // Up to 63, a zigzag-coded length is one byte.
        let length = i8::try_from(text.len()).ok().and_then(|length| length.checked_mul(2));
        value.push(length.with_context(|| format!("{text} is too long"))?.cast_unsigned());
        value.extend(text.as_bytes());
    }
    value.extend(price.to_le_bytes());
    Ok(value)
}

async fn connect(bootstrap_servers: &str) -> Result<Client> {
    let servers = bootstrap_servers.split(',').map(str::to_owned).collect();
    let backoff = BackoffConfig { deadline: Some(DEADLINE), ..BackoffConfig::default() };
    let client = ClientBuilder::new(servers).backoff_config(backoff).build().await;
    client.with_context(|| format!("connect to {bootstrap_servers}"))
}

async fn partitions(client: &Client, topic: &str) -> Result<Vec<i32>> {
    let topics = client.list_topics().await.context("list the topics")?;
    let found = topics.into_iter().find(|found| found.name == topic);
    Ok(found.with_context(|| format!("find topic {topic}"))?.partitions.into_iter().collect())
}

async fn open(client: &Client, topic: &str, partition: i32) -> Result<PartitionClient> {
    let opened = client.partition_client(topic, partition, UnknownTopicHandling::Retry).await;
    opened.with_context(|| format!("open {topic}-{partition}"))
}
