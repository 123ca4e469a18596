//! The first report of an instance.

use std::time::Duration;

use chrono::Utc;
use kafka_client::producer::Producer;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::record::{Entry, InstanceReport, Role, RunState};
use crate::writing::write;

/// How long an instance waits for the acknowledgement before it reads commands without it: longer than a request whose
/// answer is lost, so that it is sent once more.
const ANNOUNCE_MAX: Duration = Duration::from_secs(15);

/// The report with which an instance begins. An operator who commands after its acknowledgement finds the instance in the
/// topic.
pub(crate) struct Announcement {
    pub(crate) producer: Producer,
    /// Of the topic where it is to be created; −1 is the broker's default.
    pub(crate) replication_factor: i16,
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) report: watch::Receiver<Option<InstanceReport>>,
}

impl Announcement {
    pub(crate) async fn announce(&self, topic: &str, partition: i32) {
        let paused = InstanceReport {
            state: RunState::Paused,
            since_ms: Some(Utc::now().timestamp_millis()),
            ..InstanceReport::default()
        };
        let report = self.report.borrow().clone().unwrap_or(paused);
        let (role, name, report) = (self.role, self.name.clone(), Some(report));
        let entry = Entry::Instance { role, name, report };
        let deadline = Instant::now() + ANNOUNCE_MAX;
        if let Err(error) = write(&self.producer, topic, partition, &[entry], deadline).await {
            tracing::debug!(%error, "the control topic did not take the first report");
        }
    }
}
