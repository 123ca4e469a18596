//! One Fetch request, and its response, which is decoded while it arrives.
//!
//! A partition's records go from the socket to a buffer of their own ([`crate::connection`]), so each partition's memory is
//! counted and freed by itself.
//!
//! Fetch: <https://kafka.apache.org/protocol#The_Messages_Fetch>, sessions: KIP-227, leader epochs: KIP-320 and KIP-595,
//! preferred replicas: KIP-392, topic ids: KIP-516, leaders in responses: KIP-951.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_core::NodeId;
use kafka_protocol::messages::{ApiKey, FetchRequest};
use tokio::io::AsyncRead;
use uuid::Uuid;

use crate::api::StreamedCall;
use crate::cluster::Leader;
use crate::connection::fields::{Fields, ReadError};
use crate::connection::{Connection, ConnectionError};

const SESSIONS_SINCE: i16 = 7;
const LOG_START_SINCE: i16 = 5;
const PREFERRED_REPLICA_SINCE: i16 = 11;
const TAGS_SINCE: i16 = 12;
/// The first version that names topics by id.
pub(crate) const TOPIC_IDS_SINCE: i16 = 13;

/// The fewest bytes of a topic, a partition, an aborted transaction and a broker of any version.
const TOPIC_BYTES_MIN: usize = 3;
const PARTITION_BYTES_MIN: usize = 28;
const ABORTED_BYTES_MIN: usize = 16;
const ENDPOINT_BYTES_MIN: usize = 11;

/// The response to a Fetch request.
#[derive(Debug, Default, PartialEq)]
pub struct FetchAnswer {
    /// How long the broker wants no further request, in milliseconds.
    pub throttle_time_ms: i32,
    /// Kafka's error code for the whole request; 0 for none.
    pub error_code: i16,
    /// The fetch session; 0 if there is none.
    pub session_id: i32,
    /// The answered partitions.
    pub partitions: Vec<PartitionAnswer>,
    /// Brokers that partitions name as their leaders, with their `host:port`.
    pub endpoints: Vec<(NodeId, Arc<str>)>,
}

/// The part of one partition.
#[derive(Debug, PartialEq)]
pub struct PartitionAnswer {
    /// The partition's topic.
    pub topic: TopicRef,
    /// The partition's index within the topic.
    pub partition: i32,
    /// Kafka's error code for the partition; 0 for none.
    pub error_code: i16,
    /// The end of the log.
    pub high_watermark: i64,
    /// The last stable offset: no transaction below it is open.
    pub last_stable_offset: i64,
    /// The first offset that is still in the log; −1 if the broker does not tell it.
    pub log_start_offset: i64,
    /// Where the log and the reader's history diverge, if they do.
    pub diverging: Option<EpochEnd>,
    /// The leader, if the request went to another broker.
    pub current_leader: Option<Leader>,
    /// Aborted transactions within the records, as `(producer id, first offset)`.
    pub aborted: Vec<(i64, i64)>,
    /// The replica that the reader should read from.
    pub preferred_replica: Option<NodeId>,
    /// The batches back to back, as stored. The last one may be cut off.
    pub records: Bytes,
}

/// A topic as a response names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    /// Up to version 12.
    Name(Arc<str>),
    /// Since version 13.
    Id(Uuid),
}

/// The end of a leader epoch in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch in the log up to the requested one; −1 if there is none.
    pub epoch: i32,
    /// The offset after its last record; −1 if there is none.
    pub end_offset: i64,
}

impl StreamedCall for FetchRequest {
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSIONS: RangeInclusive<i16> = 4..=16;
    type Answer = FetchAnswer;

    fn is_flexible(version: i16) -> bool {
        TAGS_SINCE <= version
    }

    fn throttle_time_ms(answer: &FetchAnswer) -> i32 {
        answer.throttle_time_ms
    }

