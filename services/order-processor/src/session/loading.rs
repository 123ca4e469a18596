//! Finds out where newly assigned partitions go on: their committed offset and checkpoint, their topic's id, their ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::error::{ClientError, PartitionError, chain};
use kafka_client::offsets::{CommittedOffset, Found, GroupOffsets, OffsetAt, list_offsets};
use kafka_group::TopicPartition;
use kafka_protocol::ResponseError;
use tokio::time::sleep;
use uuid::Uuid;

use crate::checkpoint::Capacity;
use crate::checkpoint::PartitionState;
use crate::settings::{OffsetReset, OnMismatch, ProcessorSettings};
use crate::start::{self, Policy};

/// Pause before the cluster is asked again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Partitions to load.
#[derive(Debug)]
pub(super) struct Load {
    /// The partitions with the epochs of their assignments.
    pub(super) partitions: BTreeMap<TopicPartition, u64>,
    /// How long to wait before.
    pub(super) pause: Duration,
}

/// What became of a load.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) loaded: Vec<Loaded>,
    /// Why the others could not be loaded.
    pub(super) failed: BTreeMap<TopicPartition, String>,
    /// The load of those.
    pub(super) again: Load,
}

/// A partition that is ready to be worked on.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) tp: TopicPartition,
    pub(super) epoch: u64,
    pub(super) topic_id: Uuid,
    /// Where reading begins.
    pub(super) position: i64,
    pub(super) state: PartitionState,
    /// Whether where it begins is not committed yet.
    pub(super) commit_at_once: bool,
    /// The end of what can be read.
    pub(super) log_end: i64,
    /// Whether there were numbers that could not be gone on with.
    pub(super) is_reset: bool,
    /// How many offsets are gone that were not processed.
    pub(super) skipped: u64,
}

/// Loads partitions.
#[derive(Clone, Debug)]
pub(super) struct Loader {
    cluster: Cluster,
    group_id: String,
    replay_topic: String,
    offset_reset: OffsetReset,
    on_mismatch: OnMismatch,
    capacity: Capacity,
    /// How many partitions each topic had when this process started: later ones are read from their beginning.
    partitions_at_start: BTreeMap<String, i32>,
}

/// What the cluster says about the partitions to load.
struct Survey {
    topics: BTreeMap<String, TopicMetadata>,
    committed: Found<Option<CommittedOffset>>,
    log_starts: Found<i64>,
    log_ends: Found<i64>,
}

impl Loader {
    pub(super) fn new(
        cluster: Cluster,
        settings: &ProcessorSettings,
        partitions_at_start: BTreeMap<String, i32>,
    ) -> Self {
        Self {
            cluster,
            group_id: settings.group.group_id.clone(),
            replay_topic: settings.replay_topic(),
            offset_reset: settings.commit.offset_reset,
            on_mismatch: settings.commit.on_mismatch,
            capacity: settings.commit.capacity,
            partitions_at_start,
        }
    }

    /// Loads those partitions of which the cluster tells everything that is needed.
    ///
    /// # Errors
    /// When waiting does not help: the cluster refuses the group, or a checkpoint cannot be read.
    pub(super) async fn load(self, load: Load) -> anyhow::Result<Outcome> {
        let Load { partitions, pause } = load;
        sleep(pause).await;
        let asked: Vec<TopicPartition> = partitions.keys().cloned().collect();
        let again_in = (pause * 2).clamp(BACKOFF.0, BACKOFF.1);
        let again = Load { partitions: BTreeMap::new(), pause: again_in };
        let mut outcome = Outcome { loaded: Vec::new(), failed: BTreeMap::new(), again };
        let survey = match self.survey(&asked).await {
            Ok(survey) => Ok(survey),
            Err(error) if error.is_retriable() => Err(chain(&error)),
            Err(error) => return Err(anyhow::Error::new(error).context("find out where to go on")),
        };
        for (tp, epoch) in partitions {
            let found = survey.as_ref().map_err(String::clone);
            match found.and_then(|survey| survey.of(&tp).map_err(|error| chain(&error))) {
                Ok(found) => outcome.loaded.push(self.resolve(tp, epoch, &found)?),
                Err(reason) => {
                    outcome.failed.insert(tp.clone(), reason);
                    outcome.again.partitions.insert(tp, epoch);
                }
            }
        }
        Ok(outcome)
    }

    fn resolve(
        &self,
        tp: TopicPartition,
        epoch: u64,
        found: &start::Found<'_>,
    ) -> anyhow::Result<Loaded> {
        let is_new = self
            .partitions_at_start
            .get(tp.topic.as_ref())
            .is_some_and(|count| tp.partition >= *count);
        // Nobody but this group's operators writes to the replay topic, and all of it is meant for this group.
        let is_replay = tp.topic.as_ref() == self.replay_topic;
        let reads_everything = match self.offset_reset {
            OffsetReset::Earliest => true,
            OffsetReset::Latest => is_new || is_replay,
            OffsetReset::None => is_replay,
        };
        let policy = Policy {
            offset_reset: if reads_everything { OffsetReset::Earliest } else { self.offset_reset },
            on_mismatch: self.on_mismatch,
            capacity: self.capacity,
        };
        let start = start::resolve(found, &policy).with_context(|| format!("start {tp}"))?;
        if let Some(remark) = &start.remark {
            tracing::warn!(topic = %tp.topic, partition = tp.partition, offset = start.position, "{remark}");
        }
        Ok(Loaded {
            tp,
            epoch,
            topic_id: found.topic_id,
            position: start.position,
            state: start.state,
            commit_at_once: start.commit_at_once,
            log_end: found.log_end,
            is_reset: start.is_reset,
            skipped: start.skipped,
        })
    }

    async fn survey(&self, partitions: &[TopicPartition]) -> Result<Survey, ClientError> {
        let topics: BTreeSet<&str> = partitions.iter().map(|tp| tp.topic.as_ref()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let mut offsets = GroupOffsets::new(self.cluster.clone(), self.group_id.clone());
        let (described, committed, log_starts, log_ends) = tokio::try_join!(
            self.cluster.describe(&topics),
            offsets.committed(partitions),
            list_offsets(&self.cluster, partitions, OffsetAt::Earliest),
            list_offsets(&self.cluster, partitions, OffsetAt::LastStable),
        )?;
        let topics = described.into_iter().filter_map(|(name, topic)| Some((name, topic.ok()?)));
        Ok(Survey { topics: topics.collect(), committed, log_starts, log_ends })
    }
}

impl Survey {
    /// Returns everything about one partition.
    fn of(&self, tp: &TopicPartition) -> Result<start::Found<'_>, PartitionError> {
        let log_start = *of(&self.log_starts, tp)?;
        let topic = self.topics.get(tp.topic.as_ref()).ok_or(UNKNOWN)?;
        Ok(start::Found {
            topic_id: topic.topic_id,
            committed: of(&self.committed, tp)?.as_ref(),
            log_start,
            log_end: *of(&self.log_ends, tp)?,
        })
    }
}

const UNKNOWN: PartitionError = PartitionError::Refused(ResponseError::UnknownTopicOrPartition);

fn of<'a, T>(found: &'a Found<T>, tp: &TopicPartition) -> Result<&'a T, PartitionError> {
    found.get(tp).ok_or(UNKNOWN)?.as_ref().map_err(PartitionError::clone)
}
