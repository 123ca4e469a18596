//! What a session knows about its commits.

use std::time::Duration;

use kafka_client::offsets::GroupOffsets;
use order_ledger::checkpoint::Capacity;
use pacing::ReportLimit;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::budget::Budget;
use super::commit_round::{CommitTrouble, Committed};
use crate::telemetry::REPORT_INTERVAL;

/// The least time between two commits; it doubles with every commit that fails.
pub(super) const COMMIT_PAUSE_MIN: Duration = Duration::from_millis(50);

/// The commits of a session.
pub(super) struct Commits {
    /// Taken while a round is running.
    pub(super) offsets: Option<GroupOffsets>,
    pub(super) rounds: JoinSet<Committed>,
    pub(super) last_begun: Instant,
    /// The least time between the last commit and the next.
    pub(super) pause: Duration,
    pub(super) trouble: ReportLimit<CommitTrouble>,
    /// Until when a commit that got no answer may still replace a later one.
    pub(super) settles_at: Option<Instant>,
    /// Whether a commit is due: the interval is over, or something does not wait for it.
    pub(super) is_due: bool,
    pub(super) budget: Budget,
}

impl Commits {
    pub(super) fn new(offsets: GroupOffsets, capacity: Capacity) -> Self {
        Self {
            offsets: Some(offsets),
            rounds: JoinSet::new(),
            last_begun: Instant::now(),
            pause: COMMIT_PAUSE_MIN,
            trouble: ReportLimit::every(REPORT_INTERVAL),
            settles_at: None,
            is_due: false,
            budget: Budget::new(capacity),
        }
    }

    /// Returns whether no earlier commit can replace one that was sent at `begun`.
    pub(super) fn is_settled(&self, begun: Instant) -> bool {
        self.settles_at.is_none_or(|at| at <= begun)
    }
}
