//! Reads the numbers of other members' partitions, and the ends of the own logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_client::error::{ClientError, chain};
use kafka_client::offsets::{Found, OffsetAt, list_offsets};
use kafka_core::TopicPartition;

use super::session::Session;
use crate::handler::Handler;
use crate::telemetry::group_snapshot::GroupSnapshot;

/// The shortest interval of reading the group's numbers; more partitions lengthen it.
const VIEW_INTERVAL: Duration = Duration::from_secs(1);
/// What each partition adds to the interval.
const VIEW_INTERVAL_PER_PARTITION: Duration = Duration::from_millis(10);

/// The group's committed numbers, and the ends of the member's own logs.
pub(super) type Viewed = (Result<GroupSnapshot, ClientError>, Result<Found<i64>, ClientError>);

impl<H: Handler> Session<H> {
    /// Begins to read what the group has committed, for the group-wide average, and the ends of the logs: a partition that
    /// waits is not fetched, and its lag grows all the same.
    pub(super) fn start_viewing(&mut self) {
        let own: Vec<TopicPartition> = self.working.keys().cloned().collect();
        let cluster = self.cluster.clone();
        let shared = Arc::clone(&self.shared);
        self.viewing.spawn(async move {
            tokio::join!(
                GroupSnapshot::read(&cluster, &shared.settings),
                list_offsets(&cluster, &own, OffsetAt::LastStable),
            )
        });
    }

    /// Acts on what was read, and returns the pause before the next reading.
    pub(super) fn on_viewed(&mut self, (group, log_ends): Viewed) -> Duration {
        match log_ends {
            Ok(found) => self.on_log_ends(found),
            Err(error) => tracing::debug!(error = %chain(&error), "could not read the logs' ends"),
        }
        match group {
            Ok(group) => {
                let partitions = u32::try_from(group.len()).unwrap_or(u32::MAX);
                self.shared.reporter.committed(group);
                VIEW_INTERVAL.max(VIEW_INTERVAL_PER_PARTITION.saturating_mul(partitions))
            }
            Err(error) => {
                tracing::debug!(error = %chain(&error), "could not read the group's numbers");
                VIEW_INTERVAL
            }
        }
    }

    /// Sets the ends of logs. A leader that does not report them cannot be fetched from either.
    fn on_log_ends(&mut self, found: Found<i64>) {
        let (mut log_ends, mut failed) = (BTreeMap::new(), BTreeMap::new());
        for (tp, found) in found {
            match found {
                Ok(log_end) => {
                    self.is_available(&tp);
                    log_ends.insert(tp, log_end);
                }
                // Given up meanwhile.
                Err(_error) if !self.working.contains_key(&tp) => {}
                Err(error) => drop(failed.insert(tp, chain(&error))),
            }
        }
        self.loads.unavailable.note(failed);
        self.shared.instruments.log_ends(log_ends);
        self.judge_health();
    }
}
