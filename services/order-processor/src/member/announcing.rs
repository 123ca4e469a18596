//! What this replica says of itself in the control topic.
//!
//! It is paused once nothing is under way any more and everything that was done is committed: whoever reads that may count
//! on numbers that stand still.

use std::sync::Arc;
use std::sync::atomic::Ordering as Atomic;

use control_topic::record::RunState;
use control_topic::{Instruction, Participant};
use kafka_core::member::CommitPermission;
use tokio::sync::watch;

use super::session::Session;
use crate::flow::pause_switch::Halt;
use crate::handler::Handler;

/// The part that a session has in the control topic.
pub(crate) struct Standing {
    participant: Participant,
    obeyed: watch::Receiver<Instruction>,
    /// The member id that the replica had last.
    member_id: Option<String>,
    /// The move of the brake about which it was said that this replica is paused.
    paused: Option<u64>,
}

impl Standing {
    pub(crate) fn new(participant: Participant, halt: &Arc<Halt>) -> Self {
        Self { participant, obeyed: halt.obeyed(), member_id: None, paused: None }
    }

    /// Waits until another instruction was obeyed.
    ///
    /// Cancel safe.
    pub(super) async fn moved(&mut self) {
        if self.obeyed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes back what was said.
    pub(crate) async fn end(self) {
        self.participant.end().await;
    }
}

impl<H: Handler> Session<H> {
    /// Says what this replica does, if that is news.
    pub(super) fn say_standing(&mut self) {
        let status = self.membership.status().borrow().permission.clone();
        if let CommitPermission::Granted(identity) = status {
            self.standing.member_id = Some(identity.member_id);
        }
        // Looked at before the brake: the brake is never older.
        let obeyed = self.standing.obeyed.borrow().clone();
        if obeyed == Instruction::Unknown {
            return;
        }
        let state = match self.shared.halt.number_while_on() {
            None => RunState::Running,
            Some(number) if self.standing.paused == Some(number) || self.is_at_rest(number) => {
                self.standing.paused = Some(number);
                RunState::Paused
            }
            // It was started and stopped again, and something still runs, or is not committed.
            Some(_) if self.standing.paused.take().is_some() => RunState::Running,
            // The same for the first time: a notice or a commit comes.
            Some(_) => return,
        };
        let Standing { participant, member_id, .. } = &self.standing;
        participant.announce(state, obeyed.command(), member_id.as_deref());
    }

    /// Returns whether nothing has been under way since this move of the brake, and everything is committed.
    fn is_at_rest(&self, number: u64) -> bool {
        let rests = |rest: u64| rest == number;
        self.loading.is_empty()
            && self.committing.is_empty()
            && self.working.values().all(|working| rests(working.rest.load(Atomic::Acquire)))
            && !self.is_dirty()
    }
}
