//! Reports the replica's state in the control topic.
//!
//! A replica reports `paused` when it has no work in flight and everything is committed: from then on its numbers do not
//! change.

use std::sync::Arc;
use std::sync::atomic::Ordering as Atomic;

use control_topic::record::RunState;
use control_topic::{Instruction, Participant};
use kafka_core::member::CommitPermission;
use tokio::sync::watch;

use super::session::Session;
use crate::flow::pause_switch::PauseSwitch;
use crate::handler::Handler;

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
}

impl<H: Handler> Session<H> {
    /// Reports the replica's state, if it has changed.
    pub(super) fn report_instance(&mut self) {
        let status = self.membership.status().borrow().permission.clone();
        if let CommitPermission::Granted(identity) = status {
            self.report.member_id = Some(identity.member_id);
        }
        // Read before the pause switch, which is never older.
        let applied = self.report.applied.borrow().clone();
        if applied == Instruction::Unknown {
            return;
        }
        let state = match self.shared.pause_switch.number_while_paused() {
            None => RunState::Running,
            Some(number) if self.report.paused == Some(number) || self.is_idle(number) => {
                self.report.paused = Some(number);
                RunState::Paused
            }
            // It was resumed and paused again, and work is in flight or not committed.
            Some(_) if self.report.paused.take().is_some() => RunState::Running,
            // The same in the first pause: a notice or a commit follows.
            Some(_) => return,
        };
        let InstanceReport { participant, member_id, .. } = &self.report;
        participant.announce(state, applied.command(), member_id.as_deref());
    }

    /// Returns whether no work has been in flight since this pause began, and everything is committed.
    fn is_idle(&self, number: u64) -> bool {
        self.loads.running.is_empty()
            && self.commits.rounds.is_empty()
            && self
                .working
                .values()
                .all(|working| working.published.idle.load(Atomic::Acquire) == number)
            && !self.is_dirty()
    }
}
