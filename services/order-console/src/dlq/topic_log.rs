//! What a topic's logs hold at one moment, asked with patience.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Context as _;
use kafka_client::cluster::Cluster;
use kafka_client::offsets::{OffsetAt, all_of, list_offsets};
use kafka_core::TopicPartition;
use uuid::Uuid;

use kafka_client::retry::while_retriable;

/// A topic's partitions with what can be read of each.
#[derive(Clone, Debug)]
pub(crate) struct TopicLog {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    /// From the first offset that is still there to the end of what is committed.
    pub(crate) ranges: BTreeMap<i32, Range<i64>>,
}

impl TopicLog {
    /// Looks at a topic; `None` if there is none of that name.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn of(cluster: &Cluster, name: &str) -> anyhow::Result<Option<Self>> {
        let names = [name];
        let described = while_retriable(|| cluster.metadata(&names))
            .await
            .with_context(|| format!("describe topic {name}"))?;
        let Some(topic) = described.get(name) else { return Ok(None) };
        let partitions = topic.partitions(name);
        let offsets = |at| {
            let partitions = &partitions;
            async move {
                while_retriable(|| async { all_of(list_offsets(cluster, partitions, at).await?) })
                    .await
                    .with_context(|| format!("read the offsets of {name}"))
            }
        };
        let starts = offsets(OffsetAt::Earliest).await?;
        let ends = offsets(OffsetAt::LastStable).await?;
        let range = |tp: &TopicPartition| {
            let start = starts.get(tp).copied().unwrap_or(0);
            start..ends.get(tp).copied().unwrap_or(start)
        };
        let ranges = partitions.iter().map(|tp| (tp.partition, range(tp))).collect();
        Ok(Some(Self { name: name.to_owned(), id: topic.topic_id, ranges }))
    }

    /// Looks at a topic that has to be there; `hint` says what to do if it is not.
    ///
    /// # Errors
    /// When the cluster does not answer, or has no such topic.
    pub(crate) async fn expect(cluster: &Cluster, name: &str, hint: &str) -> anyhow::Result<Self> {
        let log = Self::of(cluster, name).await?;
        log.with_context(|| format!("there is no topic {name}: {hint}"))
    }

    /// Returns how many partitions the topic has.
    pub(crate) fn partition_count(&self) -> i32 {
        i32::try_from(self.ranges.len()).unwrap_or(i32::MAX)
    }
}
