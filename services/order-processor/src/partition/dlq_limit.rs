//! A partition that reached the dead-letter limit, until an operator releases it.

use std::future::pending;

use dead_letter::ErrorType;

use super::dead_letters::LimitPause;
use super::worker::Worker;
use crate::flow::releases::Release;

/// Waits until more is known about the partition's release.
///
/// # Cancel safety
/// Cancel safe: the wait goes on where it was.
pub(super) async fn release(pause: &mut Option<LimitPause>) -> Release {
    match pause {
        Some(pause) => pause.release.next().await,
        None => pending().await,
    }
}

impl<H> Worker<'_, H> {
    /// Counts a dead letter; one too many pauses the partition.
    pub(super) fn count_dead_letter(&mut self, error_type: ErrorType) {
        self.state.count_dead_letter(error_type);
        self.pause_over_limit();
    }

    /// Pauses the partition if there were too many dead letters, here or before a restart.
    pub(super) fn pause_over_limit(&mut self) {
        let limit = self.shared.settings.dlq.guard;
        let dlq_limit = self.state.dlq_limit();
        let is_new = self.dead_letters.limit_pause.is_none();
        let Some(error_type) = dlq_limit.exceeded(limit).filter(|_| is_new) else { return };
        tracing::error!(
            topic = %self.tp.topic, partition = self.tp.partition, %error_type, limit,
            "paused: too many dead letters with no order processed between them; `order-console dlq release` lets it go on"
        );
        let reason = format!("{} paused after {limit} dead letters: {error_type}", self.tp);
        self.attempts.permits.leave();
        self.dead_letters.limit_pause = Some(LimitPause {
            release: self.shared.releases.wait(dlq_limit.release_from()),
            _pause: self.shared.pause_reasons.begin(reason),
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
        self.dead_letters.limit_pause = None;
        self.state.clear_dlq_limit();
    }
}
