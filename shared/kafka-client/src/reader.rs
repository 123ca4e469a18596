//! Reads partitions over a few long-polling connections to each broker and delivers batches as they are stored.
//!
//! A partition is added with the offset to start at and a bounded channel; its batches arrive there in offset order.
//! The reader leaves a partition with a full channel out of the next request, so it delays no other partition. The
//! position advances only past delivered batches, so an interrupted request loses nothing.
//!
//! Every delivered batch was verified (`kafka_core::record_batch::FetchedPartition`). A damaged batch is delivered as
//! damaged after a second fetch has returned the same bytes.
//!
//! A position is fetched only under a leader epoch for which it is known to be part of the log. A log that was truncated
//! below it is delivered as [`Fetched::Truncated`].
//!
//! Reading is `read_committed`: the broker answers up to the last stable offset and lists aborted
//! transactions; the receiver filters them (`kafka_core::record_batch::AbortedTransactions`).
//!
//! Reading order: `session` and `lanes` decide what a request says and when it is sent, without IO. The `fetcher` drives
//! them, `source` has the state of a partition, `exchange` sends a request, and `response` reads its answer.
//!
//! Fetch: <https://kafka.apache.org/protocol#The_Messages_Fetch>, topic ids in it: KIP-516.

mod config;
mod damage;
mod exchange;
mod fetched;
mod fetcher;
mod lanes;
mod peek;
mod request;
mod response;
mod session;
mod source;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_core::TopicPartition;
use pacing::ReportLimit;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use uuid::Uuid;

use self::fetcher::Fetcher;
use self::source::Source;
use crate::cluster::Cluster;

pub use self::config::{OnFetch, ReaderConfig};
pub use self::fetched::{Fetched, FetchedBatches};
pub use self::peek::peek;

/// At most one log line about a failure in five seconds.
const REPORTS: ReportLimit = ReportLimit::every(Duration::from_secs(5));

/// What callers want of the reader.
#[derive(Debug, Default)]
struct Commands {
    /// The last command for each partition: to read it, or not to.
    given: Mutex<BTreeMap<TopicPartition, Command>>,
    changed: Notify,
}

type Command = Option<(Source, mpsc::Sender<Fetched>)>;

impl Commands {
    fn give(&self, tp: TopicPartition, command: Command) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(tp, command);
        self.changed.notify_one();
    }

    fn take(&self) -> BTreeMap<TopicPartition, Command> {
        std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn given(&self) {
        self.changed.notified().await;
    }
}

/// A running reader. Dropping it closes its connections.
#[derive(Debug)]
pub struct Reader {
    commands: Arc<Commands>,
    additions: u64,
    /// Owns the task.
    _task: JoinSet<()>,
}

impl Reader {
    /// Starts a reader of nothing; must be called within a tokio runtime.
    pub fn start(cluster: Cluster, config: ReaderConfig) -> Self {
        let commands = Arc::new(Commands::default());
        let mut task = JoinSet::new();
        task.spawn(Fetcher::new(cluster, config, Arc::clone(&commands)).run());
        Self { commands, additions: 0, _task: task }
    }

    /// Reads `tp` from `position` into `sender`, and drops an earlier position. `epoch` is the leader epoch of the last record
    /// before the position, if it is known. If the topic has another id than `topic_id`, the reader delivers
    /// [`Fetched::Recreated`]; the nil id stands for an unknown one.
    pub fn add(
        &mut self,
        tp: TopicPartition,
        topic_id: Uuid,
        position: i64,
        epoch: Option<i32>,
        sender: mpsc::Sender<Fetched>,
    ) {
        self.additions += 1;
        let source = Source::new(tp.clone(), topic_id, self.additions, position, epoch);
        self.commands.give(tp, Some((source, sender)));
    }

    /// Stops reading `tp`. Batches in its channel stay there.
    pub fn remove(&mut self, tp: &TopicPartition) {
        self.commands.give(tp.clone(), None);
    }
}

#[cfg(test)]
mod tests;
