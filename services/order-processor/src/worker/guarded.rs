//! A partition that its dead letters have stopped, until somebody releases it.

use std::future::pending;

use super::Worker;
use crate::dead_letter::ErrorType;
use crate::handler::Handler;
use crate::pauses::Pause;
use crate::release::{Release, Waiting};

/// What a stopped partition waits for.
pub(super) struct Guarded {
    release: Waiting,
    _pause: Pause,
}

/// Waits until more is known about the partition's release.
///
/// Cancel safe: waiting goes on where it was.
pub(super) async fn release(guarded: &mut Option<Guarded>) -> Release {
    match guarded {
        Some(guarded) => guarded.release.next().await,
        None => pending().await,
    }
}

impl<H: Handler> Worker<'_, H> {
    /// Takes note of a dead letter; one too many stops the partition.
    pub(super) fn count_dead_letter(&mut self, error_type: ErrorType) {
        if !self.guard.count(error_type) || self.guarded.is_some() {
            return;
        }
        let limit = self.shared.dlq_guard;
        tracing::error!(
            topic = %self.tp.topic, partition = self.tp.partition, %error_type, limit,
            "stopped: too many dead letters with no order processed between them; `order-processor dlq release` lets it go on"
        );
        let reason = format!("{} stopped after {limit} dead letters: {error_type}", self.tp);
        self.permits.leave();
        self.guarded = Some(Guarded {
            release: self.shared.releases.wait(None),
            _pause: self.shared.pauses.begin(reason),
        });
    }

    pub(super) fn on_release(&mut self, release: Release) {
        let Some(by) = release.by else { return };
        tracing::info!(topic = %self.tp.topic, partition = self.tp.partition, by, "released: going on");
        self.guarded = None;
        self.guard.clear();
    }
}
