//! What a Fetch response says about each partition that was asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_group::TopicPartition;
use kafka_group::record_batch;
use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use uuid::Uuid;

use super::{FetchedBatches, Wanted};

/// Pause after an error about one partition that only time or an operator can heal.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// Pause after an error that passes by itself within moments.
const BRIEF_PAUSE: Duration = Duration::from_millis(100);

/// What to do about one partition of a response.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Hand on the batches and the log's ends.
    Batches(FetchedBatches),
    /// The position is outside the log.
    OutOfRange,
    /// Another broker leads the partition, or its topic is gone.
    FindLeader(ResponseError),
    /// Ask again after a pause.
    Wait {
        /// Kafka's error code.
        error: ResponseError,
        /// How long to wait.
        pause: Duration,
    },
}

/// Sorts a response by partition; what was not asked for is left out.
pub(super) fn read(
    wanted: &BTreeMap<TopicPartition, Wanted>,
    response: messages::FetchResponse,
) -> Vec<(TopicPartition, Outcome)> {
    if let Some(error) = ResponseError::try_from_code(response.error_code) {
        return wanted
            .keys()
            .map(|tp| (tp.clone(), Outcome::Wait { error, pause: ERROR_PAUSE }))
            .collect();
    }
    let mut outcomes = Vec::new();
    for topic in response.responses {
        for partition in topic.partitions {
            let asked = wanted.iter().find(|(tp, source)| {
                tp.partition == partition.partition_index
                    && (source.topic_id == topic.topic_id
                        || (topic.topic_id == Uuid::nil()
                            && tp.topic.as_ref() == topic.topic.0.as_str()))
            });
            if let Some((tp, source)) = asked {
                outcomes.push((tp.clone(), read_partition(source.position, partition)));
            }
        }
    }
    outcomes
}

fn read_partition(position: i64, partition: messages::fetch_response::PartitionData) -> Outcome {
    use ResponseError as E;
    match ResponseError::try_from_code(partition.error_code) {
        None => {}
        Some(E::OffsetOutOfRange) => return Outcome::OutOfRange,
        Some(
            error @ (E::NotLeaderOrFollower
            | E::LeaderNotAvailable
            | E::ReplicaNotAvailable
            | E::FencedLeaderEpoch
            | E::UnknownLeaderEpoch
            | E::UnknownTopicOrPartition
            | E::UnknownTopicId
            | E::InconsistentTopicId
            | E::KafkaStorageError),
        ) => return Outcome::FindLeader(error),
        Some(error @ E::OffsetNotAvailable) => return Outcome::Wait { error, pause: BRIEF_PAUSE },
        Some(error) => return Outcome::Wait { error, pause: ERROR_PAUSE },
    }
    let batches: Vec<_> = partition
        .records
        .map(|records| record_batch::batches(records).collect())
        .unwrap_or_default();
    let next_offset = batches
        .last()
        .map_or(position, |batch: &record_batch::RawBatch| batch.next_offset().max(position));
    let aborted = partition
        .aborted_transactions
        .unwrap_or_default()
        .into_iter()
        .map(|transaction| (transaction.producer_id.0, transaction.first_offset))
        .collect();
    Outcome::Batches(FetchedBatches {
        batches,
        aborted,
        next_offset,
        last_stable_offset: partition.last_stable_offset,
        high_watermark: partition.high_watermark,
        log_start_offset: partition.log_start_offset,
    })
}
