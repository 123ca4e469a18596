//! How long the next record of a partition has waited.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::reader::{FetchedBatches, peek};
use kafka_core::TopicPartition;
use kafka_core::record_batch::AbortedTransactions;
use tokio::time::Instant;

use crate::group_snapshot::GroupSnapshot;

/// The least time between two looks at a partition's next record: each reads a whole batch.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Most bytes of a look, unless the first batch alone is larger.
const LOOK_BYTES_MAX: i32 = 16 * 1024;
/// Most bytes that one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The timestamps of the records that the group comes to next.
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
    /// Looks at the next record of each partition that is behind. Where that does not succeed, nothing is known of it.
    pub(super) async fn look(&mut self, cluster: &Cluster, reading: &GroupSnapshot) {
        let is_behind = |tp: &TopicPartition| reading.lag(tp).is_some_and(|lag| lag > 0);
        self.next.retain(|tp, _| is_behind(tp));
        for (tp, topic, offset) in
            reading.log_ends.keys().filter(|tp| is_behind(tp)).filter_map(|tp| {
                Some((tp, reading.topics.get(tp.topic.as_ref())?, reading.position(tp)?))
            })
        {
            // What could not be seen is looked for again: nothing else may ever change it.
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

    /// Returns for how many seconds the next record of a partition has been there: none where nothing waits, `None` where
    /// it is not known.
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
        Ok(fetched) => first_timestamp(fetched, offset),
        Err(error) => {
            tracing::debug!(partition = %tp, offset, %error, "cannot look at the next record");
            None
        }
    }
}

fn first_timestamp(fetched: FetchedBatches, offset: i64) -> Option<i64> {
    let mut aborted = AbortedTransactions::new(fetched.aborted);
    for raw in &fetched.batches {
        let Ok(batch) = raw.open(UNPACKED_BYTES_MAX) else { continue };
        if batch.header().is_control() || !aborted.delivers(&batch) {
            continue;
        }
        if let Some(record) = batch.records_from(offset).flatten().next() {
            return Some(record.timestamp_ms);
        }
    }
    None
}
