//! A worker's dead letters: those that wait for a commit, those in flight, and the pause when there are too many.

use std::collections::VecDeque;

use super::messages::Durability;
use super::poison::Poison;
use crate::flow::pause_reasons::Pause;
use crate::flow::releases::Waiting;

/// The dead letters of one partition.
pub(super) struct DeadLetters {
    pub(super) doomed: DoomedRecords,
    pub(super) writing: usize,
    /// Set while the partition is paused at the dead-letter limit.
    pub(super) limit_pause: Option<LimitPause>,
}

/// The pause of a partition with too many dead letters.
pub(super) struct LimitPause {
    pub(super) release: Waiting,
    pub(super) _pause: Pause,
}

/// Doomed records whose letters wait for a commit, in the order of their revisions.
pub(super) struct DoomedRecords {
    pub(super) durability: Durability,
    /// The revision of the state that the worker began with.
    pub(super) first_revision: u64,
    waiting: VecDeque<Doomed>,
}

/// A record that is given up.
pub(super) struct Doomed {
    pub(super) offset: i64,
    pub(super) poison: Poison,
    pub(super) failed_at_ms: i64,
    /// A commit of this revision names the record as doomed.
    pub(super) revision: u64,
}

impl DeadLetters {
    pub(super) fn new(durability: Durability, first_revision: u64) -> Self {
        let doomed = DoomedRecords { durability, first_revision, waiting: VecDeque::new() };
        Self { doomed, writing: 0, limit_pause: None }
    }

    /// Returns how many letters are not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.writing + self.doomed.waiting.len()
    }
}

impl DoomedRecords {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, doomed: Doomed) {
        self.waiting.push_back(doomed);
    }

    /// Returns the revision that has to be committed for all letters to be written.
    pub(super) fn last_revision(&self) -> Option<u64> {
        self.waiting.back().map(|doomed| doomed.revision)
    }

    /// Waits until more is committed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn committed(&mut self) {
        if self.durability.durable.changed().await.is_err() {
            // The session is gone, which closes the channel of requests too.
            std::future::pending::<()>().await;
        }
    }

    /// Takes the next record whose letter may be written.
    pub(super) fn next_durable(&mut self) -> Option<Doomed> {
        let durable = *self.durability.durable.borrow_and_update();
        self.waiting.pop_front_if(|doomed| durable >= Some(doomed.revision))
    }
}
