//! Reads partitions over a few long-polling connections to each broker and delivers batches as they are stored.
//!
//! A partition is added with the offset to start at and a bounded channel; its batches arrive there in offset order.
//! The reader leaves a partition with a full channel out of the next request, so it delays no other partition. The
//! position advances only past delivered batches, so an interrupted request loses nothing.
//!
//! Every delivered batch was verified (`kafka_core::record_batch::FetchedPartition`). A damaged batch is delivered as
//! damaged after a second fetch has returned the same bytes.
//!
//! Reading is `read_committed`: the broker answers up to the last stable offset and lists aborted
//! transactions; the receiver filters them (`kafka_core::record_batch::AbortedTransactions`).
//!
//! Fetch: <https://kafka.apache.org/protocol#The_Messages_Fetch>, topic ids in it: KIP-516.

mod broker;
mod config;
mod damage;
mod fetched;
mod peek;
mod request;
mod response;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use pacing::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use self::sources::{DENIAL_PAUSE_MIN, REPORTS, Shared, Source};
use crate::cluster::{Cluster, TopicMetadata};
use crate::error::chain;

pub use self::config::{OnFetch, ReaderConfig};
pub use self::fetched::{Fetched, FetchedBatches};
pub use self::peek::peek;

/// Pauses between lookups of leaders.
const METADATA_BACKOFF: Backoff = Backoff::new(METADATA_PAUSE, Duration::from_secs(1));
const METADATA_PAUSE: Duration = Duration::from_millis(50);

/// A running reader. Dropping it closes its connections.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    additions: u64,
    /// Owns the task that owns the per-broker tasks.
    _tasks: JoinSet<()>,
}

impl Reader {
    /// Starts a reader of nothing; must be called within a tokio runtime.
    pub fn start(cluster: Cluster, config: ReaderConfig) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(supervise(cluster, config, Arc::clone(&shared)));
        Self { shared, additions: 0, _tasks: tasks }
    }

    /// Reads `tp` from `position` into `sender`, and drops an earlier position. If the topic has another id than `topic_id`,
    /// the reader delivers [`Fetched::Recreated`].
    pub fn add(
        &mut self,
        tp: TopicPartition,
        topic_id: Uuid,
        position: i64,
        sender: mpsc::Sender<Fetched>,
    ) {
        self.additions += 1;
        let source = Source::new(topic_id, position, self.additions, sender);
        self.shared.sources().insert(tp, source);
        self.shared.leaderless.notify_one();
    }

    /// Stops reading `tp`. Batches in its channel stay there.
    pub fn remove(&mut self, tp: &TopicPartition) {
        self.shared.sources().remove(tp);
    }
}

/// Finds leaders for partitions without one and runs a task for each broker that leads partitions.
async fn supervise(cluster: Cluster, config: ReaderConfig, shared: Arc<Shared>) {
    let mut brokers: BTreeMap<NodeId, tokio::task::AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut backoff = METADATA_BACKOFF;
    let mut report = REPORTS;
    loop {
        let topics: BTreeSet<Arc<str>> = shared
            .sources()
            .iter()
            .filter(|(_, source)| source.leader.is_none() && !source.stopped)
            .map(|(tp, _)| Arc::clone(&tp.topic))
            .collect();
        if topics.is_empty() {
            backoff.reset();
            shared.leaderless.notified().await;
            continue;
        }
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        match cluster.describe(&names).await {
            Ok(described) => apply_metadata(&shared, &described),
            Err(error) => {
                if report.is_due() {
                    tracing::warn!(error = %chain(&error), "waiting for a broker to read from");
                }
            }
        }
        let leaders: BTreeSet<NodeId> =
            shared.sources().values().filter_map(|source| source.leader).collect();
        for leader in leaders {
            if brokers.get(&leader).is_none_or(tokio::task::AbortHandle::is_finished) {
                let task =
                    broker::read(leader, cluster.clone(), config.clone(), Arc::clone(&shared));
                brokers.insert(leader, tasks.spawn(task));
            }
        }
        shared.changed.notify_waiters();
        // Partitions without a leader are looked up again after growing pauses. Those whose leader denies leadership have
        // pauses of their own; many of them together must not flood the cluster with requests.
        let is_waiting =
            shared.sources().values().any(|source| source.leader.is_none() && !source.stopped);
        let is_denied =
            shared.sources().values().any(|source| source.denials.peek() > DENIAL_PAUSE_MIN);
        if is_waiting {
            backoff.wait().await;
        } else {
            backoff.reset();
            report.reset();
        }
        if is_denied {
            sleep(METADATA_PAUSE).await;
        }
        while tasks.try_join_next().is_some() {}
    }
}

/// Sets the leader of every partition of the described topics and delivers the recreation of topics.
fn apply_metadata(
    shared: &Shared,
    described: &BTreeMap<String, Result<TopicMetadata, ResponseError>>,
) {
    for (tp, source) in shared.sources().iter_mut() {
        let Some(Ok(topic)) = described.get(tp.topic.as_ref()) else { continue };
        if topic.topic_id != source.topic_id && !source.stopped {
            source.leader = None;
            // While the channel is full, the next metadata request repeats this.
            let fetched = Fetched::Recreated { topic_id: topic.topic_id };
            source.stopped = source.sender.try_send(fetched).is_ok();
        } else if source.leader.is_none() {
            source.leader =
                topic.leaders.get(&tp.partition).copied().flatten().map(|leader| leader.node);
        }
    }
}

#[cfg(test)]
mod tests;
