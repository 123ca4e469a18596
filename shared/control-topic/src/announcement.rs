//! The first report of an instance.

use std::time::Duration;

use chrono::Utc;
use kafka_client::cluster::Cluster;
use kafka_client::exact_writer::ExactWriter;
use kafka_client::writer::ProduceError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::record::{Entry, InstanceReport, Role, RunState};
use crate::writing::write;

/// Pause before the report is written again.
const PAUSE: Duration = Duration::from_millis(200);
/// How long an instance waits for the acknowledgement before it reads commands without it.
const ANNOUNCE_MAX: Duration = Duration::from_secs(10);

/// The report with which an instance begins. An operator who commands after its acknowledgement finds the instance in the
/// topic.
pub(crate) struct Announcement {
    /// Of the topic where it is to be created; −1 is the broker's default.
    pub(crate) replication_factor: i16,
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) report: watch::Receiver<Option<InstanceReport>>,
}

impl Announcement {
    pub(crate) async fn announce(&self, cluster: &Cluster, topic: &str, partition: i32) {
        let mut writer = ExactWriter::new(cluster.clone());
        let begun = Instant::now();
        let paused = InstanceReport {
            state: RunState::Paused,
            since_ms: Some(Utc::now().timestamp_millis()),
            ..InstanceReport::default()
        };
        loop {
            let report = self.report.borrow().clone().unwrap_or_else(|| paused.clone());
            let (role, name, report) = (self.role, self.name.clone(), Some(report));
            let entry = Entry::Instance { role, name, report };
            match write(&mut writer, topic, partition, &[entry]).await {
                Ok(()) => return,
                Err(error @ ProduceError::Refused { .. }) => {
                    tracing::debug!(%error, "the control topic refused a report");
                    return;
                }
                Err(error @ (ProduceError::NotSent { .. } | ProduceError::Unknown { .. })) => {
                    tracing::debug!(%error, "reporting to the control topic again");
                }
            }
            if ANNOUNCE_MAX <= begun.elapsed() {
                return;
            }
            sleep(PAUSE).await;
        }
    }
}
