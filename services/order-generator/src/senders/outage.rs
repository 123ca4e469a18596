//! An outage of the broker, shared by the senders of all partitions.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use kafka_client::writer::ProduceError;
use kafka_core::TopicPartition;
use service_runtime::{Check, Waiting};
use tracing::debug;

/// Tracks the partitions without acknowledgements, for the log and for readiness.
#[derive(Debug)]
pub(crate) struct Outage {
    check: Check,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeSet<TopicPartition>,
    /// Present while `partitions` has any.
    waiting: Option<Waiting>,
}

impl Outage {
    /// Returns an outage without partitions; `check` shows it.
    pub(crate) fn new(check: Check) -> Self {
        Self { check, state: Mutex::default() }
    }

    /// Reports a failed attempt for a partition.
    pub(crate) fn waiting(&self, target: &TopicPartition, error: &ProduceError) {
        debug!("failed attempt: {error}");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.partitions.insert(target.clone());
        state.waiting.get_or_insert_with(|| Waiting::new("Kafka", &self.check)).goes_on(error);
    }

    /// Reports an acknowledgement for a partition; that of the last partition ends the outage.
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
