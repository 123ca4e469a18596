//! The worker of one partition: its parts.

use kafka_core::TopicPartition;
use order_ledger::checkpoint::PartitionState;
use tokio::sync::watch;

use super::attempts::Attempts;
use super::dead_letters::DeadLetters;
use super::intake::Intake;
use super::messages::Assignment;
use super::reporting::Reporting;
use super::session_link::SessionLink;
use super::shared::Shared;
use super::timing::Timing;
use crate::handler::Source;

/// The worker of one partition.
pub(super) struct Worker<'a, H> {
    pub(super) shared: &'a Shared<H>,
    pub(super) tp: TopicPartition,
    /// The partition with its topic's id, for as long as attempts live.
    pub(super) source: &'a Source,
    pub(super) state: PartitionState,
    pub(super) intake: Intake,
    pub(super) attempts: Attempts<'a>,
    pub(super) dead_letters: DeadLetters,
    pub(super) session: SessionLink,
    pub(super) reporting: Reporting,
    /// Changes of the process's pause switch.
    pub(super) pause_changes: watch::Receiver<u64>,
}

impl<'a, H> Worker<'a, H> {
    pub(super) fn new(shared: &'a Shared<H>, source: &'a Source, assignment: Assignment) -> Self {
        let timing = Timing::new(&shared.instruments, &source.topic);
        let heartbeat = shared.watchdog.heartbeat(shared.settings.handler.timeout);
        Self {
            shared,
            source,
            tp: assignment.tp,
            intake: Intake::new(assignment.fetched),
            attempts: Attempts::new(&shared.limiter, heartbeat),
            dead_letters: DeadLetters::new(assignment.durability, assignment.state.revision()),
            state: assignment.state,
            session: SessionLink {
                epoch: assignment.epoch,
                requests: assignment.requests,
                notices: assignment.notices,
                revision: assignment.revision,
                idle: assignment.idle,
                draining: None,
                ended: false,
            },
            reporting: Reporting::new(timing, assignment.status),
            pause_changes: shared.pause_switch.changes(),
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        self.session.ended || self.session.draining.is_some()
    }

    /// Returns whether an attempt may begin: neither the replica nor the partition is paused.
    pub(super) fn may_begin(&self) -> bool {
        self.dead_letters.limit_pause.is_none() && !self.shared.pause_switch.is_paused()
    }
}
