//! The worker's loop: one event a step, and then as much intake as possible.

use std::future::ready;
use std::sync::Arc;

use futures_util::future::OptionFuture;
use futures_util::stream::StreamExt as _;
use kafka_client::reader::{Fetched, FetchedBatches};
use service_runtime::now_ms;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::cursor::Cursor;
use super::messages::{Assignment, Drain, Notice, ReadError, Request};
use super::worker::{Shared, Worker};
use crate::handler::{Handler, Source};

/// Works on one partition until it is drained or its session is gone.
///
/// # Errors
/// When a batch is damaged and `CORRUPT_BATCH=fail`.
pub(crate) async fn run<H: Handler>(
    shared: Arc<Shared<H>>,
    assignment: Assignment,
) -> anyhow::Result<()> {
    let source = Source {
        topic: assignment.tp.topic.to_string(),
        topic_id: assignment.topic_id,
        partition: assignment.tp.partition,
    };
    let mut worker = Worker::new(&shared, &source, assignment);
    let outcome = worker.work().await;
    worker.pending.uncount_bytes(&shared.in_flight_bytes);
    outcome
}

impl<H: Handler> Worker<'_, H> {
    async fn work(&mut self) -> anyhow::Result<()> {
        self.note_idle();
        self.pause_over_limit();
        while !self.session.ended {
            self.step().await?;
        }
        Ok(())
    }

    /// Waits for one event unless the next record can be taken in, acts on it, and takes records in until one has to wait
    /// or a batch ends.
    async fn step(&mut self) -> anyhow::Result<()> {
        let can_ingest = self.intake.is_ready();
        let wants_permit = self.wants_permit();
        if !can_ingest {
            if self.state.revision() != self.reporting.revision {
                self.report();
            }
            self.pending.permits.prepare(wants_permit);
        }
        self.write_durable_letters();
        let is_beginning = self.session.draining.is_none() && !self.shared.pause_switch.is_paused();
        let is_open = self.intake.cursor.is_none() && is_beginning;
        let due = self.pending.incomplete.next_due().filter(|_| is_beginning);
        let deadline = self.session.draining.as_ref().map(|drain| drain.deadline);
        let release = self.dead_letters.limit_pause.as_mut().map(|pause| &mut pause.release);
        tokio::select! {
            biased;
            Some(answer) = OptionFuture::from(self.intake.lookup.as_mut()) => self.on_looked_up(answer),
            request = self.session.requests.recv() => self.on_request(request),
            Ok(()) = self.pause_changes.changed() => {}
            Ok(()) = self.dead_letters.durable.changed(), if !self.dead_letters.doomed.is_empty() => {}
            Some(finished) = self.pending.in_flight.next() => {
                self.on_finished(finished);
            }
            Some(Ok(())) = OptionFuture::from(release.map(watch::Receiver::changed)) => self.on_release(),
            Some(id) = self.intake.awaited.next(), if is_beginning => {
                self.on_schema(id);
            }
            Some(permit) = self.pending.permits.next(), if wants_permit => {
                self.pending.permits.arrive(permit);
            }
            Some(()) = OptionFuture::from(deadline.map(sleep_until)) => self.end_drain(),
            Some(()) = OptionFuture::from(due.map(sleep_until)) => self.start_due(),
            () = ready(()), if can_ingest => {}
            fetched = self.intake.fetched.recv(), if is_open => self.on_fetched(fetched).await,
        }
        self.start_ready();
        self.write_durable_letters();
        self.reconsider();
        if !self.is_ending() && self.intake.is_ready() {
            self.ingest()?;
        }
        self.after_change();
        Ok(())
    }

    /// Takes a fetch as the next one to take in.
    async fn on_fetched(&mut self, fetched: Option<Fetched>) {
        match fetched {
            // The reader is gone, and with it the session.
            None => self.session.ended = true,
            Some(Fetched::Batches(fetched)) => self.begin_fetch(fetched),
            Some(Fetched::OutOfRange { position }) => {
                self.interrupted(ReadError::OutOfRange { position }).await;
            }
            Some(Fetched::Truncated { position, .. }) => {
                self.interrupted(ReadError::Truncated { position }).await;
            }
            Some(Fetched::Recreated { topic_id }) => {
                self.interrupted(ReadError::Recreated { topic_id }).await;
            }
        }
    }

    fn begin_fetch(&mut self, fetched: FetchedBatches) {
        for batch in &fetched.batches {
            let header = batch.header();
            self.state.note_leader_epoch(header.base_offset, header.leader_epoch);
        }
        let claimed = fetched.batches.iter().map(|batch| batch.header().record_count);
        let records = claimed.map(|count| usize::try_from(count).unwrap_or(0));
        let records = records.fold(0, usize::saturating_add);
        self.reporting.lines_reserved = self.shared.reporter.reserve(records);
        let read_ms = now_ms();
        self.reporting.status.lock().ends_at(fetched.last_stable_offset, read_ms);
        self.intake.cursor = Some(Cursor::new(fetched, read_ms));
    }

    async fn interrupted(&mut self, error: ReadError) {
        let (tp, epoch) = (self.tp.clone(), self.session.epoch);
        let notice = Notice::Interrupted { tp, epoch, error };
        if self.session.notices.send(notice).await.is_err() {
            self.session.ended = true;
        }
    }

    fn on_request(&mut self, request: Option<Request>) {
        match request {
            None => self.session.ended = true,
            Some(Request::Checkpoint(answer)) => self.answer(answer),
            Some(Request::Drain(drain)) => {
                // The partition's next owner resumes waiting and queued records at the attempt that the checkpoint names,
                // and writes the letters of doomed records that were not begun.
                self.pending.clear_waiting();
                self.intake.clear();
                self.session.draining = Some(drain);
            }
        }
    }

    /// Publishes what the step has changed, and ends a drain whose last work has ended.
    fn after_change(&mut self) {
        if self.session.draining.is_some() && self.pending.in_flight.is_empty() {
            self.end_drain();
        }
        self.note_prober();
        self.pending.count_bytes(&self.shared.in_flight_bytes);
        if self.reporting.lines_withheld > 0 {
            self.shared.reporter.withhold(std::mem::take(&mut self.reporting.lines_withheld));
        }
        self.publish();
        self.note_idle();
    }

    /// Answers a drain and ends the worker.
    fn end_drain(&mut self) {
        if let Some(Drain { answer, .. }) = self.session.draining.take() {
            if !self.pending.in_flight.is_empty() {
                tracing::warn!(
                    topic = %self.tp.topic,
                    partition = self.tp.partition,
                    unfinished = self.pending.in_flight.len(),
                    "gave up work that did not end in time; it will be done again"
                );
            }
            self.report();
            self.answer(answer);
            self.session.ended = true;
        }
    }
}
