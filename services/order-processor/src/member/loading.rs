//! Loads newly assigned partitions: their committed offset and checkpoint, their topic's id, the ends of their logs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::error::{ClientError, PartitionError, chain};
use kafka_client::offsets::{
    CommittedOffset, Comparison, Found, GroupOffsets, OffsetAt, all_of, compare, list_offsets,
};
use kafka_core::TopicPartition;
use kafka_protocol::ResponseError;
use order_ledger::checkpoint::Capacity;
use order_ledger::resume::{
    self, Committed, Divergence, OffsetReset, OnMismatch, ResumeError, ResumePoint, ResumePolicy,
};
use tokio::time::sleep;
use uuid::Uuid;

use crate::settings::ProcessorSettings;

/// Pause before the cluster is asked again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

#[derive(Debug)]
pub(super) struct Load {
    /// The partitions with the epochs of their assignments.
    pub(super) partitions: BTreeMap<TopicPartition, u64>,
    pub(super) pause: Duration,
    /// Ids of topics that were deleted while this process read them.
    pub(super) deleted_ids: BTreeSet<Uuid>,
    /// Partitions whose leader has found the position outside its log.
    pub(super) out_of_range: BTreeSet<TopicPartition>,
    pub(super) capacity: Capacity,
}

/// The result of a load.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) loaded: Vec<Loaded>,
    /// Partitions that could not be loaded, with the reason.
    pub(super) failed: BTreeMap<TopicPartition, String>,
    /// Partitions that wait for an operator's decision, with the reason.
    pub(super) stopped: BTreeMap<TopicPartition, String>,
    /// The next load of both.
    pub(super) again: Load,
}

/// A partition that is ready for a worker.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) tp: TopicPartition,
    pub(super) epoch: u64,
    pub(super) topic_id: Uuid,
    pub(super) resume: ResumePoint,
    /// The length of the checkpoint that it resumes from.
    pub(super) committed_chars: usize,
    pub(super) log_end: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Loader {
    cluster: Cluster,
    group_id: String,
    replay_topic: String,
    offset_reset: OffsetReset,
    on_mismatch: OnMismatch,
    /// How many partitions of each topic are older than the group; see [`older_than_group`].
    older_partitions: BTreeMap<String, i32>,
}

/// Returns how many partitions of a topic are older than the group, of the `count` that the topic has: none if the group
/// has a committed offset in any of them.
///
/// The others were added later, and hold no record that is older than the group. The process asks before it joins: once
/// members of a new group have committed, the group is no new one to members that ask later.
///
/// # Errors
/// A retriable [`ClientError`] while the cluster does not report it.
pub(crate) async fn older_than_group(
    cluster: &Cluster,
    group_id: &str,
    topic: &str,
    count: i32,
) -> Result<i32, ClientError> {
    let partitions: Vec<TopicPartition> =
        (0..count).map(|index| TopicPartition::new(topic, index)).collect();
    let mut offsets = GroupOffsets::new(cluster, group_id);
    let found = offsets.committed(&partitions).await?;
    if found.values().any(|committed| matches!(committed, Ok(Some(_)))) {
        return Ok(0);
    }
    all_of(found).map(|_none| count)
}

/// What the cluster reports about the partitions to load.
struct Survey {
    topics: BTreeMap<String, TopicMetadata>,
    committed: Found<Option<CommittedOffset>>,
    /// Up to where the commits cover the logs, and the leader epoch of the last record before that.
    covered: BTreeMap<TopicPartition, (i64, i32)>,
    /// Whether that is part of the logs.
    compared: Found<Comparison>,
    log_starts: Found<i64>,
    log_ends: Found<i64>,
}

impl Loader {
    pub(crate) fn new(
        cluster: Cluster,
        settings: &ProcessorSettings,
        older_partitions: BTreeMap<String, i32>,
    ) -> Self {
        Self {
            cluster,
            group_id: settings.group.group_id.clone(),
            replay_topic: settings.group_topics.replay.clone(),
            offset_reset: settings.commit.offset_reset,
            on_mismatch: settings.commit.on_mismatch,
            older_partitions,
        }
    }

