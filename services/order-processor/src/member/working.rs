//! The session's side of one partition with a worker.

use std::sync::Arc;
use std::sync::atomic::Ordering as Atomic;

use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::partition::{Published, Request};

/// One partition with a worker.
pub(super) struct Working {
    pub(super) epoch: u64,
    pub(super) topic_id: Uuid,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) published: Arc<Published>,
    /// The last revision that is committed; `None` before the first commit is due.
    pub(super) committed: Option<u64>,
    /// The last revision that no earlier commit can replace any more.
    pub(super) durable: watch::Sender<Option<u64>>,
}

impl Working {
    /// Returns whether the partition has a change to commit. Once no earlier commit can come, a commit that one may have
    /// replaced is made again.
    pub(super) fn is_dirty(&self, is_settled: bool) -> bool {
        Some(self.published.revision.load(Atomic::Relaxed)) > self.committed
            || (is_settled && *self.durable.borrow() < self.committed)
    }

    pub(super) fn letters_wait(&self) -> bool {
        let doomed = self.published.doomed.load(Atomic::Acquire);
        (doomed > 0) && (*self.durable.borrow() < Some(doomed))
    }
}
