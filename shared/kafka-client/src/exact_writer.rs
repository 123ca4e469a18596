//! Writes records exactly as given: headers in their order, repeated, with null values, with names that are not UTF-8.
//!
//! rskafka keeps headers in a sorted map from text to bytes and drops the broker's error message. A replay of dead letters
//! has to restore a record as it was, and the dead-letter writer has to act on a refusal. Both build the batch here and send it
//! over a connection of their own. One attempt is one request; the caller decides about retries by [`ProduceError`].
//!
//! Produce: <https://kafka.apache.org/protocol#The_Messages_Produce>.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_core::record_batch::BatchBuilder;
use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use tokio::time::Instant;

use crate::cluster::{Cluster, topic_name};
use crate::connection::{Connection, ConnectionError};
use crate::error::{ClientError, chain};
use crate::writer::ProduceError;

/// All in-sync replicas acknowledge.
const ACKS_ALL: i16 = -1;
/// The most bytes that lengths, deltas and attributes of one record take.
const RECORD_OVERHEAD_BYTES: usize = 36;
/// The most bytes that the two lengths of one header take.
const HEADER_OVERHEAD_BYTES: usize = 10;
/// Most records of a refused batch whose error messages are kept.
const RECORD_ERRORS_MAX: usize = 3;
/// Most characters of the kept messages.
const MESSAGE_CHARS_MAX: usize = 1000;

/// A record to write, with its headers as they will be in the log. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactRecord {
    /// The record's time, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key; null and empty are different keys.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values in their order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl ExactRecord {
    /// Returns how many bytes the record takes in a batch at most.
    pub fn encoded_bytes_max(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let header = |(name, value): &(Bytes, Option<Bytes>)| {
            HEADER_OVERHEAD_BYTES + name.len() + length(value)
        };
        RECORD_OVERHEAD_BYTES
            + length(&self.key)
            + length(&self.value)
            + self.headers.iter().map(header).sum::<usize>()
    }
}

/// Writes records with acks=all, one request at a time, over one connection per leader.
#[derive(Debug)]
pub struct ExactWriter {
    cluster: Cluster,
    leaders: BTreeMap<TopicPartition, NodeId>,
    connections: BTreeMap<NodeId, Connection>,
}

impl ExactWriter {
    /// Returns a writer without connecting to the cluster.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, leaders: BTreeMap::new(), connections: BTreeMap::new() }
    }

    /// Sends `records` as one uncompressed batch to one partition with acks=all and returns the offset of the first record; the
    /// others follow it without a gap.
    ///
    /// # Errors
    /// As [`crate::writer::Writer::produce`]: [`ProduceError::Refused`] and [`ProduceError::NotSent`] have written
    /// nothing, [`ProduceError::Unknown`] may have written all of the records.
    ///
    /// # Cancel safety
    /// The outcome is lost when the future is dropped: the records may still be written.
    pub async fn produce(
        &mut self,
        target: &TopicPartition,
        records: &[ExactRecord],
        deadline: Instant,
    ) -> Result<i64, ProduceError> {
        let not_sent = |cause: String| ProduceError::NotSent { target: target.clone(), cause };
        let batch = batch(records).map_err(|error| not_sent(error.to_string()))?;
        let leader = self.leader(target).await.map_err(|error| not_sent(chain(&error)))?;
        // Taken out while in use, so that an error or a dropped future drops it.
        let open = self.connections.remove(&leader).and_then(Connection::if_open);
        let connection = match open {
            Some(connection) => Ok(connection),
            None => connect(&self.cluster, leader).await,
        };
        let mut connection = connection.map_err(|error| {
            self.leaders.remove(target);
            not_sent(chain(&error))
        })?;
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout_ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        match connection.call(&request(target, batch, timeout_ms), left).await {
            Ok(answer) => {
                self.connections.insert(leader, connection);
                read(target, &answer).inspect_err(|_refused| {
                    self.leaders.remove(target);
                })
            }
            Err(error) => {
                self.leaders.remove(target);
                Err(failed(target, &error))
            }
        }
    }

    async fn leader(&mut self, target: &TopicPartition) -> Result<NodeId, ClientError> {
        if let Some(leader) = self.leaders.get(target) {
            return Ok(*leader);
        }
        let described = self.cluster.metadata(&[&target.topic]).await?;
        let leader = described
            .get(target.topic.as_ref())
            .and_then(|topic| topic.leaders.get(&target.partition).copied().flatten())
            .map(|leader| leader.node)
            .ok_or_else(|| {
                ClientError::refused(
                    format!("find the leader of {target}"),
                    ResponseError::LeaderNotAvailable,
                )
            })?;
        self.leaders.insert(target.clone(), leader);
        Ok(leader)
    }
}

