//! The numbers that the group has committed, for a member: those of partitions that other members have.

use std::collections::{BTreeMap, BTreeSet};

use kafka_client::cluster::Cluster;
use kafka_client::error::ClientError;
use kafka_client::offsets::{CommittedOffset, GroupOffsets};
use kafka_core::TopicPartition;
use order_ledger::aggregate::Aggregate;
use order_ledger::resume::{Committed, read_committed};

use crate::settings::ProcessorSettings;

/// The committed numbers of every partition of the group's topics.
pub(crate) struct GroupSnapshot {
    /// `None` is unknown for the moment. Partitions without a committed offset are absent.
    partitions: BTreeMap<TopicPartition, Option<Aggregate>>,
    /// Topics whose partitions are unknown for the moment.
    refused: BTreeSet<String>,
}

impl GroupSnapshot {
    /// Reads them.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn read(
        cluster: &Cluster,
        settings: &ProcessorSettings,
    ) -> Result<Self, ClientError> {
        let topics = [&settings.topics.orders_topic, &settings.group_topics.replay];
        let existing = cluster.existing(&topics.map(String::as_str)).await?;
        let mut offsets = GroupOffsets::new(cluster, settings.group.group_id.clone());
        let mut partitions = BTreeMap::new();
        for (tp, committed) in offsets.committed(&existing.partitions()).await? {
            let Some(topic) = existing.topics.get(tp.topic.as_ref()) else { continue };
            let numbers = match committed {
                Ok(None) => continue,
                Ok(Some(CommittedOffset { offset, leader_epoch, metadata })) => {
                    let committed = Committed { offset, leader_epoch, metadata: &metadata };
                    let state = read_committed(topic.topic_id, committed);
                    // One that cannot be used is no more known than one that was not answered.
                    state.ok().map(|state| state.aggregate().clone())
                }
                Err(_unknown) => None,
            };
            partitions.insert(tp, numbers);
        }
        Ok(Self { partitions, refused: existing.refused.into_keys().collect() })
    }

    /// Returns how many partitions there are.
    pub(crate) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Returns whether a partition may have other numbers than the ones that were read.
    pub(crate) fn is_unknown(&self, tp: &TopicPartition) -> bool {
        self.refused.contains(tp.topic.as_ref()) || matches!(self.partitions.get(tp), Some(None))
    }

    /// Returns the numbers that were read.
    pub(crate) fn into_known(self) -> impl Iterator<Item = (TopicPartition, Aggregate)> {
        self.partitions.into_iter().filter_map(|(tp, numbers)| Some((tp, numbers?)))
    }
}

#[cfg(test)]
impl GroupSnapshot {
    /// Returns numbers of partitions of a topic: known ones, and unknown ones.
    pub(crate) fn of(partitions: &[(i32, Option<Aggregate>)], topic: &str) -> Self {
        let tp = |partition: &i32| TopicPartition::new(topic, *partition);
        let partitions = partitions.iter().map(|(index, numbers)| (tp(index), numbers.clone()));
        Self { partitions: partitions.collect(), refused: BTreeSet::new() }
    }
}
