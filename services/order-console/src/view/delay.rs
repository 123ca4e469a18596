//! How long the next record of a partition has waited.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::reader::peek;
use kafka_core::TopicPartition;
use tokio::time::Instant;

use crate::dlq::reading::Chunk;
use crate::group_snapshot::GroupSnapshot;

/// The least time between two reads of a partition's next record: each reads a whole batch.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Most bytes of a read, unless the first batch alone is larger.
const LOOK_BYTES_MAX: i32 = 16 * 1024;

/// The timestamps of the records at the committed offsets.
#[derive(Debug, Default)]
pub(super) struct Delays {
    next: BTreeMap<TopicPartition, Next>,
}

#[derive(Debug)]
struct Next {
    offset: i64,
    timestamp_ms: Option<i64>,
    looked: Instant,
}

impl Delays {
    /// Reads the next record of each partition that has lag. Where that fails, its delay is unknown.
    pub(super) async fn look(&mut self, cluster: &Cluster, reading: &GroupSnapshot) {
        let is_behind = |tp: &TopicPartition| reading.lag(tp).is_some_and(|lag| lag > 0);
        self.next.retain(|tp, _| is_behind(tp));
        for (tp, topic, offset) in
            reading.log_ends.keys().filter(|tp| is_behind(tp)).filter_map(|tp| {
                Some((tp, reading.topics.get(tp.topic.as_ref())?, reading.position(tp)?))
            })
        {
            // A read that failed is tried again: the offset may never change.
            let is_known = self.next.get(tp).is_some_and(|next| {
                next.looked.elapsed() < LOOK_PAUSE
                    || (next.offset == offset && next.timestamp_ms.is_some())
            });
            if !is_known {
                let timestamp_ms = timestamp(cluster, tp, topic, offset).await;
                let next = Next { offset, timestamp_ms, looked: Instant::now() };
                self.next.insert(tp.clone(), next);
            }
        }
    }

    /// Returns the age of the next record of a partition in seconds: 0 without lag, `None` where it is unknown.
    pub(super) fn seconds(
        &self,
        tp: &TopicPartition,
        lag: Option<i64>,
        now_ms: i64,
    ) -> Option<f64> {
        if lag? == 0 {
            return Some(0.0);
        }
        let timestamp_ms = self.next.get(tp)?.timestamp_ms?;
        let waited_ms = u32::try_from((now_ms - timestamp_ms).max(0)).unwrap_or(u32::MAX);
        Some(f64::from(waited_ms) / 1_000.0)
    }
}

async fn timestamp(
    cluster: &Cluster,
    tp: &TopicPartition,
    topic: &TopicMetadata,
    offset: i64,
) -> Option<i64> {
    match peek(cluster, tp, topic, offset, LOOK_BYTES_MAX).await {
        Ok(fetched) => {
            let chunk = Chunk::open(tp.partition, fetched, offset..i64::MAX);
            chunk.records().next().map(|record| record.timestamp_ms)
        }
        Err(error) => {
            tracing::debug!(partition = %tp, offset, %error, "cannot read the next record");
            None
        }
    }
}
