//! What this replica has reported of itself in the control topic.

use std::sync::Arc;

use control_topic::{Instruction, Participant};
use tokio::sync::watch;

use crate::flow::pause_switch::PauseSwitch;

/// The replica's reports in the control topic.
pub(crate) struct InstanceReport {
    pub(super) participant: Participant,
    /// The instruction that the pause switch follows.
    pub(super) applied: watch::Receiver<Instruction>,
    /// The last member id of the replica.
    pub(super) member_id: Option<String>,
    /// The number of the pause that was reported as reached.
    pub(super) paused: Option<u64>,
}

impl InstanceReport {
    pub(crate) fn new(participant: Participant, pause_switch: &Arc<PauseSwitch>) -> Self {
        Self { participant, applied: pause_switch.applied(), member_id: None, paused: None }
    }

    /// Waits until another instruction was applied.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.applied.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends the reports: the replica is gone.
    pub(crate) async fn end(self) {
        self.participant.end().await;
    }
}