async fn connect(cluster: &Cluster, leader: NodeId) -> Result<Connection, ClientError> {
    let address = cluster.known().address(leader).cloned().ok_or_else(|| {
        ClientError::refused("name a leader's address", ResponseError::LeaderNotAvailable)
    })?;
    Ok(cluster.connect(&address).await?)
}

fn batch(records: &[ExactRecord]) -> std::io::Result<Bytes> {
    let mut builder = BatchBuilder::new(0).leader_epoch(-1);
    for record in records {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref())).collect();
        builder = builder.record(
            record.timestamp_ms,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
    }
    builder.build()
}

fn request(target: &TopicPartition, batch: Bytes, timeout_ms: i32) -> messages::ProduceRequest {
    let partition = messages::produce_request::PartitionProduceData::default()
        .with_index(target.partition)
        .with_records(Some(batch));
    let topic = messages::produce_request::TopicProduceData::default()
        .with_name(topic_name(&target.topic))
        .with_partition_data(vec![partition]);
    messages::ProduceRequest::default()
        .with_acks(ACKS_ALL)
        .with_timeout_ms(timeout_ms)
        .with_topic_data(vec![topic])
}

fn read(target: &TopicPartition, answer: &messages::ProduceResponse) -> Result<i64, ProduceError> {
    let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
    let Some(partition) = partition else {
        let cause = "the answer names no partition".to_owned();
        return Err(ProduceError::Unknown { target: target.clone(), cause });
    };
    match ResponseError::try_from_code(partition.error_code) {
        None => Ok(partition.base_offset),
        Some(error) => Err(refused(target, error, message(partition))),
    }
}

/// Returns the broker's messages about a refused batch and its first refused records.
fn message(partition: &messages::produce_response::PartitionProduceResponse) -> String {
    let batch = partition.error_message.iter().map(ToString::to_string);
    let records = partition.record_errors.iter().filter_map(|record| {
        let message = record.batch_index_error_message.as_ref()?;
        Some(format!("record {}: {message}", record.batch_index))
    });
    let all: Vec<String> = batch.chain(records.take(RECORD_ERRORS_MAX)).collect();
    all.join("; ").chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Returns the outcome of the records that an error code means.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign enum that grows: any other code is an unknown outcome"
)]
fn refused(target: &TopicPartition, error: ResponseError, message: String) -> ProduceError {
    use ResponseError as E;
    let target = target.clone();
    match error {
        E::MessageTooLarge
        | E::RecordListTooLarge
        | E::InvalidRecord
        | E::InvalidTimestamp
        | E::InvalidTopicException
        | E::TopicAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::PolicyViolation => ProduceError::Refused { target, error, message },
        // The broker answers it only before the append. It can answer a change of leader, or a deleted topic, after it.
        E::NotEnoughReplicas => ProduceError::NotSent { target, cause: format!("{error:?}") },
        _ => ProduceError::Unknown { target, cause: format!("{error:?}") },
    }
}

/// Returns the outcome of the records if the connection fails after the request.
fn failed(target: &TopicPartition, error: &ConnectionError) -> ProduceError {
    let (target, cause) = (target.clone(), chain(error));
    match error {
        ConnectionError::Connect { .. } | ConnectionError::Unsupported { .. } => {
            ProduceError::NotSent { target, cause }
        }
        ConnectionError::Broken { .. }
        | ConnectionError::Deadline { .. }
        | ConnectionError::Malformed { .. } => ProduceError::Unknown { target, cause },
    }
}

#[cfg(test)]
mod tests {
    use kafka_core::record_batch::batches;

    use super::*;

    fn target() -> TopicPartition {
        TopicPartition::new("orders", 1)
    }

