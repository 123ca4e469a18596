//! Reads partitions: a few long-polling connections per broker, batches handed on as they came.
//!
//! A partition is added with the offset to start at and a bounded channel; its batches arrive there in offset order.
//! A partition whose channel is full is left out of the next request and holds back nobody else. The position advances
//! only past batches that were handed on, so an interrupted request loses nothing.
//!
//! Whatever is handed on was verified (`kafka_core::record_batch::Answer`); damage is handed on as what it is once a
//! second fetch has brought the same bytes.
//!
//! Reading is `read_committed`: the broker answers up to the last stable offset and names the transactions that were
//! aborted; filtering them is the receiver's (`kafka_core::record_batch::AbortedTransactions`).
//!
//! Fetch: <https://kafka.apache.org/protocol#The_Messages_Fetch>, topic ids in it: KIP-516.

mod broker;
mod glimpse;
mod request;
mod response;
mod trouble;

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
pub use glimpse::glimpse;
use trouble::Place;

/// Pause before leaders are looked up again, at first and at most.
const METADATA_BACKOFF: Backoff = Backoff::new(METADATA_PAUSE, Duration::from_secs(1));
const METADATA_PAUSE: Duration = Duration::from_millis(50);
/// Pause before a partition is asked for again after the leader denied its leadership, first and at most. Metadata may
/// lag behind an election.
const DENIAL_BACKOFF: Backoff = Backoff::new(DENIAL_PAUSE_MIN, DENIAL_PAUSE_MAX);
const DENIAL_PAUSE_MIN: Duration = Duration::from_millis(50);
const DENIAL_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Reports of one failure, at most one in five seconds.
const REPORTS: ReportLimit = ReportLimit::every(Duration::from_secs(5));

/// Is told of every fetch: how long it took, the broker's waiting included, and why it failed if it did.
#[derive(Clone)]
pub struct OnFetch(Arc<Told>);

type Told = dyn Fn(Duration, Option<&ClientError>) + Send + Sync;

impl OnFetch {
    /// Has `told` called after every fetch. It must not block.
    pub fn new(told: impl Fn(Duration, Option<&ClientError>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
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
    /// How long the broker holds back an answer while there is nothing new.
    pub wait_max: Duration,
    /// Who is told of fetches.
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

/// What arrives for one partition.
#[derive(Debug)]
pub enum Fetched {
    /// The next batches of the log.
    Batches(FetchedBatches),
    /// The position is outside the log; nothing more arrives until the partition is added again.
    OutOfRange {
        /// The offset that was asked for.
        position: i64,
    },
    /// The topic was deleted and created again; nothing more arrives until the partition is added again.
    Recreated {
        /// The id of the topic that bears the name by now.
        topic_id: Uuid,
    },
}

/// Batches of one partition in offset order, and where the log ended when they were read.
#[derive(Debug)]
pub struct FetchedBatches {
    /// The batches as stored: compressed, control batches and aborted ones included. The first may begin below the
    /// position that was asked for. Empty when only the ends have news.
    pub batches: Vec<RawBatch>,
    /// The damaged batch that follows them: its bytes have come twice.
    pub damaged: Option<DamagedBatch>,
    /// Transactions aborted within these batches, as `(producer id, first offset)`.
    pub aborted: Vec<(i64, i64)>,
    /// The offset that reading goes on with.
    pub next_offset: i64,
    /// The end of what can be read: no transaction below it is open.
    pub last_stable_offset: i64,
    /// The end of the log; larger than `last_stable_offset` while a transaction is open.
    pub high_watermark: i64,
    /// The first offset that is still in the log.
    pub log_start_offset: i64,
}

/// Where one partition's reading stands.
#[derive(Debug)]
struct Source {
    topic_id: Uuid,
    place: Place,
    /// Tells two additions of the same partition apart.
    addition: u64,
    leader: Option<NodeId>,
    sender: mpsc::Sender<Fetched>,
    /// The ends that were last handed on, to hand on news of them without batches once.
    ends: Option<(i64, i64)>,
    /// Waits for the partition to be added again.
    halted: bool,
    /// Not fetched before then, after an error that time may heal.
    not_before: Option<Instant>,
    /// How long a leader that denied its leadership is left alone if metadata name it again.
    denials: Backoff,
    report: ReportLimit,
}

impl Source {
    /// Begins at `position`, without a leader.
    fn new(topic_id: Uuid, position: i64, addition: u64, sender: mpsc::Sender<Fetched>) -> Self {
        Self {
            topic_id,
            place: Place::new(position),
            addition,
            leader: None,
            sender,
            ends: None,
            halted: false,
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
    /// The offset that is asked for: the position, or a lower one.
    asked: i64,
    /// The most bytes that are asked for.
    room: i32,
    /// How long the broker may look for data, where the usual time was not enough.
    wait: Option<Duration>,
    /// Whether the broker is able to find the position in its log.
    is_findable: bool,
    /// Whether it has to be the first of the request.
    is_urgent: bool,
    addition: u64,
}

#[derive(Debug, Default)]
struct Shared {
    sources: Mutex<BTreeMap<TopicPartition, Source>>,
    /// A partition was added, removed, given a leader, or has room again.
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

    /// Reads `tp` from `position` on into `sender`, instead of from wherever it was read before. The topic has to have
    /// the id `topic_id`; another one is reported as [`Fetched::Recreated`].
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

    /// Reads `tp` no longer. Batches already in its channel stay there.
    pub fn remove(&mut self, tp: &TopicPartition) {
        self.shared.sources().remove(tp);
    }
}

/// Finds leaders for partitions that have none and runs one task per broker that leads any.
async fn supervise(cluster: Cluster, config: ReaderConfig, shared: Arc<Shared>) {
    let mut brokers: BTreeMap<NodeId, tokio::task::AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut backoff = METADATA_BACKOFF;
    let mut report = REPORTS;
    loop {
        let topics: BTreeSet<Arc<str>> = shared
            .sources()
            .iter()
            .filter(|(_, source)| source.leader.is_none() && !source.halted)
            .map(|(tp, _)| Arc::clone(&tp.topic))
            .collect();
        if topics.is_empty() {
            backoff.reset();
            shared.leaderless.notified().await;
            continue;
        }
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        match cluster.describe(&names).await {
            Ok(described) => place(&shared, &described),
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
        // Partitions without a leader are asked for again, less and less often. Those whose leader denies it come back
        // after pauses of their own, which many partitions must not add up to a flood of requests.
        let is_waiting =
            shared.sources().values().any(|source| source.leader.is_none() && !source.halted);
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

/// Gives every partition of the topics that were described its leader; reports topics that are not the ones they were.
fn place(shared: &Shared, described: &BTreeMap<String, Result<TopicMetadata, ResponseError>>) {
    for (tp, source) in shared.sources().iter_mut() {
        let Some(Ok(topic)) = described.get(tp.topic.as_ref()) else { continue };
        if topic.topic_id != source.topic_id && !source.halted {
            source.leader = None;
            // While the channel is full, the next look at the metadata finds the topic again.
            let fetched = Fetched::Recreated { topic_id: topic.topic_id };
            source.halted = source.sender.try_send(fetched).is_ok();
        } else if source.leader.is_none() {
            source.leader = topic.leaders.get(&tp.partition).copied().flatten();
        }
    }
}

#[cfg(test)]
mod tests;
