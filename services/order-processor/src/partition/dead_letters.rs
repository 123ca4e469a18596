//! A worker's dead letters: why they are written, those that wait for a commit, and the pause when there are too many.

use std::collections::VecDeque;

use dead_letter::ErrorType;
use order_avro::SchemaId;
use tokio::sync::watch;

use super::worker::Worker;
use crate::flow::pause_reasons::Pause;
use crate::flow::releases::Release;

/// Why a record becomes a dead letter.
pub(super) struct LetterCause {
    pub(super) error_type: ErrorType,
    pub(super) message: String,
    pub(super) schema_id: Option<SchemaId>,
    /// The first and the last offset of an unreadable range; `None` for a record.
    pub(super) offsets: Option<(i64, i64)>,
}

impl LetterCause {
    pub(super) fn new(
        error_type: ErrorType,
        message: impl Into<String>,
        schema_id: Option<SchemaId>,
    ) -> Self {
        Self { error_type, message: message.into(), schema_id, offsets: None }
    }
}

/// The dead letters of one partition.
pub(super) struct DeadLetters {
    /// The last revision that no earlier commit can replace any more.
    pub(super) durable: watch::Receiver<Option<u64>>,
    /// The revision of the state that the worker began with.
    pub(super) first_revision: u64,
    /// Doomed records whose letters wait for a commit, in the order of their revisions.
    pub(super) doomed: VecDeque<Doomed>,
    /// How many letters are in flight.
    pub(super) writing: usize,
    /// Set while the partition is paused at the dead-letter limit.
    pub(super) limit_pause: Option<LimitPause>,
}

/// A record that is given up.
pub(super) struct Doomed {
    pub(super) offset: i64,
    pub(super) cause: LetterCause,
    pub(super) failed_at_ms: i64,
    /// A commit of this revision names the record as doomed.
    pub(super) revision: u64,
}

/// The pause of a partition that reached the dead-letter limit, until an operator releases it.
pub(super) struct LimitPause {
    pub(super) release: watch::Receiver<Release>,
    _pause: Pause,
}

impl DeadLetters {
    pub(super) fn new(durable: watch::Receiver<Option<u64>>, first_revision: u64) -> Self {
        let doomed = VecDeque::new();
        Self { durable, first_revision, doomed, writing: 0, limit_pause: None }
    }

    /// Returns how many letters are not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.writing + self.doomed.len()
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
        self.pending.permits.leave();
        self.dead_letters.limit_pause = Some(LimitPause {
            release: self.shared.releases.wait(dlq_limit.release_from()),
            _pause: self.shared.pause_reasons.begin(reason),
        });
    }

    /// Acts on what is known about the partition's release.
    pub(super) fn on_release(&mut self) {
        let Some(pause) = &mut self.dead_letters.limit_pause else { return };
        let release = pause.release.borrow_and_update().clone();
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
