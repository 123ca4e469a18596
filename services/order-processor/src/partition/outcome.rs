//! What becomes of an attempt: done, tried again, or written to the dead-letter topic.

use std::time::Duration;

use dead_letter::ErrorType;
use order_avro::Order;
use order_ledger::checkpoint::CompletedOrder;
use tokio::time::Instant;

use super::dead_letters::LetterCause;
use super::decoding::Undecoded;
use super::incomplete::{Work, raw};
use super::pending::Finished;
use super::reporting::about;
use super::worker::Worker;
use crate::flow::circuit_breaker::{Fault, PROBE_PAUSE, TransientFailure};
use crate::flow::limiter::Permit;
use crate::flow::retry::RETRY_AFTER_MAX;
use crate::handler::{AttemptResult, Handler, NoAnswer, Outcome, SimulatedFailure};
use crate::telemetry::labels::RetryCause;

impl<H: Handler> Worker<'_, H> {
    /// Acts on the end of work in flight. Its permit goes to the worker that has waited longest.
    pub(super) fn on_finished(
        &mut self,
        (finished, took, _permit): (Finished, Duration, Option<Permit>),
    ) {
        match finished {
            Finished::Attempt { offset, order, outcome } => {
                self.on_attempted(offset, order, took, outcome);
            }
            Finished::Letter { offset, last_offset, error_type, outcome: Ok(()) } => {
                self.dead_letters.writing -= 1;
                if let Some((record, next)) = self.pending.incomplete.remove(offset) {
                    let Work { attempts, origin, .. } = record.work;
                    let is_counted = match last_offset {
                        Some(last) => self.state.complete_range(offset, last, attempts),
                        None => self.state.complete_dead_letter(offset, attempts, origin),
                    };
                    if is_counted {
                        self.shared.instruments.dead_letter(error_type);
                    }
                    self.pending.ready.extend(next);
                }
            }
            Finished::Letter { offset, outcome: Err(error), .. } => {
                self.dead_letters.writing -= 1;
                tracing::debug!(partition = %self.tp, offset, ?error, "dead letter given up");
            }
        }
    }

    /// Starts every waiting record that is due.
    pub(super) fn start_due(&mut self) {
        let now = Instant::now();
        while let Some(offset) = self.pending.incomplete.pop_due(now) {
            self.pending.ready.push_back(offset);
        }
        self.start_ready();
    }

    /// Starts the records that may start, one after the other, for as long as attempts end at once.
    pub(super) fn start_ready(&mut self) {
        if self.session.draining.is_some() {
            self.pending.ready.clear();
        }
        while self.decode_next_ready() && self.pending.permits.allow() {
            if self.pending.permits.leave_probe_to_newcomer() {
                return;
            }
            let Some(offset) = self.pending.ready.pop_front() else { return };
            let traces = self.traces();
            let Some(record) = self.pending.incomplete.get_mut(offset) else { continue };
            let Some(order) = record.work.order.take() else { continue };
            record.work.attempts += 1;
            let attempts = record.work.attempts;
            let place = record.place(traces);
            if let Some((order, outcome)) = self.start(place, order, attempts) {
                self.on_attempted(offset, order, Duration::ZERO, outcome);
            }
            self.pending.permits.end_probe();
        }
    }

    /// Decodes the next record that may start, unless it is decoded, and returns whether there is one.
    fn decode_next_ready(&mut self) -> bool {
        while self.may_begin()
            && let Some(&offset) = self.pending.ready.front()
        {
            let Some(record) = self.pending.incomplete.get_mut(offset) else { return true };
            if record.work.order.is_some() {
                return true;
            }
            let (value, header) = (record.record.value.clone(), record.record.schema_header());
            match self.decode(value.as_deref(), header.as_deref()) {
                Ok((order, _)) => {
                    if let Some(record) = self.pending.incomplete.get_mut(offset) {
                        record.work.order = Some(order);
                    }
                    return true;
                }
                Err(Undecoded::NeedsSchema(id) | Undecoded::AwaitsSchema(id)) => {
                    self.await_schema(id, offset);
                }
                Err(Undecoded::Never(cause)) => self.give_up(offset, cause),
            }
            self.pending.ready.pop_front();
        }
        false
    }

    /// Acts on the end of an attempt at an incomplete record.
    pub(super) fn on_attempted(
        &mut self,
        offset: i64,
        order: Order,
        took: Duration,
        result: AttemptResult,
    ) {
        self.reporting.timing.attempt(took, &result);
        if let Some(record) = self.pending.incomplete.get_mut(offset) {
            record.work.order = Some(order);
        }
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(NoAnswer::Panic(panic)) => return self.fail(offset, ErrorType::Panic, panic),
            Err(NoAnswer::Timeout(after)) => {
                let limit_ms = after.as_millis();
                let reason = format!("the handler did not answer within {limit_ms} ms");
                return self.try_again(offset, RetryCause::Timeout, &reason, None);
            }
        };
        match outcome {
            Outcome::Done => self.done(offset),
            Outcome::Transient { reason, retry_after } => {
                self.try_again(offset, RetryCause::Transient, &reason, retry_after);
            }
            Outcome::Permanent { reason } => {
                self.shared.limiter.answered();
                self.fail(offset, ErrorType::Rejected, reason.into_owned());
            }
            Outcome::DependencyDown { reason, retry_after } => {
                self.shared.limiter.down(&reason, retry_after);
                self.postpone(offset, retry_after);
            }
            Outcome::Simulated(SimulatedFailure::Transient(reason)) => {
                self.try_again(offset, RetryCause::Simulated, reason, None);
            }
            Outcome::Simulated(SimulatedFailure::Permanent(reason)) => {
                self.fail(offset, ErrorType::Simulated, reason.to_owned());
            }
        }
    }

    /// Notes that the handler has processed an order.
    #[inline]
    pub(super) fn answered(&mut self) {
        self.shared.limiter.answered();
        // An order that ends after the partition was paused began before.
        if self.dead_letters.limit_pause.is_none() {
            self.state.clear_dlq_limit();
        }
    }

    fn done(&mut self, offset: i64) {
        self.answered();
        let Some((record, next)) = self.pending.incomplete.remove(offset) else { return };
        self.pending.ready.extend(next);
        let Work { attempts, order: Some(order), origin, .. } = record.work else { return };
        let timestamp_ms = record.record.counts_at_ms;
        let completed = CompletedOrder { timestamp_ms, price: order.price, attempts, origin };
        self.state.complete_order(offset, completed);
        if self.reporting.lines_reserved == 0 {
            self.reporting.lines_reserved = self.shared.reporter.reserve(1);
        }
        self.processed(offset, &order, attempts, raw(&record.record.headers));
    }

    /// Lets a record wait for its next attempt, unless it was the last one.
    fn try_again(
        &mut self,
        offset: i64,
        cause: RetryCause,
        reason: &str,
        retry_after: Option<Duration>,
    ) {
        let limiter = &self.shared.limiter;
        let Some(record) = self.pending.incomplete.get_mut(offset) else { return };
        let work = &mut record.work;
        let attempts = work.attempts;
        // Outages and pauses do not count: the order could not have been tried again meanwhile.
        let uptime = limiter.uptime().saturating_sub(self.shared.pause_switch.paused_time());
        let elapsed = uptime.saturating_sub(*work.first_failure.get_or_insert(uptime));
        let retry = &self.shared.settings.retry;
        let delay = retry.delay_after(attempts, elapsed, retry_after, rand::random);
        // A simulated failure says nothing about the handler's dependency.
        if cause != RetryCause::Simulated {
            let failure = TransientFailure {
                record: (self.session.epoch, offset),
                first: work.streak,
                is_last: delay.is_none(),
                retry_after: retry_after.unwrap_or_default(),
            };
            match limiter.failed(&failure, reason) {
                Fault::Order(streak) => work.streak = work.streak.or(Some(streak)),
                Fault::Dependency => return self.postpone(offset, retry_after),
            }
        }
        let Some(delay) = delay else {
            let message = format!("{reason} (after {attempts} attempts)");
            return self.fail(offset, ErrorType::RetriesExhausted, message);
        };
        self.shared.instruments.retry(cause);
        self.shared.reporter.retrying(about(&self.tp, record), attempts, delay, reason);
        self.state.record_attempts(offset, attempts);
        self.pending.incomplete.wait(offset, Instant::now() + delay);
    }

    /// Lets a record wait whose attempt does not count, because the handler's dependency is down.
    fn postpone(&mut self, offset: i64, retry_after: Option<Duration>) {
        let Some(record) = self.pending.incomplete.get_mut(offset) else { return };
        record.work.attempts = record.work.attempts.saturating_sub(1);
        let pause = retry_after.unwrap_or_default().clamp(PROBE_PAUSE.0, RETRY_AFTER_MAX);
        self.pending.incomplete.wait(offset, Instant::now() + pause);
        self.note_prober();
    }

    fn fail(&mut self, offset: i64, error_type: ErrorType, message: String) {
        let record = self.pending.incomplete.get_mut(offset);
        let schema_id = record.and_then(|record| record.work.schema_id);
        self.give_up(offset, LetterCause::new(error_type, message, schema_id));
    }
}