    fn record() -> ExactRecord {
        let header = |name: &'static [u8], value: Option<&'static [u8]>| {
            (Bytes::from_static(name), value.map(Bytes::from_static))
        };
        ExactRecord {
            timestamp_ms: 1_700_000_000_000,
            key: None,
            value: Some(Bytes::from_static(b"value")),
            headers: vec![
                header(b"z", Some(b"1")),
                header(b"a", None),
                header(b"z", Some(b"")),
                header(b"\xff", Some(b"2")),
            ],
        }
    }

    #[test]
    fn headers_are_in_the_batch_as_they_were_given() {
        let records = [record(), ExactRecord { key: Some(Bytes::new()), value: None, ..record() }];
        let encoded = batch(&records).unwrap();
        let raw = batches(encoded.clone()).next().unwrap();
        let opened = raw.open(1 << 20).unwrap();
        let found: Vec<ExactRecord> = opened
            .records()
            .map(|found| {
                let found = found.unwrap();
                let owned = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
                ExactRecord {
                    timestamp_ms: found.timestamp_ms,
                    key: owned(found.key),
                    value: owned(found.value),
                    headers: found
                        .headers
                        .iter()
                        .map(|header| (Bytes::copy_from_slice(header.name), owned(header.value)))
                        .collect(),
                }
            })
            .collect();
        assert_eq!(found, records);
        let most: usize = records.iter().map(ExactRecord::encoded_bytes_max).sum();
        assert!(encoded.len() <= 61 + most, "{} bytes", encoded.len());
    }

    #[test]
    fn only_a_code_that_precedes_the_append_says_that_nothing_was_written() {
        use ResponseError as E;
        let answer = |error: ResponseError| {
            let partition = messages::produce_response::PartitionProduceResponse::default()
                .with_error_code(error.code());
            let topic = messages::produce_response::TopicProduceResponse::default()
                .with_partition_responses(vec![partition]);
            read(&target(), &messages::ProduceResponse::default().with_responses(vec![topic]))
        };
        let refused = [
            E::MessageTooLarge,
            E::RecordListTooLarge,
            E::InvalidRecord,
            E::InvalidTimestamp,
            E::InvalidTopicException,
            E::TopicAuthorizationFailed,
            E::ClusterAuthorizationFailed,
            E::PolicyViolation,
        ];
        for code in (-1..140).filter(|code| *code != 0) {
            let Some(error) = E::try_from_code(code) else { continue };
            let outcome = answer(error).expect_err("an error code is no offset");
            let is_right = match &outcome {
                ProduceError::Refused { .. } => refused.contains(&error),
                // The one code that the broker answers only before it appends.
                ProduceError::NotSent { .. } => error == E::NotEnoughReplicas,
                ProduceError::Unknown { .. } => {
                    !refused.contains(&error) && error != E::NotEnoughReplicas
                }
            };
            assert!(is_right, "{error:?}: {outcome:?}");
        }
        let nothing = read(&target(), &messages::ProduceResponse::default());
        assert!(matches!(nothing, Err(ProduceError::Unknown { .. })));
    }

    #[test]
    fn a_refusal_carries_the_brokers_messages() {
        let record = |index, words: &'static str| {
            messages::produce_response::BatchIndexAndErrorMessage::default()
                .with_batch_index(index)
                .with_batch_index_error_message(Some(words.into()))
        };
        let partition = messages::produce_response::PartitionProduceResponse::default()
            .with_error_code(ResponseError::InvalidRecord.code())
            .with_error_message(Some("2 of 3 records are invalid".into()))
            .with_record_errors(vec![record(0, "it has no key"), record(2, "it is too old")]);
        let topic = messages::produce_response::TopicProduceResponse::default()
            .with_partition_responses(vec![partition]);
        let answer = messages::ProduceResponse::default().with_responses(vec![topic]);
        let error = read(&target(), &answer).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the broker refused records for orders-1: InvalidRecord (2 of 3 records are invalid; \
             record 0: it has no key; record 2: it is too old)"
        );
    }

    #[test]
    fn a_connection_that_fails_under_way_leaves_the_outcome_unknown() {
        let broken = ConnectionError::Broken {
            address: "broker:9092".into(),
            api: messages::ApiKey::Produce,
            source: std::io::ErrorKind::UnexpectedEof.into(),
        };
        assert!(matches!(failed(&target(), &broken), ProduceError::Unknown { .. }));
    }
}
