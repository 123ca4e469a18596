//! The partitions of a reader, which its tasks share.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_core::{NodeId, TopicPartition};
use pacing::{Backoff, ReportLimit};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use super::damage::Place;
use super::fetched::Fetched;

/// Pauses before a partition is fetched again after its leader has denied leadership: metadata may lag behind an election.
const DENIAL_BACKOFF: Backoff = Backoff::new(DENIAL_PAUSE_MIN, DENIAL_PAUSE_MAX);
pub(super) const DENIAL_PAUSE_MIN: Duration = Duration::from_millis(50);
pub(super) const DENIAL_PAUSE_MAX: Duration = Duration::from_secs(1);
/// At most one log line about a failure in five seconds.
pub(super) const REPORTS: ReportLimit = ReportLimit::every(Duration::from_secs(5));

/// The state of one partition.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) topic_id: Uuid,
    pub(super) place: Place,
    /// Distinguishes two additions of the same partition.
    pub(super) addition: u64,
    pub(super) leader: Option<NodeId>,
    pub(super) sender: mpsc::Sender<Fetched>,
    /// The ends that were delivered last: a change without batches is delivered once.
    pub(super) ends: Option<(i64, i64)>,
    /// Whether the partition has to be added again.
    pub(super) stopped: bool,
    /// The earliest time of the next fetch, after a retriable error.
    pub(super) not_before: Option<Instant>,
    /// Pauses after a leader has denied its leadership.
    pub(super) denials: Backoff,
    pub(super) report: ReportLimit,
}

impl Source {
    pub(super) fn new(
        topic_id: Uuid,
        position: i64,
        addition: u64,
        sender: mpsc::Sender<Fetched>,
    ) -> Self {
        Self {
            topic_id,
            place: Place::new(position),
            addition,
            leader: None,
            sender,
            ends: None,
            stopped: false,
            not_before: None,
            denials: DENIAL_BACKOFF,
            report: REPORTS,
        }
    }
}

/// The partitions of a reader, and what its tasks tell each other about them.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) sources: Mutex<BTreeMap<TopicPartition, Source>>,
    /// A partition was added or removed, has a leader, or has room again.
    pub(super) changed: Notify,
    /// A partition has no known leader.
    pub(super) leaderless: Notify,
}

impl Shared {
    pub(super) fn sources(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
