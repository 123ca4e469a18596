//! The numbers of the whole group, as it has committed them.

use std::collections::BTreeMap;

use kafka_client::cluster::Cluster;
use kafka_client::offsets::GroupOffsets;
use kafka_group::TopicPartition;
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::checkpoint::{Capacity, PartitionState};
use crate::settings::ProcessorSettings;

/// Reads the committed numbers of every partition of the group's topics.
///
/// # Errors
/// When the cluster does not answer, or a checkpoint is of a version that is not understood.
pub(crate) async fn read(
    cluster: &Cluster,
    settings: &ProcessorSettings,
) -> anyhow::Result<BTreeMap<TopicPartition, Aggregate>> {
    let partitions = partitions(cluster, settings).await?;
    let names: Vec<TopicPartition> = partitions.keys().cloned().collect();
    let mut offsets = GroupOffsets::new(cluster.clone(), settings.group.group_id.clone());
    let committed = offsets.committed(&names).await?;
    let mut group = BTreeMap::new();
    for (tp, committed) in committed {
        let Some(topic_id) = partitions.get(&tp) else { continue };
        let restored = PartitionState::restore(
            &committed.metadata,
            *topic_id,
            committed.offset,
            Capacity::DEFAULT,
        )?;
        group.insert(tp, restored.state.aggregate().clone());
    }
    Ok(group)
}

/// Returns the partitions of the orders' and the replay topic with their topics' ids.
pub(crate) async fn partitions(
    cluster: &Cluster,
    settings: &ProcessorSettings,
) -> anyhow::Result<BTreeMap<TopicPartition, Uuid>> {
    let replay = settings.replay_topic();
    let described = cluster.metadata(&[&settings.topics.orders_topic, &replay]).await?;
    Ok(described
        .into_iter()
        .flat_map(|(name, topic)| {
            let indexes: Vec<i32> = topic.leaders.into_keys().collect();
            indexes
                .into_iter()
                .map(move |index| (TopicPartition::new(name.as_str(), index), topic.topic_id))
        })
        .collect())
}
