//! A snapshot of the group: topics, committed offsets with their checkpoints, and where the logs begin and end.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, ensure};
use dead_letter::group_topics::EarlierTopicUsed;
use kafka_client::cluster::{Cluster, ExistingTopics, TopicMetadata, partitions};
use kafka_client::error::{ClientError, PartitionError, chain};
use kafka_client::offsets::{
    CommittedOffset, Found, GroupOffsets, OffsetAt, is_committed_in, list_offsets,
};
use kafka_client::retry::while_retriable;
use kafka_core::TopicPartition;
use order_ledger::checkpoint::PartitionState;
use order_ledger::resume::{Committed, read_committed};
use serde::Serialize;
use utoipa::ToSchema;

use crate::settings::ConsoleSettings;

/// The group's topics, offsets and checkpoints at one moment.
#[derive(Debug, Default)]
pub(crate) struct GroupSnapshot {
    /// The orders' and the replay topic.
    pub(crate) topics: BTreeMap<String, TopicMetadata>,
    /// `None` where the group has committed nothing.
    committed: BTreeMap<TopicPartition, Option<CommittedOffset>>,
    log_starts: BTreeMap<TopicPartition, i64>,
    pub(crate) log_ends: BTreeMap<TopicPartition, i64>,
    /// The checkpoints beside the committed offsets.
    pub(crate) states: BTreeMap<TopicPartition, PartitionState>,
    /// Why entries are missing in these maps.
    pub(crate) unavailable: Vec<Unavailable>,
}

/// A partition, or a whole topic, of which something is unknown, such as one without a leader or with an unusable
/// checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Unavailable {
    pub(crate) topic: String,
    /// Null for the whole topic.
    #[schema(minimum = 0)]
    pub(crate) partition: Option<i32>,
    pub(crate) reason: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "{}-{partition}: {}", self.topic, self.reason),
            None => write!(f, "{}: {}", self.topic, self.reason),
        }
    }
}

impl GroupSnapshot {
    /// Reads the cluster. An error about one partition hides nothing of the others.
    pub(crate) async fn read(
        cluster: &Cluster,
        settings: &ConsoleSettings,
        offsets: &mut GroupOffsets,
    ) -> Result<Self, ClientError> {
        let topics = [&settings.topics.orders_topic, &settings.group_topics.replay];
        let existing = cluster.existing(&topics.map(String::as_str)).await?;
        let asked = existing.partitions();
        let ExistingTopics { topics, refused } = existing;
        let (committed, log_starts, log_ends) = tokio::try_join!(
            offsets.committed(&asked),
            list_offsets(cluster, &asked, OffsetAt::Earliest),
            list_offsets(cluster, &asked, OffsetAt::LastStable),
        )?;
        let mut failed = BTreeMap::new();
        let committed = known(committed, &mut failed);
        let log_starts = known(log_starts, &mut failed);
        let log_ends = known(log_ends, &mut failed);
        let refused = refused.into_iter().map(|(topic, error)| Unavailable {
            topic,
            partition: None,
            reason: chain(&PartitionError::Refused(error)),
        });
        let mut unavailable: Vec<Unavailable> = refused.collect();
        let mut miss = |tp: &TopicPartition, reason: String| {
            let (topic, partition) = (tp.topic.to_string(), Some(tp.partition));
            unavailable.push(Unavailable { topic, partition, reason });
        };
        for (tp, error) in &failed {
            miss(tp, chain(error));
        }
        let mut states = BTreeMap::new();
        for (tp, committed) in &committed {
            let (Some(committed), Some(topic)) = (committed, topics.get(tp.topic.as_ref())) else {
                continue;
            };
            let CommittedOffset { offset, leader_epoch, metadata } = committed;
            let committed = Committed { offset: *offset, leader_epoch: *leader_epoch, metadata };
            match read_committed(topic.topic_id, committed) {
                Ok(state) => drop(states.insert(tp.clone(), state)),
                Err(error) => miss(tp, chain(&error)),
            }
        }
        Ok(Self { topics, committed, log_starts, log_ends, states, unavailable })
    }

