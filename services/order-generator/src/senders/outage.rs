//! An outage while orders are sent: one wait for all partitions together.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use kafka_client::writer::ProduceError;
use kafka_core::TopicPartition;
use service_runtime::{Check, Waiting};
use tracing::debug;

/// Keeps track of which partitions do not acknowledge, for the log and for readiness.
#[derive(Debug)]
pub(crate) struct Outage {
    check: Check,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeSet<TopicPartition>,
    /// There is one while there are partitions.
    waiting: Option<Waiting>,
}

impl Outage {
    /// Returns an outage that has not begun; `check` shows it.
    pub(crate) fn new(check: Check) -> Self {
        Self { check, state: Mutex::default() }
    }

    /// Says that a partition does not acknowledge.
    pub(crate) fn waiting(&self, target: &TopicPartition, error: &ProduceError) {
        debug!("attempt without success: {error}");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.partitions.insert(target.clone());
        state.waiting.get_or_insert_with(|| Waiting::new("Kafka", &self.check)).goes_on(error);
    }

    /// Says that a partition has acknowledged; the last one ends the outage.
    pub(crate) fn acknowledged(&self, target: &TopicPartition) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.partitions.remove(target) || !state.partitions.is_empty() {
            return;
        }
        self.check.ready();
        if let Some(waiting) = state.waiting.take() {
            waiting.over();
        }
    }
}