    async fn read<S: AsyncRead + Unpin + Send>(
        fields: &mut Fields<'_, S>,
        version: i16,
    ) -> Result<FetchAnswer, ReadError> {
        let mut answer =
            FetchAnswer { throttle_time_ms: fields.i32().await?, ..FetchAnswer::default() };
        if SESSIONS_SINCE <= version {
            answer.error_code = fields.i16().await?;
            answer.session_id = fields.i32().await?;
        }
        for _ in 0..fields.count(TOPIC_BYTES_MIN).await? {
            let topic = if TOPIC_IDS_SINCE <= version {
                TopicRef::Id(fields.uuid().await?)
            } else {
                TopicRef::Name(fields.text().await?.into())
            };
            for _ in 0..fields.count(PARTITION_BYTES_MIN).await? {
                answer.partitions.push(read_partition(fields, version, topic.clone()).await?);
            }
            fields.skip_tags().await?;
        }
        for _ in 0..fields.tags().await? {
            let (tag, size) = fields.tag().await?;
            let rest = fields.rest();
            if tag == 0 {
                answer.endpoints = read_endpoints(fields).await?;
            }
            fields.end_tag(size, rest).await?;
        }
        Ok(answer)
    }
}

async fn read_partition<S: AsyncRead + Unpin + Send>(
    fields: &mut Fields<'_, S>,
    version: i16,
    topic: TopicRef,
) -> Result<PartitionAnswer, ReadError> {
    let mut answer = PartitionAnswer {
        topic,
        partition: fields.i32().await?,
        error_code: fields.i16().await?,
        high_watermark: fields.i64().await?,
        last_stable_offset: fields.i64().await?,
        log_start_offset: if LOG_START_SINCE <= version { fields.i64().await? } else { -1 },
        diverging: None,
        current_leader: None,
        aborted: read_aborted(fields).await?,
        preferred_replica: None,
        records: Bytes::new(),
    };
    if PREFERRED_REPLICA_SINCE <= version {
        answer.preferred_replica = Some(fields.i32().await?).filter(|node| *node >= 0);
    }
    answer.records = fields.bytes().await?;
    for _ in 0..fields.tags().await? {
        let (tag, size) = fields.tag().await?;
        let rest = fields.rest();
        match tag {
            0 => {
                let (epoch, end_offset) = (fields.i32().await?, fields.i64().await?);
                answer.diverging = Some(EpochEnd { epoch, end_offset }).filter(EpochEnd::is_known);
            }
            1 => {
                let (node, epoch) = (fields.i32().await?, fields.i32().await?);
                answer.current_leader = (node >= 0).then_some(Leader { node, epoch });
            }
            _ => {}
        }
        fields.end_tag(size, rest).await?;
    }
    Ok(answer)
}

async fn read_aborted<S: AsyncRead + Unpin + Send>(
    fields: &mut Fields<'_, S>,
) -> Result<Vec<(i64, i64)>, ReadError> {
    let mut aborted = Vec::new();
    for _ in 0..fields.count(ABORTED_BYTES_MIN).await? {
        aborted.push((fields.i64().await?, fields.i64().await?));
        fields.skip_tags().await?;
    }
    Ok(aborted)
}

async fn read_endpoints<S: AsyncRead + Unpin + Send>(
    fields: &mut Fields<'_, S>,
) -> Result<Vec<(NodeId, Arc<str>)>, ReadError> {
    let mut endpoints = Vec::new();
    for _ in 0..fields.count(ENDPOINT_BYTES_MIN).await? {
        let (node, host, port) = (fields.i32().await?, fields.text().await?, fields.i32().await?);
        let _rack = fields.text().await?;
        fields.skip_tags().await?;
        endpoints.push((node, format!("{host}:{port}").into()));
    }
    Ok(endpoints)
}

impl Connection {
    /// Sends a Fetch request in the newest version that both sides support, and waits at most `deadline` for the response.
    ///
    /// # Errors
    /// As [`Connection::call`].
    ///
    /// # Cancel safety
    /// As [`Connection::call`].
    pub async fn fetch(
        &mut self,
        request: &FetchRequest,
        deadline: Duration,
    ) -> Result<FetchAnswer, ConnectionError> {
        let version = self.newest(FetchRequest::KEY, FetchRequest::VERSIONS)?;
        self.call_streamed(request, version, deadline).await
    }
}

impl EpochEnd {
    /// Returns whether the broker knows the epoch.
    pub fn is_known(&self) -> bool {
        self.epoch >= 0 && self.end_offset >= 0
    }
}

#[cfg(test)]
mod tests;