    /// Loads the partitions about which the cluster reports everything that is needed.
    ///
    /// # Errors
    /// When waiting does not help: the cluster refuses the group, or the settings end the process.
    pub(super) async fn load(self, load: Load) -> anyhow::Result<Outcome> {
        let Load { partitions, pause, deleted_ids, out_of_range, capacity } = load;
        sleep(pause).await;
        let asked: Vec<TopicPartition> = partitions.keys().cloned().collect();
        let again_in = (pause * 2).clamp(BACKOFF.0, BACKOFF.1);
        let again = Load {
            partitions: BTreeMap::new(),
            pause: again_in,
            deleted_ids,
            out_of_range,
            capacity,
        };
        let mut outcome = Outcome {
            loaded: Vec::new(),
            failed: BTreeMap::new(),
            stopped: BTreeMap::new(),
            again,
        };
        let survey = match self.survey(&asked).await {
            Ok(survey) => Ok(survey),
            Err(error) if error.is_retriable() => Err(chain(&error)),
            Err(error) => return Err(anyhow::Error::new(error).context("read where to resume")),
        };
        for (tp, epoch) in partitions {
            let found = survey
                .as_ref()
                .map_err(String::clone)
                .and_then(|survey| survey.of(&tp, &outcome.again).map_err(|error| chain(&error)));
            match found.map(|found| self.resolve(&tp, epoch, &found, capacity)) {
                Ok(Ok(loaded)) => {
                    outcome.loaded.push(loaded);
                    continue;
                }
                Ok(Err(error)) if self.may_stop(&error) => {
                    outcome.stopped.insert(tp.clone(), chain(&error));
                }
                Ok(Err(error)) => {
                    return Err(anyhow::Error::new(error).context(format!("start {tp}")));
                }
                Err(reason) => drop(outcome.failed.insert(tp.clone(), reason)),
            }
            outcome.again.partitions.insert(tp, epoch);
        }
        Ok(outcome)
    }

    /// Returns whether a partition with this error waits for an operator instead of ending the process.
    fn may_stop(&self, error: &ResumeError) -> bool {
        match error {
            ResumeError::NoOffset | ResumeError::Truncated { .. } => false,
            ResumeError::Checkpoint { .. } | ResumeError::OtherTopic { .. } => {
                self.on_mismatch != OnMismatch::Fail
            }
        }
    }

    fn resolve(
        &self,
        tp: &TopicPartition,
        epoch: u64,
        found: &resume::PartitionInfo<'_>,
        capacity: Capacity,
    ) -> Result<Loaded, ResumeError> {
        let older = self.older_partitions.get(tp.topic.as_ref());
        let is_older = older.is_some_and(|count| tp.partition < *count);
        // All of the replay topic is meant for this group: only its operators write there.
        let is_replay = tp.topic.as_ref() == self.replay_topic;
        let keeps_policy = is_older && !is_replay;
        let policy = ResumePolicy {
            offset_reset: if keeps_policy { self.offset_reset } else { OffsetReset::Earliest },
            on_mismatch: self.on_mismatch,
            capacity,
        };
        let resume = resume::resolve(found, &policy)?;
        if let Some(truncated) = resume.truncated {
            tracing::error!(
                topic = %tp.topic, partition = tp.partition, offset = resume.position, truncated,
                "the log was truncated below the processed records: their numbers are kept, and are incomplete"
            );
        }
        if let Some(remark) = &resume.remark {
            tracing::warn!(topic = %tp.topic, partition = tp.partition, offset = resume.position, "{remark}");
        }
        Ok(Loaded {
            tp: tp.clone(),
            epoch,
            topic_id: found.topic_id,
            resume,
            committed_chars: found.committed.map_or(0, |committed| committed.metadata.len()),
            log_end: found.log_end,
        })
    }

    async fn survey(&self, partitions: &[TopicPartition]) -> Result<Survey, ClientError> {
        let topics: BTreeSet<&str> = partitions.iter().map(|tp| tp.topic.as_ref()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let mut offsets = GroupOffsets::new(&self.cluster, self.group_id.clone());
        let (described, committed, log_starts, log_ends) = tokio::try_join!(
            self.cluster.describe(&topics),
            offsets.committed(partitions),
            list_offsets(&self.cluster, partitions, OffsetAt::Earliest),
            list_offsets(&self.cluster, partitions, OffsetAt::LastStable),
        )?;
        let topics = described.into_iter().filter_map(|(name, topic)| Some((name, topic.ok()?)));
        let topics: BTreeMap<String, TopicMetadata> = topics.collect();
        let covered: BTreeMap<_, _> = committed
            .iter()
            .filter_map(|(tp, found)| {
                let committed = found.as_ref().ok()?.as_ref()?;
                let topic_id = topics.get(tp.topic.as_ref())?.topic_id;
                Some((tp.clone(), resume::covered(topic_id, as_ledger(committed))?))
            })
            .collect();
        let compared = compare(&self.cluster, &covered).await?;
        Ok(Survey { topics, committed, covered, compared, log_starts, log_ends })
    }
}

fn as_ledger(committed: &CommittedOffset) -> Committed<'_> {
    let CommittedOffset { offset, leader_epoch, metadata } = committed;
    Committed { offset: *offset, leader_epoch: *leader_epoch, metadata }
}

