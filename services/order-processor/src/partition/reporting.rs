//! What others see of a worker: its checkpoint, its status, its log lines, and how long attempts take.

use std::sync::atomic::Ordering as Atomic;

use dead_letter::RawHeader;
use kafka_client::offsets::OffsetCommit;
use kafka_core::TopicPartition;
use order_avro::Order;
use order_ledger::checkpoint::{Checkpoint, RecordState};
use pacing::ReportLimit;
use service_runtime::now_ms;
use service_runtime::trace_context::{Trace, TraceContext};
use tokio::sync::oneshot;

use super::incomplete::{IncompleteRecord, raw};
use super::messages::{Notice, Snapshot};
use super::timing::Timing;
use super::worker::Worker;
use crate::handler::Handler;
use crate::telemetry::REPORT_INTERVAL;
use crate::telemetry::partition_status::{FirstWaits, Next, SharedStatus};
use crate::telemetry::report::About;

pub(super) struct Reporting {
    pub(super) timing: Timing,
    pub(super) status: SharedStatus,
    /// How many more lines about processed orders may be written.
    pub(super) lines_reserved: usize,
    /// How many processed orders got no line.
    pub(super) lines_withheld: usize,
    /// The time of the first record that was not taken in, as far as it is known.
    pub(super) next: Next,
    /// Records that were delivered and are not in the status yet.
    pub(super) delivered: u64,
    /// The revision that the reporter knows.
    pub(super) revision: u64,
    /// Checkpoints that did not fit beside the offset.
    pub(super) too_large: ReportLimit<()>,
}

impl Reporting {
    pub(super) fn new(timing: Timing, status: SharedStatus) -> Self {
        Self {
            timing,
            status,
            lines_reserved: 0,
            lines_withheld: 0,
            next: Next::Unknown,
            delivered: 0,
            revision: 0,
            too_large: ReportLimit::every(REPORT_INTERVAL),
        }
    }
}

impl<H: Handler> Worker<'_, H> {
    /// Publishes the partition's numbers to the process's totals and to the group-wide view.
    pub(super) fn report(&mut self) {
        self.reporting.revision = self.state.revision();
        self.shared.reporter.update(&self.tp, self.state.aggregate());
    }

    /// Publishes the revision, without which the session commits nothing, and the status.
    pub(super) fn publish(&mut self) {
        self.session.published.revision.store(self.state.revision(), Atomic::Relaxed);
        self.publish_status();
    }

    fn publish_status(&mut self) {
        let committable = self.state.committable();
        let oldest = self.pending.incomplete.oldest();
        let mut status = self.reporting.status.lock();
        status.committable = committable;
        status.frontier = self.state.dispatch_frontier();
        status.incomplete = self.state.incomplete();
        status.waiting = self.pending.incomplete.waiting();
        status.letters = self.dead_letters.len();
        status.running = self.pending.in_flight.len().saturating_sub(self.dead_letters.writing);
        status.waits.for_permit = self.wants_permit();
        status.waits.for_release = self.dead_letters.limit_pause.is_some();
        status.waits.for_resume = self.shared.pause_switch.is_paused();
        status.oldest = oldest.map(|record| record.work.since);
        // After a restart the first incomplete record may not have been read again yet.
        let first = oldest.filter(|record| record.record.offset == committable);
        status.next =
            first.map_or(self.reporting.next, |record| Next::At(record.record.timestamp_ms));
        status.delivered += std::mem::take(&mut self.reporting.delivered);
        if status.is_caught_up() {
            status.caught_up_at_ms = Some(now_ms());
        }
    }

    /// Tells the session once for each pause that no work is in flight.
    pub(super) fn note_idle(&self) {
        let Some(number) = self.shared.pause_switch.number_while_paused() else { return };
        let has_work = !self.pending.in_flight.is_empty() || !self.dead_letters.doomed.is_empty();
        if has_work || self.session.published.idle.swap(number, Atomic::Release) == number {
            return;
        }
        self.session.notify(Notice::Idle);
    }

    /// Answers the session with a checkpoint.
    pub(super) fn answer(&mut self, answer: oneshot::Sender<Snapshot>) {
        let commit = match self.state.checkpoint() {
            Ok(Checkpoint { offset, leader_epoch, metadata }) => {
                self.reporting.status.lock().checkpoint_bytes = metadata.len();
                Some(OffsetCommit { partition: self.tp.clone(), offset, leader_epoch, metadata })
            }
            Err(error) => {
                if let Some(unreported) = self.reporting.too_large.report(()) {
                    tracing::warn!(
                        topic = %self.tp.topic,
                        partition = self.tp.partition,
                        %error,
                        unreported,
                        "cannot commit yet"
                    );
                }
                None
            }
        };
        let snapshot = Snapshot { revision: self.state.revision(), commit };
        if answer.send(snapshot).is_err() {
            tracing::debug!(partition = %self.tp, "the session does not await the checkpoint");
        }
    }

    /// Returns what the first incomplete record waits for.
    pub(super) fn first_waits(&self) -> FirstWaits {
        let Some(first) = self.pending.incomplete.oldest() else { return FirstWaits::Attempt };
        match (self.state.record_state(first.record.offset), first.work.due) {
            (RecordState::Doomed { .. }, _) => FirstWaits::Letter,
            (_, Some(due)) => FirstWaits::Retry { due, attempts: first.work.attempts },
            (_, None) => FirstWaits::Attempt,
        }
    }

    /// Writes a line about a processed order, or counts it.
    #[inline]
    pub(super) fn processed<'h>(
        &mut self,
        offset: i64,
        order: &Order,
        attempts: u32,
        headers: impl Iterator<Item = RawHeader<'h>>,
    ) {
        if self.reporting.lines_reserved == 0 {
            self.reporting.lines_withheld += 1;
        } else {
            self.reporting.lines_reserved -= 1;
            self.write_line(offset, order, attempts, headers);
        }
    }

    #[cold]
    fn write_line<'h>(
        &self,
        offset: i64,
        order: &Order,
        attempts: u32,
        headers: impl Iterator<Item = RawHeader<'h>>,
    ) {
        let trace = Trace::of(headers).map(|trace| trace.context);
        let trace_id = trace.filter(|trace| trace.is_sampled()).map(TraceContext::trace_id);
        let about = About { tp: &self.tp, offset, order: Some(order), trace_id };
        self.shared.reporter.processed(about, attempts, self.state.aggregate());
    }
}

/// Returns what log lines say about an incomplete record.
pub(super) fn about<'a>(tp: &'a TopicPartition, record: &'a IncompleteRecord) -> About<'a> {
    let trace = Trace::of(raw(&record.record.headers));
    About {
        tp,
        offset: record.record.offset,
        order: record.work.order.as_ref(),
        trace_id: trace.map(|trace| trace.context.trace_id()),
    }
}
