//! What a session and its workers share, and what they tell one another.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kafka_client::offsets::OffsetCommit;
use kafka_client::reader::Fetched;
use kafka_core::TopicPartition;
use order_ledger::checkpoint::PartitionState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::telemetry::partition_status::SharedStatus;

/// What a worker is given when it starts.
pub(crate) struct Assignment {
    pub(crate) tp: TopicPartition,
    /// Tells this assignment of the partition from earlier ones.
    pub(crate) epoch: u64,
    pub(crate) topic_id: Uuid,
    pub(crate) state: PartitionState,
    pub(crate) fetched: mpsc::Receiver<Fetched>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) notices: mpsc::Sender<Notice>,
    pub(crate) published: Arc<Published>,
    /// The last revision that no earlier commit can replace any more; `None` before the first commit.
    pub(crate) durable: watch::Receiver<Option<u64>>,
    pub(crate) status: SharedStatus,
}

/// What the session asks of a worker.
#[derive(Debug)]
pub(crate) enum Request {
    /// Answer with a checkpoint to commit.
    Checkpoint(oneshot::Sender<Snapshot>),
    /// Take nothing more in, let work in flight end until the deadline, answer with a checkpoint, and end.
    Drain(Drain),
}

/// A drain that the session has asked for.
#[derive(Debug)]
pub(crate) struct Drain {
    /// When the worker gives up work that is still in flight.
    pub(crate) deadline: Instant,
    pub(crate) answer: oneshot::Sender<Snapshot>,
}

/// A partition's state at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The state's revision; a commit of this snapshot makes all changes up to it durable.
    pub(crate) revision: u64,
    /// What to commit; `None` where the state does not fit, which leaves the last commit valid.
    pub(crate) commit: Option<OffsetCommit>,
}

/// What a worker tells its session on its own.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The replica is paused and the worker has no work in flight.
    Idle,
    /// Dead letters wait for a commit.
    LettersWait,
    /// The worker cannot read on from its position.
    Interrupted {
        tp: TopicPartition,
        /// The epoch of the assignment.
        epoch: u64,
        error: ReadError,
    },
}

/// Why a partition cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The position is below the log's start or beyond its end.
    OutOfRange {
        /// The offset that could not be read.
        position: i64,
    },
    /// The log was truncated below the position.
    Truncated {
        /// The offset that was to be read next.
        position: i64,
    },
    /// The topic was deleted and created again.
    Recreated {
        /// The id of the topic that has the name now.
        topic_id: Uuid,
    },
}

/// What a worker publishes for its session.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The state's revision, which tells the session whether there is anything to commit.
    pub(crate) revision: AtomicU64,
    /// The revision of the state that names the last doomed record; 0 without one.
    pub(crate) doomed: AtomicU64,
    /// The number of the pause since which the worker has had no work in flight.
    pub(crate) idle: AtomicU64,
}

/// A worker's side of what it shares with its session.
pub(super) struct SessionLink {
    /// The epoch of the assignment.
    pub(super) epoch: u64,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) published: Arc<Published>,
    pub(super) draining: Option<Drain>,
    /// Whether the worker ends after this step.
    pub(super) ended: bool,
}

impl SessionLink {
    /// Tells the session something that it also looks for by itself.
    pub(super) fn notify(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            tracing::trace!("the session's queue of notices is full");
        }
    }
}
