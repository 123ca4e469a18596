//! The offsets of a topic's logs at one moment.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Context as _;
use kafka_client::cluster::Cluster;
use kafka_client::offsets::{OffsetAt, all_of, list_offsets};
use kafka_client::retry::while_retriable;
use kafka_core::TopicPartition;
use uuid::Uuid;

/// A topic with the offsets of its partitions.
#[derive(Clone, Debug)]
pub(crate) struct TopicLog {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    /// By partition: from the log start to the last stable offset.
    pub(crate) ranges: BTreeMap<i32, Range<i64>>,
}

impl TopicLog {
    /// Describes a topic; `None` if there is none of that name.
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

    /// Describes a topic that has to exist; `hint` says what to check if it does not.
    pub(crate) async fn expect(cluster: &Cluster, name: &str, hint: &str) -> anyhow::Result<Self> {
        let log = Self::of(cluster, name).await?;
        log.with_context(|| format!("there is no topic {name}: {hint}"))
    }

    /// Returns where each partition ends.
    pub(crate) fn ends(&self) -> BTreeMap<i32, i64> {
        self.ranges.iter().map(|(partition, range)| (*partition, range.end)).collect()
    }

    /// Returns the topic with this range of a partition alone.
    pub(crate) fn only(self, partition: i32, range: Range<i64>) -> Self {
        Self { ranges: BTreeMap::from([(partition, range)]), ..self }
    }

    pub(crate) fn partition_count(&self) -> i32 {
        i32::try_from(self.ranges.len()).unwrap_or(i32::MAX)
    }
}
