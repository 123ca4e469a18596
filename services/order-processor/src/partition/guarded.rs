//! A partition that its dead letters have stopped, until an operator releases it.

use std::future::pending;

use dead_letter::ErrorType;

use super::Worker;
use crate::flow::pause_reasons::Pause;
use crate::flow::releases::{Release, Waiting};
use crate::handler::Handler;

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
        self.state.count_dead_letter(error_type);
        self.stop_if_too_many();
    }

    /// Stops the partition if there were too many dead letters, here or before a restart.
    pub(super) fn stop_if_too_many(&mut self) {
        let limit = self.shared.dlq_guard;
        let guard = self.state.dlq_limit();
        let Some(error_type) = guard.exceeded(limit).filter(|_| self.guarded.is_none()) else {
            return;
        };
        tracing::error!(
            topic = %self.tp.topic, partition = self.tp.partition, %error_type, limit,
            "stopped: too many dead letters with no order processed between them; `order-console dlq release` lets it go on"
        );
        let reason = format!("{} stopped after {limit} dead letters: {error_type}", self.tp);
        self.permits.leave();
        self.guarded = Some(Guarded {
            release: self.shared.releases.wait(guard.release_from()),
            _pause: self.shared.pauses.begin(reason),
        });
    }

    pub(super) fn on_release(&mut self, release: Release) {
        if let Some(from) = release.counts_from
            && self.state.dlq_limit().release_from() != Some(from)
        {
            self.state.set_release_from(from);
        }
        let Some(by) = release.by else { return };
        tracing::info!(topic = %self.tp.topic, partition = self.tp.partition, by, "released: going on");
        self.guarded = None;
        self.state.clear_dlq_limit();
    }
}
