//! Produce requests, and what their answers say of each partition.

use std::time::Duration;

use bytes::Bytes;
use kafka_core::TopicPartition;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{LeaderIdAndEpoch, PartitionProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use crate::cluster::{Cluster, Leader, topic_name};

/// All in-sync replicas acknowledge.
const ACKS_ALL: i16 = -1;
/// Most records of a refused batch whose error messages are kept.
const RECORD_ERRORS_MAX: usize = 3;
/// Most characters of the kept messages.
const MESSAGE_CHARS_MAX: usize = 1000;

/// Returns a request with one batch for each of these partitions, ascending; the in-sync replicas may take `timeout`.
pub(super) fn request<'a>(
    batches: impl Iterator<Item = (&'a TopicPartition, Bytes)>,
    timeout: Duration,
) -> ProduceRequest {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for (tp, batch) in batches {
        let partition =
            PartitionProduceData::default().with_index(tp.partition).with_records(Some(batch));
        match topics.last_mut() {
            Some(topic) if topic.name.0.as_str() == tp.topic.as_ref() => {
                topic.partition_data.push(partition);
            }
            _ => topics.push(
                TopicProduceData::default()
                    .with_name(topic_name(&tp.topic))
                    .with_partition_data(vec![partition]),
            ),
        }
    }
    ProduceRequest::default()
        .with_acks(ACKS_ALL)
        .with_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
        .with_topic_data(topics)
}

/// What an answer says of one partition.
pub(super) enum Response {
    Appended { base_offset: i64, log_append_time_ms: i64 },
    Error { error: ResponseError, message: Option<String> },
}

/// Returns what an answer says of each partition, and notes the leaders that it names.
pub(super) fn read(cluster: &Cluster, answer: &ProduceResponse) -> Vec<(TopicPartition, Response)> {
    let mut responses = Vec::new();
    for topic in &answer.responses {
        for partition in &topic.partition_responses {
            let tp = TopicPartition::new(topic.name.0.as_str(), partition.index);
            note_leader(cluster, &tp, &partition.current_leader, answer);
            responses.push((tp, read_partition(partition)));
        }
    }
    responses
}

fn read_partition(partition: &PartitionProduceResponse) -> Response {
    match ResponseError::try_from_code(partition.error_code) {
        None => Response::Appended {
            base_offset: partition.base_offset,
            log_append_time_ms: partition.log_append_time_ms,
        },
        Some(error) => Response::Error { error, message: message(partition) },
    }
}

fn note_leader(
    cluster: &Cluster,
    tp: &TopicPartition,
    named: &LeaderIdAndEpoch,
    answer: &ProduceResponse,
) {
    if named.leader_id.0 < 0 {
        return;
    }
    let endpoint = answer.node_endpoints.iter().find(|node| node.node_id == named.leader_id);
    let address = endpoint.map(|node| format!("{}:{}", node.host.as_str(), node.port).into());
    let leader = Leader { node: named.leader_id.0, epoch: named.leader_epoch };
    cluster.note_leader(tp, leader, address);
}

/// Returns the broker's messages about a refused batch and its first refused records.
fn message(partition: &PartitionProduceResponse) -> Option<String> {
    let batch = partition.error_message.iter().map(ToString::to_string);
    let records = partition.record_errors.iter().filter_map(|record| {
        let message = record.batch_index_error_message.as_ref()?;
        Some(format!("record {}: {message}", record.batch_index))
    });
    let all: Vec<String> = batch.chain(records.take(RECORD_ERRORS_MAX)).collect();
    (!all.is_empty()).then(|| all.join("; ").chars().take(MESSAGE_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, NodeEndpoint, TopicProduceResponse,
    };

    use super::*;
    use crate::config::BrokerConfig;

    #[test]
    fn a_refusal_carries_the_brokers_messages() {
        let record = |index, words: &'static str| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(index)
                .with_batch_index_error_message(Some(words.into()))
        };
        let partition = PartitionProduceResponse::default()
            .with_error_message(Some("2 of 3 records are invalid".into()))
            .with_record_errors(vec![record(0, "it has no key"), record(2, "it is too old")]);
        assert_eq!(
            message(&partition).as_deref(),
            Some("2 of 3 records are invalid; record 0: it has no key; record 2: it is too old")
        );
        assert_eq!(message(&PartitionProduceResponse::default()), None);
    }

    #[test]
    fn a_request_names_each_topic_once() {
        let tps =
            [("a", 0), ("a", 1), ("b", 0)].map(|(topic, index)| TopicPartition::new(topic, index));
        let batches = tps.iter().map(|tp| (tp, Bytes::new()));
        let request = request(batches, Duration::from_secs(1));
        let sizes: Vec<_> = request.topic_data.iter().map(|t| t.partition_data.len()).collect();
        assert_eq!((sizes, request.acks, request.timeout_ms), (vec![2, 1], -1, 1000));
    }

    #[test]
    fn an_unknown_partition_has_no_leader_to_note() {
        let cluster = Cluster::new(BrokerConfig::new(Vec::new(), "test"));
        let leader = LeaderIdAndEpoch::default().with_leader_id(1.into()).with_leader_epoch(3);
        let partition = PartitionProduceResponse::default()
            .with_error_code(ResponseError::NotLeaderOrFollower.code())
            .with_current_leader(leader);
        let topic = TopicProduceResponse::default()
            .with_name(topic_name("orders"))
            .with_partition_responses(vec![partition]);
        let answer = ProduceResponse::default()
            .with_responses(vec![topic])
            .with_node_endpoints(vec![NodeEndpoint::default().with_node_id(1.into())]);
        let responses = read(&cluster, &answer);
        assert!(matches!(
            responses[..],
            [(_, Response::Error { error: ResponseError::NotLeaderOrFollower, .. })]
        ));
        assert_eq!(cluster.known().topic("orders"), None);
    }
}
