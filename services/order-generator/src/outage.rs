//! The lines of an outage: what is waited for, again now and then, and that it is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kafka_client::writer::ProduceError;
use kafka_group::TopicPartition;
use service_runtime::Check;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// How long a partition may wait before it is mentioned: a leader that moves or a topic that is new is no outage.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the same outage is mentioned.
const REMINDER: Duration = Duration::from_secs(10);

/// Keeps track of which partitions do not acknowledge, for the log and for readiness.
#[derive(Debug)]
pub(crate) struct Outage {
    check: Check,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when each partition is waiting.
    waiting: BTreeMap<TopicPartition, Instant>,
    /// Since when any partition is waiting.
    begun: Option<Instant>,
    mentioned: Option<Instant>,
}

impl Outage {
    /// Returns an outage that has not begun; `check` shows it.
    pub(crate) fn new(check: Check) -> Self {
        Self { check, state: Mutex::default() }
    }

    /// Says that a partition does not acknowledge, which is logged once and then every few seconds for all together.
    pub(crate) fn waiting(&self, target: &TopicPartition, error: &ProduceError) {
        debug!("attempt without success: {error}");
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.entry(target.clone()).or_insert(now);
        self.check.not_ready(error.to_string());
        let begun = *state.begun.get_or_insert(now);
        let due = state.mentioned.map_or(begun + PATIENCE, |mentioned| mentioned + REMINDER);
        if now >= due {
            state.mentioned = Some(now);
            let waiting_seconds = (now - begun).as_secs();
            warn!(waiting_seconds, partitions = state.waiting.len(), "waiting for Kafka: {error}");
        }
    }

    /// Says that a partition has acknowledged; the last one ends the outage.
    pub(crate) fn acknowledged(&self, target: &TopicPartition) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.remove(target).is_none() || !state.waiting.is_empty() {
            return;
        }
        self.check.ready();
        let State { begun, mentioned, .. } = std::mem::take(&mut *state);
        if let (Some(begun), Some(_)) = (begun, mentioned) {
            let waited_seconds = begun.elapsed().as_secs();
            info!(waited_seconds, "Kafka acknowledges again");
        }
    }
}
