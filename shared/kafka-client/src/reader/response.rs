//! The outcome of a Fetch response for one partition.

use std::time::Duration;

use kafka_core::record_batch::{FetchedPartition, VerifiedBatches};
use kafka_protocol::ResponseError;

use super::FetchedBatches;
use super::damage::{AnswerContext, Place};
use super::session::Params;
use crate::fetch::{EpochEnd, PartitionAnswer};

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
    /// The log has another history than the reader.
    Diverges(EpochEnd),
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
        let epoch = reading.batches.last().map(|batch| batch.header().leader_epoch);
        FetchedBatches {
            batches: reading.batches,
            damaged: reading.damaged,
            aborted,
            next_offset: reading.next_offset,
            leader_epoch: epoch.filter(|epoch| *epoch >= 0),
            last_stable_offset: found.end,
            high_watermark,
            log_start_offset,
        }
    }
}

/// What the request of a response was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) params: Params,
    /// Whether the whole response had no room for more.
    pub(super) is_full: bool,
    /// Whether the partition was the first of the request.
    pub(super) was_first: bool,
    /// How long the broker was allowed to look for data.
    pub(super) wait: Duration,
}

/// Returns what to do about a partition that is read from `place`.
pub(super) fn read_partition(place: &Place, answer: PartitionAnswer, context: Context) -> Outcome {
    use ResponseError as E;
    match ResponseError::try_from_code(answer.error_code) {
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
    if let Some(end) = answer.diverging {
        return Outcome::Diverges(end);
    }
    let (records, aborted) = (answer.records, answer.aborted);
    let Params { offset, room, .. } = context.params;
    let is_full = context.is_full || usize::try_from(room).is_ok_and(|room| room <= records.len());
    let found = AnswerContext {
        room,
        bytes: records.len(),
        is_full,
        was_first: context.was_first,
        wait: context.wait,
        end: answer.last_stable_offset,
    };
    let is_own = context.was_first && offset == place.position;
    let partition = FetchedPartition {
        records,
        asked: offset,
        position: place.position,
        end: found.end,
        is_full,
        may_be_cut_off: place.is_findable() && !is_own,
        aborted: &aborted,
    };
    Outcome::Read(Read {
        reading: partition.read(),
        found,
        aborted,
        high_watermark: answer.high_watermark,
        log_start_offset: answer.log_start_offset,
    })
}
