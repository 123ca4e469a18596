//! A worker's side of what it shares with its session.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::messages::{Notice, Request, Snapshot};

/// A drain that the session has asked for.
pub(super) struct Draining {
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Snapshot>,
}

/// The link to the session.
pub(super) struct SessionLink {
    /// The epoch of the assignment.
    pub(super) epoch: u64,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) revision: Arc<AtomicU64>,
    pub(super) idle: Arc<AtomicU64>,
    pub(super) draining: Option<Draining>,
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
