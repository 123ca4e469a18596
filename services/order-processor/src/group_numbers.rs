//! The numbers of the whole group, as it has committed them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::error::ClientError;
use kafka_client::offsets::{CommittedOffset, GroupOffsets, OffsetAt, list_offsets};
use kafka_group::TopicPartition;

use crate::aggregate::Aggregate;
use crate::checkpoint::{Capacity, PartitionState};
use crate::settings::ProcessorSettings;

/// What the cluster says about the group's topics.
pub(crate) struct Reading {
    /// The orders' and the replay topic.
    pub(crate) topics: BTreeMap<String, TopicMetadata>,
    pub(crate) committed: BTreeMap<TopicPartition, CommittedOffset>,
    pub(crate) log_starts: BTreeMap<TopicPartition, i64>,
    pub(crate) log_ends: BTreeMap<TopicPartition, i64>,
}

impl Reading {
    /// Reads it all.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn read(
        cluster: &Cluster,
        settings: &ProcessorSettings,
        offsets: &mut GroupOffsets,
    ) -> Result<Self, ClientError> {
        let topics = topics(cluster, settings).await?;
        let partitions = partitions(&topics);
        let (committed, log_starts, log_ends) = tokio::try_join!(
            offsets.committed(&partitions),
            list_offsets(cluster, &partitions, OffsetAt::Earliest),
            list_offsets(cluster, &partitions, OffsetAt::LastStable),
        )?;
        Ok(Self { topics, committed, log_starts, log_ends })
    }

    /// Returns the state that each partition's checkpoint holds.
    ///
    /// # Errors
    /// When a checkpoint is of a version that is not understood.
    pub(crate) fn states(&self) -> anyhow::Result<BTreeMap<TopicPartition, PartitionState>> {
        states(&self.topics, &self.committed)
    }

    /// Returns where the group goes on with a partition: what it has committed, or the log's start.
    pub(crate) fn position(&self, tp: &TopicPartition) -> i64 {
        let log_start = self.log_starts.get(tp).copied().unwrap_or(0);
        self.committed.get(tp).map_or(log_start, |committed| committed.offset.max(log_start))
    }

    /// Returns how many records of a partition are not committed.
    pub(crate) fn lag(&self, tp: &TopicPartition) -> i64 {
        let log_end = self.log_ends.get(tp).copied().unwrap_or(0);
        (log_end - self.position(tp)).max(0)
    }

    /// Returns whether a partition's numbers cover everything below the position that the log still holds.
    pub(crate) fn is_complete(&self, tp: &TopicPartition, state: Option<&PartitionState>) -> bool {
        let log_start = self.log_starts.get(tp).copied().unwrap_or(0);
        state.is_none_or(|state| state.since() <= log_start)
    }
}

/// Reads the committed numbers of every partition of the group's topics.
///
/// # Errors
/// When the cluster does not answer, or a checkpoint is of a version that is not understood.
pub(crate) async fn read(
    cluster: &Cluster,
    settings: &ProcessorSettings,
) -> anyhow::Result<BTreeMap<TopicPartition, Aggregate>> {
    let topics = topics(cluster, settings).await?;
    let mut offsets = GroupOffsets::new(cluster.clone(), settings.group.group_id.clone());
    let committed = offsets.committed(&partitions(&topics)).await?;
    let states = states(&topics, &committed)?;
    Ok(states.into_iter().map(|(tp, state)| (tp, state.aggregate().clone())).collect())
}

fn states(
    topics: &BTreeMap<String, TopicMetadata>,
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
) -> anyhow::Result<BTreeMap<TopicPartition, PartitionState>> {
    let mut states = BTreeMap::new();
    for (tp, committed) in committed {
        let Some(topic) = topics.get(tp.topic.as_ref()) else { continue };
        let CommittedOffset { offset, metadata } = committed;
        let restored =
            PartitionState::restore(metadata, topic.topic_id, *offset, Capacity::DEFAULT)
                .with_context(|| format!("read the checkpoint of {tp}"))?;
        states.insert(tp.clone(), restored.state);
    }
    Ok(states)
}

/// Describes the orders' and the replay topic.
async fn topics(
    cluster: &Cluster,
    settings: &ProcessorSettings,
) -> Result<BTreeMap<String, TopicMetadata>, ClientError> {
    let replay = settings.replay_topic();
    cluster.metadata(&[&settings.topics.orders_topic, &replay]).await
}

/// Returns all partitions of these topics.
pub(crate) fn partitions(topics: &BTreeMap<String, TopicMetadata>) -> Vec<TopicPartition> {
    topics
        .iter()
        .flat_map(|(name, topic)| {
            topic.leaders.keys().map(move |index| TopicPartition::new(name.as_str(), *index))
        })
        .collect()
}
