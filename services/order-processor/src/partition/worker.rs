//! The worker of one partition: its parts, and what all workers of a process share.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use kafka_core::TopicPartition;
use order_ledger::checkpoint::PartitionState;
use schema_registry::SchemaRegistry;
use service_runtime::Spans;
use tokio::sync::watch;

use super::dead_letters::DeadLetters;
use super::intake::Intake;
use super::messages::{Assignment, SessionLink};
use super::pending::Pending;
use super::reporting::Reporting;
use super::timing::Timing;
use crate::dlq_writer::DlqWriter;
use crate::flow::limiter::Limiter;
use crate::flow::pause_reasons::PauseReasons;
use crate::flow::pause_switch::PauseSwitch;
use crate::flow::releases::Releases;
use crate::flow::watchdog::Watchdog;
use crate::handler::Source;
use crate::settings::ProcessorSettings;
use crate::telemetry::metrics::Instruments;
use crate::telemetry::report::Reporter;

/// What all workers of a process share.
pub(crate) struct Shared<H> {
    pub(crate) handler: H,
    pub(crate) settings: ProcessorSettings,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) pause_switch: Arc<PauseSwitch>,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) pause_reasons: PauseReasons,
    pub(crate) releases: Arc<Releases>,
    pub(crate) schemas: SchemaRegistry,
    pub(crate) dlq_writer: DlqWriter,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) instruments: Arc<Instruments>,
    pub(crate) spans: Spans,
    /// Bytes of all workers' incomplete records; `MAX_IN_FLIGHT_BYTES` bounds them.
    pub(crate) in_flight_bytes: AtomicUsize,
}

/// The worker of one partition.
pub(super) struct Worker<'a, H> {
    pub(super) shared: &'a Shared<H>,
    pub(super) tp: TopicPartition,
    /// The partition with its topic's id, for as long as attempts live.
    pub(super) source: &'a Source,
    pub(super) state: PartitionState,
    pub(super) intake: Intake,
    pub(super) pending: Pending<'a>,
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
            pending: Pending::new(&shared.limiter, heartbeat),
            dead_letters: DeadLetters::new(assignment.durable, assignment.state.revision()),
            state: assignment.state,
            session: SessionLink {
                epoch: assignment.epoch,
                requests: assignment.requests,
                notices: assignment.notices,
                published: assignment.published,
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