    /// Returns the partitions of the topics that were described.
    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        partitions(&self.topics)
    }

    pub(crate) fn committed_offset(&self, tp: &TopicPartition) -> Option<i64> {
        Some(self.committed.get(tp)?.as_ref()?.offset)
    }

    /// Returns where the group resumes a partition: at its committed offset, or at the log start. `None` is unknown.
    pub(crate) fn position(&self, tp: &TopicPartition) -> Option<i64> {
        let log_start = *self.log_starts.get(tp)?;
        let committed = self.committed.get(tp)?.as_ref();
        Some(committed.map_or(log_start, |committed| committed.offset.max(log_start)))
    }

    /// Returns how many records of a partition are not committed. `None` is unknown.
    pub(crate) fn lag(&self, tp: &TopicPartition) -> Option<i64> {
        Some((self.log_ends.get(tp)? - self.position(tp)?).max(0))
    }

    /// Returns the sum of the lags that are known, and `None` where one of them is not.
    pub(crate) fn total_lag(&self) -> Option<i64> {
        let is_described = self.unavailable.iter().all(|missing| missing.partition.is_some());
        let lags = self.partitions().into_iter().map(|tp| self.lag(&tp));
        lags.sum::<Option<i64>>().filter(|_| is_described)
    }

    /// Returns whether a partition's numbers cover everything below the position that the log still holds, as far as is
    /// known.
    pub(crate) fn is_complete(&self, tp: &TopicPartition, state: Option<&PartitionState>) -> bool {
        let log_start = self.log_starts.get(tp).copied().unwrap_or(0);
        match (self.committed.get(tp), state) {
            (Some(None), _) => true,
            (Some(Some(_)), Some(state)) => state.since() <= log_start && state.truncated() == 0,
            // The checkpoint cannot be used, or is unknown.
            (Some(Some(_)), None) | (None, _) => false,
        }
    }
}

/// Refuses a command of a group whose replays are in a topic of an earlier release.
///
/// # Errors
/// [`EarlierTopicUsed`], or when the cluster does not answer.
pub(crate) async fn refuse_earlier_topics(
    cluster: &Cluster,
    settings: &ConsoleSettings,
) -> anyhow::Result<()> {
    let Some(earlier) = &settings.group_topics.earlier_replay else { return Ok(()) };
    let is_used =
        while_retriable(|| is_committed_in(cluster, &settings.group.group_id, earlier)).await;
    let is_used = is_used.context("check the group's topics of earlier releases")?;
    ensure!(!is_used, EarlierTopicUsed(earlier.clone()));
    Ok(())
}

/// Returns the known values, and adds the errors to `failed`.
fn known<T>(
    found: Found<T>,
    failed: &mut BTreeMap<TopicPartition, PartitionError>,
) -> BTreeMap<TopicPartition, T> {
    let known = |(tp, found)| match found {
        Ok(known) => Some((tp, known)),
        Err(error) => {
            failed.insert(tp, error);
            None
        }
    };
    found.into_iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use order_ledger::checkpoint::Capacity;
    use uuid::Uuid;

    use super::*;
    use kafka_client::cluster::Leader;

    #[test]
    fn unknown_values_of_a_partition_are_not_counted_as_zero() {
        let committed =
            |offset| Some(CommittedOffset { offset, leader_epoch: None, metadata: String::new() });
        let snapshot = GroupSnapshot {
            committed: [(tp(0), committed(5)), (tp(1), None), (tp(3), committed(5))].into(),
            log_starts: [(tp(0), 2), (tp(1), 2), (tp(2), 2)].into(),
            log_ends: [(tp(0), 9), (tp(1), 9), (tp(2), 9)].into(),
            ..GroupSnapshot::default()
        };
        let lags = [0, 1, 2, 3].map(|partition| snapshot.lag(&tp(partition)));
        assert_eq!(lags, [Some(4), Some(7), None, None], "no committed offset, no leader");
        let since = |offset| PartitionState::empty(Uuid::nil(), offset, Capacity::DEFAULT);
        let is_complete = |partition, state: Option<PartitionState>| {
            snapshot.is_complete(&tp(partition), state.as_ref())
        };
        assert!(is_complete(0, Some(since(2))) && is_complete(1, None));
        assert!(!is_complete(0, Some(since(3))) && !is_complete(2, None));
        assert!(is_complete(3, Some(since(0))) && !is_complete(3, Some(since(1))));
    }

    #[test]
    fn the_total_lag_is_known_only_if_that_of_every_partition_is() {
        let leaders = [(0, Some(Leader { node: 1, epoch: 0 })), (1, None)].into();
        let topic = TopicMetadata { topic_id: Uuid::nil(), leaders };
        let mut snapshot = GroupSnapshot {
            topics: [("orders".to_owned(), topic)].into(),
            committed: [(tp(0), None), (tp(1), None)].into(),
            log_starts: [(tp(0), 2), (tp(1), 2)].into(),
            log_ends: [(tp(0), 9)].into(),
            ..GroupSnapshot::default()
        };
        assert_eq!(snapshot.total_lag(), None);
        snapshot.log_ends.insert(tp(1), 3);
        assert_eq!(snapshot.total_lag(), Some(8));
        let (topic, reason) = ("orders.replay".to_owned(), String::new());
        snapshot.unavailable.push(Unavailable { topic, partition: None, reason });
        assert_eq!(snapshot.total_lag(), None);
    }

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }
}