impl Survey {
    /// Returns everything about one partition.
    fn of<'a>(
        &'a self,
        tp: &TopicPartition,
        load: &'a Load,
    ) -> Result<resume::PartitionInfo<'a>, PartitionError> {
        let log_start = *of(&self.log_starts, tp)?;
        let committed = of(&self.committed, tp)?.as_ref();
        let topic = self.topics.get(tp.topic.as_ref()).ok_or(UNKNOWN)?;
        let log_end = *of(&self.log_ends, tp)?;
        let is_beyond = |committed: &CommittedOffset| {
            load.out_of_range.contains(tp) && log_end < committed.offset
        };
        let divergence = match self.divergence(tp)? {
            // Without leader epochs only the end of a log shows that it was truncated, when its leader says so twice.
            None if committed.is_some_and(is_beyond) => {
                Some(Divergence { offset: log_end, leader_epoch: None })
            }
            found => found,
        };
        Ok(resume::PartitionInfo {
            topic_id: topic.topic_id,
            committed: committed.map(as_ledger),
            deleted_ids: &load.deleted_ids,
            log_start,
            divergence,
            log_end,
        })
    }

    /// Returns where the log's history leaves that of the commit.
    fn divergence(&self, tp: &TopicPartition) -> Result<Option<Divergence>, PartitionError> {
        let Some((end, _)) = self.covered.get(tp) else { return Ok(None) };
        Ok(match of(&self.compared, tp)? {
            Comparison::Valid => None,
            Comparison::Diverges(common) => Some(Divergence {
                offset: common.end_offset.min(*end),
                leader_epoch: Some(common.epoch),
            }),
        })
    }
}

const UNKNOWN: PartitionError = PartitionError::Refused(ResponseError::UnknownTopicOrPartition);

fn of<'a, T>(found: &'a Found<T>, tp: &TopicPartition) -> Result<&'a T, PartitionError> {
    found.get(tp).ok_or(UNKNOWN)?.as_ref().map_err(PartitionError::clone)
}

#[cfg(test)]
mod tests {
    use kafka_client::config::BrokerConfig;

    use super::*;

    #[test]
    fn only_partitions_that_are_older_than_the_group_begin_where_the_setting_says() {
        for (offset_reset, older) in [
            (OffsetReset::Earliest, Some(10)),
            (OffsetReset::Latest, Some(20)),
            (OffsetReset::None, None),
        ] {
            let loader = loader(offset_reset, 2);
            let of_orders = [1, 2].map(|partition| begin(&loader, "orders", partition));
            assert_eq!(of_orders, [older, Some(10)]);
            let of_replay = begin(&loader, "replay", 0);
            assert_eq!(of_replay, Some(10), "all of it is meant for this group");
        }
    }

    #[test]
    fn a_group_that_is_not_new_to_the_topic_reads_all_of_a_partition_without_a_committed_offset() {
        for offset_reset in [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::None] {
            assert_eq!(begin(&loader(offset_reset, 0), "orders", 0), Some(10));
        }
    }

    /// Returns where a partition begins whose log has the offsets from 10 to 20.
    fn begin(loader: &Loader, topic: &str, partition: i32) -> Option<i64> {
        let found = resume::PartitionInfo {
            topic_id: Uuid::nil(),
            committed: None,
            deleted_ids: &BTreeSet::new(),
            log_start: 10,
            divergence: None,
            log_end: 20,
        };
        let resolved =
            loader.resolve(&TopicPartition::new(topic, partition), 1, &found, Capacity::DEFAULT);
        resolved.ok().map(|loaded| loaded.resume.position)
    }

    fn loader(offset_reset: OffsetReset, older: i32) -> Loader {
        Loader {
            cluster: Cluster::new(BrokerConfig::new(Vec::new(), "test")),
            group_id: "group".to_owned(),
            replay_topic: "replay".to_owned(),
            offset_reset,
            on_mismatch: OnMismatch::Stop,
            older_partitions: ["orders", "replay"].map(|name| (name.to_owned(), older)).into(),
        }
    }
}
