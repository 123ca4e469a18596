//! The outcome of a Fetch response for each requested partition.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_core::TopicPartition;
use kafka_core::record_batch::{FetchedPartition, VerifiedBatches};
use kafka_protocol::ResponseError;

use super::config::ReaderConfig;
use super::damage::AnswerContext;
use super::fetched::FetchedBatches;
use super::request::Wanted;
use crate::fetch::{FetchAnswer, PartitionAnswer, TopicRef};

/// Pause after an error that only time or an operator can heal.
pub(super) const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// Pause after an error that passes by itself within moments.
const SHORT_PAUSE: Duration = Duration::from_millis(100);

/// What the reader does about one partition of a response.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Deliver the batches and the log's ends.
    Read(Read),
    /// The broker cannot find the offset in its own log.
    Unreadable(ResponseError),
    /// The position is outside the log.
    OutOfRange,
    /// Another broker leads the partition, or its topic is gone.
    FindLeader(ResponseError),
    /// Fetch again after a pause.
    Wait {
        /// Kafka's error code.
        error: ResponseError,
        /// How long to wait.
        pause: Duration,
    },
}

/// The batches of one partition, and where its log ends.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) reading: VerifiedBatches,
    pub(super) found: AnswerContext,
    pub(super) aborted: Vec<(i64, i64)>,
    pub(super) high_watermark: i64,
    pub(super) log_start_offset: i64,
}

impl Read {
    /// Returns what is delivered.
    pub(super) fn into_fetched(self) -> FetchedBatches {
        let Self { reading, found, aborted, high_watermark, log_start_offset } = self;
        FetchedBatches {
            batches: reading.batches,
            damaged: reading.damaged,
            aborted,
            next_offset: reading.next_offset,
            last_stable_offset: found.end,
            high_watermark,
            log_start_offset,
        }
    }
}

/// The request of a response.
pub(super) struct Asked<'a> {
    pub(super) wanted: &'a BTreeMap<TopicPartition, Wanted>,
    /// The first partition of the request.
    pub(super) first: Option<&'a TopicPartition>,
    /// How long the broker was allowed to look for data.
    pub(super) wait: Duration,
}

/// Returns the outcome of each requested partition; others are left out.
pub(super) fn read(
    asked: &Asked<'_>,
    config: &ReaderConfig,
    response: FetchAnswer,
) -> Vec<(TopicPartition, Outcome)> {
    let wanted = asked.wanted;
    if let Some(error) = ResponseError::try_from_code(response.error_code) {
        let wait = |tp: &TopicPartition| (tp.clone(), Outcome::Wait { error, pause: ERROR_PAUSE });
        return wanted.keys().map(wait).collect();
    }
    let bytes: usize = response.partitions.iter().map(|answer| answer.records.len()).sum();
    let is_full = is_at_least(bytes, config.response_bytes_max);
    let mut outcomes = Vec::new();
    for partition in response.partitions {
        let found = wanted.iter().find(|(tp, source)| {
            tp.partition == partition.partition
                && match &partition.topic {
                    TopicRef::Id(topic_id) => *topic_id == source.topic_id,
                    TopicRef::Name(name) => *name == tp.topic,
                }
        });
        if let Some((tp, source)) = found {
            let found = AnswerContext {
                room: source.room,
                bytes: 0,
                is_full,
                was_first: asked.first == Some(tp),
                wait: asked.wait,
                end: partition.last_stable_offset,
            };
            outcomes.push((tp.clone(), read_partition(source, partition, found)));
        }
    }
    outcomes
}

fn read_partition(source: &Wanted, partition: PartitionAnswer, found: AnswerContext) -> Outcome {
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
        Some(error @ (E::CorruptMessage | E::InvalidRecord | E::UnknownServerError)) => {
            return Outcome::Unreadable(error);
        }
        Some(error @ E::OffsetNotAvailable) => return Outcome::Wait { error, pause: SHORT_PAUSE },
        Some(error) => return Outcome::Wait { error, pause: ERROR_PAUSE },
    }
    let (records, aborted) = (partition.records, partition.aborted);
    let found = AnswerContext {
        bytes: records.len(),
        is_full: found.is_full || is_at_least(records.len(), source.room),
        ..found
    };
    let is_own = found.was_first && source.asked == source.position;
    let answer = FetchedPartition {
        records,
        asked: source.asked,
        position: source.position,
        end: found.end,
        is_full: found.is_full,
        may_be_cut_off: source.is_findable && !is_own,
        aborted: &aborted,
    };
    let reading = answer.read();
    Outcome::Read(Read {
        reading,
        found,
        aborted,
        high_watermark: partition.high_watermark,
        log_start_offset: partition.log_start_offset,
    })
}

fn is_at_least(bytes: usize, room: i32) -> bool {
    usize::try_from(room).is_ok_and(|room| room <= bytes)
}
