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
mod damage;
mod peek;
mod request;
mod response;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_core::record_batch::{DamagedBatch, RawBatch};
use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use pacing::{Backoff, ReportLimit};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::cluster::{Cluster, TopicMetadata};
use crate::error::{ClientError, chain};
use damage::Place;
pub use peek::peek;

/// Pauses between lookups of leaders.
const METADATA_BACKOFF: Backoff = Backoff::new(METADATA_PAUSE, Duration::from_secs(1));
const METADATA_PAUSE: Duration = Duration::from_millis(50);
/// Pauses before a partition is fetched again after its leader has denied leadership: metadata may lag behind an election.
const DENIAL_BACKOFF: Backoff = Backoff::new(DENIAL_PAUSE_MIN, DENIAL_PAUSE_MAX);
const DENIAL_PAUSE_MIN: Duration = Duration::from_millis(50);
const DENIAL_PAUSE_MAX: Duration = Duration::from_secs(1);
/// At most one log line about a failure in five seconds.
const REPORTS: ReportLimit = ReportLimit::every(Duration::from_secs(5));

/// Observer of fetches: gets the duration of each, with the broker's wait, and its error if it failed.
#[derive(Clone)]
pub struct OnFetch(Arc<Observer>);

type Observer = dyn Fn(Duration, Option<&ClientError>) + Send + Sync;

impl OnFetch {
    /// Calls `observe` after every fetch. It must not block.
    pub fn new(observe: impl Fn(Duration, Option<&ClientError>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }
}

impl fmt::Debug for OnFetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnFetch").finish_non_exhaustive()
    }
}

/// How much is fetched at once, and how long a broker may wait for new records.
#[derive(Clone, Debug)]
pub struct ReaderConfig {
    /// Most bytes of one partition in one response, unless its first batch alone is larger.
    pub partition_bytes_max: i32,
    /// Most bytes of one response, unless the first batch alone is larger.
    pub response_bytes_max: i32,
    /// How long the broker waits for new records before it answers without any.
    pub wait_max: Duration,
    /// Observer of fetches.
    pub on_fetch: Option<OnFetch>,
}

impl Default for ReaderConfig {
    fn default() -> Self {
        Self {
            partition_bytes_max: 1024 * 1024,
            response_bytes_max: 4 * 1024 * 1024,
            wait_max: Duration::from_millis(500),
            on_fetch: None,
        }
    }
}

/// An event of one partition.
#[derive(Debug)]
pub enum Fetched {
    /// The next batches of the log.
    Batches(FetchedBatches),
    /// The position is outside the log. The reader delivers nothing more until the partition is added again.
    OutOfRange {
        /// The requested offset.
        position: i64,
    },
    /// The topic was deleted and created again. The reader delivers nothing more until the partition is added again.
    Recreated {
        /// The id of the topic that has the name at present.
        topic_id: Uuid,
    },
}

/// Batches of one partition in offset order, and where the log ended when they were read.
#[derive(Debug)]
pub struct FetchedBatches {
    /// The batches as stored: compressed, with control batches and aborted ones. The first may begin below the requested
    /// position. Empty if only the log's ends have changed.
    pub batches: Vec<RawBatch>,
    /// The damaged batch that follows them: two fetches returned the same bytes.
    pub damaged: Option<DamagedBatch>,
    /// Transactions aborted within these batches, as `(producer id, first offset)`.
    pub aborted: Vec<(i64, i64)>,
    /// The offset of the next fetch.
    pub next_offset: i64,
    /// The last stable offset: no transaction below it is open.
    pub last_stable_offset: i64,
    /// The end of the log; larger than `last_stable_offset` while a transaction is open.
    pub high_watermark: i64,
    /// The first offset that is still in the log.
    pub log_start_offset: i64,
}

/// The state of one partition.
#[derive(Debug)]
struct Source {
    topic_id: Uuid,
    place: Place,
    /// Distinguishes two additions of the same partition.
    addition: u64,
    leader: Option<NodeId>,
    sender: mpsc::Sender<Fetched>,
    /// The ends that were delivered last: a change without batches is delivered once.
    ends: Option<(i64, i64)>,
    /// Whether the partition has to be added again.
    stopped: bool,
    /// The earliest time of the next fetch, after a retriable error.
    not_before: Option<Instant>,
    /// Pauses after a leader has denied its leadership.
    denials: Backoff,
    report: ReportLimit,
}

impl Source {
    fn new(topic_id: Uuid, position: i64, addition: u64, sender: mpsc::Sender<Fetched>) -> Self {
        Self {
            topic_id,
            place: Place::new(position),
            addition,
            leader: None,
            sender,
            ends: None,
            stopped: false,
            not_before: None,
            denials: DENIAL_BACKOFF,
            report: REPORTS,
        }
    }
}

/// One partition of a request.
#[derive(Clone, Debug)]
struct Wanted {
    topic_id: Uuid,
    position: i64,
    /// The offset to fetch from: the position, or a lower one.
    asked: i64,
    /// `partition_max_bytes` of the request.
    room: i32,
    /// How long the broker may look for data, if the usual time was too short.
    wait: Option<Duration>,
    /// Whether the broker can find the position in its log.
    is_findable: bool,
    /// Whether it must be the first partition of the request.
    is_urgent: bool,
    addition: u64,
}

#[derive(Debug, Default)]
struct Shared {
    sources: Mutex<BTreeMap<TopicPartition, Source>>,
    /// A partition was added or removed, has a leader, or has room again.
    changed: Notify,
    /// A partition has no known leader.
    leaderless: Notify,
}

impl Shared {
    fn sources(&self) -> std::sync::MutexGuard<'_, BTreeMap<TopicPartition, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
            source.leader = topic.leaders.get(&tp.partition).copied().flatten();
        }
    }
}

#[cfg(test)]
mod tests;
