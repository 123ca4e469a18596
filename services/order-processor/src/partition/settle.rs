//! What becomes of an attempt: done, tried again, or written to the dead-letter topic.

use std::borrow::Cow;
use std::time::Duration;

use dead_letter::{ErrorType, RawHeader};
use kafka_core::TopicPartition;
use order_avro::Order;
use order_ledger::checkpoint::CompletedOrder;
use service_runtime::trace_context::{Trace, TraceContext};
use tokio::time::Instant;

use super::dispatch::{Poison, Undecoded};
use super::held::{Headers, HeldRecord, Work};
use super::{Attempted, Broken, Finished, Worker};
use crate::flow::circuit_breaker::{Fault, PROBE_PAUSE, TransientFailure};
use crate::flow::limiter::Permit;
use crate::flow::retry::RETRY_AFTER_MAX;
use crate::handler::simulation::SimulatedFailure;
use crate::handler::{Handler, Outcome};
use crate::telemetry::labels::RetryCause;
use crate::telemetry::report::About;

/// What a transient failure says beside its reason.
struct Transient {
    reason: Cow<'static, str>,
    retry_after: Option<Duration>,
    /// What kind of failure it is; one that is simulated tells nothing about what the handler depends on.
    cause: RetryCause,
}

impl<H: Handler> Worker<'_, H> {
    /// Acts on the end of work in flight. Its permit goes to whoever waits longest.
    pub(super) fn on_finished(
        &mut self,
        (finished, took, _permit): (Finished, Duration, Option<Permit>),
    ) {
        match finished {
            Finished::Attempt { offset, order, outcome } => {
                self.timing.attempt(took, &outcome);
                if let Some(held) = self.held.get_mut(offset) {
                    held.work.order = Some(order);
                }
                self.settle(offset, outcome);
            }
            Finished::Letter { offset, last_offset, error_type, outcome: Ok(()) } => {
                self.letters -= 1;
                if let Some((held, next)) = self.held.release(offset) {
                    let Work { attempts, origin, .. } = held.work;
                    let is_counted = match last_offset {
                        Some(last) => self.state.complete_range(offset, last, attempts),
                        None => self.state.complete_dead_letter(offset, attempts, origin),
                    };
                    if is_counted {
                        self.shared.instruments.dead_letter(error_type);
                    }
                    self.ready.extend(next);
                }
            }
            Finished::Letter { offset, outcome: Err(error), .. } => {
                self.letters -= 1;
                tracing::debug!(partition = %self.tp, offset, ?error, "dead letter given up");
            }
        }
    }

    /// Starts every waiting record that is due.
    pub(super) fn start_due(&mut self) {
        let now = Instant::now();
        while let Some(offset) = self.held.pop_due(now) {
            self.ready.push_back(offset);
        }
        self.start_ready();
    }

    /// Returns whether the partition is not stopped.
    pub(super) fn may_begin(&self) -> bool {
        self.guarded.is_none() && !self.shared.halt.is_on()
    }

    /// Starts what may start, one after the other, for as long as attempts end at once.
    pub(super) fn start_ready(&mut self) {
        if self.draining.is_some() {
            self.ready.clear();
        }
        while self.decode_next_ready() && self.permits.allow() {
            if self.permits.leave_probe_to_newcomer() {
                return;
            }
            let Some(offset) = self.ready.pop_front() else { return };
            let traces = self.traces();
            let Some(held) = self.held.get_mut(offset) else { continue };
            let Some(order) = held.work.order.take() else { continue };
            held.work.attempts += 1;
            let attempts = held.work.attempts;
            let place = held.place(traces);
            if let Some((order, outcome)) = self.start(place, order, attempts) {
                self.timing.attempt(Duration::ZERO, &outcome);
                if let Some(held) = self.held.get_mut(offset) {
                    held.work.order = Some(order);
                }
                self.settle(offset, outcome);
            }
            self.permits.end_probe();
        }
    }

    /// Decodes the next record that may start, if it was held undecoded, and returns whether there is one.
    fn decode_next_ready(&mut self) -> bool {
        while self.may_begin()
            && let Some(&offset) = self.ready.front()
        {
            let Some(held) = self.held.get_mut(offset) else { return true };
            if held.work.order.is_some() {
                return true;
            }
            let (value, header) = (held.record.value.clone(), held.record.schema_header());
            match self.decode(value.as_deref(), header.as_deref()) {
                Ok((order, _)) => {
                    if let Some(held) = self.held.get_mut(offset) {
                        held.work.order = Some(order);
                    }
                    return true;
                }
                Err(Undecoded::NeedsSchema(id) | Undecoded::AwaitsSchema(id)) => {
                    self.await_schema(id, offset);
                }
                Err(Undecoded::Poison(poison)) => self.give_up(offset, poison),
            }
            self.ready.pop_front();
        }
        false
    }

    /// Acts on the outcome of an attempt at a held record.
    pub(super) fn settle(&mut self, offset: i64, outcome: Attempted) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(Broken::Panic(panic)) => return self.fail(offset, ErrorType::Panic, panic),
            Err(Broken::Timeout(after)) => {
                let limit_ms = after.as_millis();
                let reason = format!("the handler did not answer within {limit_ms} ms").into();
                let cause = RetryCause::Timeout;
                return self.try_again(offset, Transient { reason, retry_after: None, cause });
            }
        };
        match outcome {
            Outcome::Done => self.done(offset),
            Outcome::Transient { reason, retry_after } => {
                let cause = RetryCause::Transient;
                self.try_again(offset, Transient { reason, retry_after, cause });
            }
            Outcome::Permanent { reason } => {
                self.shared.gate.answered();
                self.fail(offset, ErrorType::Rejected, reason.into_owned());
            }
            Outcome::DependencyDown { reason, retry_after } => {
                self.shared.gate.down(&reason, retry_after);
                self.postpone(offset, retry_after);
            }
            Outcome::Simulated(SimulatedFailure::Transient(reason)) => {
                let (reason, cause) = (Cow::Borrowed(reason), RetryCause::Simulated);
                self.try_again(offset, Transient { reason, retry_after: None, cause });
            }
            Outcome::Simulated(SimulatedFailure::Permanent(reason)) => {
                self.fail(offset, ErrorType::Simulated, reason.to_owned());
            }
        }
    }

    /// Takes note that an order is done.
    #[inline]
    pub(super) fn answered(&mut self) {
        self.shared.gate.answered();
        // What ends after a stop was begun before it.
        if self.guarded.is_none() {
            self.state.clear_dlq_limit();
        }
    }

    fn done(&mut self, offset: i64) {
        self.answered();
        let Some((held, next)) = self.held.release(offset) else { return };
        self.ready.extend(next);
        let Work { attempts, order: Some(order), origin, .. } = held.work else { return };
        let timestamp_ms = held.record.counts_at_ms;
        let completed = CompletedOrder { timestamp_ms, price: order.price, attempts, origin };
        self.state.complete_order(offset, completed);
        if self.lines_reserved == 0 {
            self.lines_reserved = self.shared.reporter.reserve(1);
        }
        self.processed(offset, &order, attempts, raw(&held.record.headers));
    }

    /// Lets a record wait for its next attempt, unless it was the last one.
    fn try_again(&mut self, offset: i64, failed: Transient) {
        let Transient { reason, retry_after, cause } = failed;
        let gate = &self.shared.gate;
        let Some(held) = self.held.get_mut(offset) else { return };
        let work = &mut held.work;
        let attempts = work.attempts;
        // Neither an outage nor a stop is time in which it could have been tried again.
        let uptime = gate.uptime().saturating_sub(self.shared.halt.time_on());
        let elapsed = uptime.saturating_sub(*work.first_failure.get_or_insert(uptime));
        let delay = self.shared.retry.delay_after(attempts, elapsed, retry_after, rand::random);
        if cause != RetryCause::Simulated {
            let failure = TransientFailure {
                record: (self.epoch, offset),
                first: work.streak,
                is_last: delay.is_none(),
                retry_after: retry_after.unwrap_or_default(),
            };
            match gate.failed(&failure, &reason) {
                Fault::Order(streak) => work.streak = work.streak.or(Some(streak)),
                Fault::Dependency => return self.postpone(offset, retry_after),
            }
        }
        let Some(delay) = delay else {
            let message = format!("{reason} (after {attempts} attempts)");
            return self.fail(offset, ErrorType::RetriesExhausted, message);
        };
        self.shared.instruments.retry(cause);
        let about = about(&self.tp, held);
        self.shared.reporter.retrying(about, attempts, delay, &reason);
        self.state.record_attempts(offset, attempts);
        self.held.wait(offset, Instant::now() + delay);
    }

    /// Lets a record wait whose attempt does not count, because what it needs is down.
    fn postpone(&mut self, offset: i64, retry_after: Option<Duration>) {
        let Some(held) = self.held.get_mut(offset) else { return };
        held.work.attempts = held.work.attempts.saturating_sub(1);
        let pause = retry_after.unwrap_or_default().clamp(PROBE_PAUSE.0, RETRY_AFTER_MAX);
        self.held.wait(offset, Instant::now() + pause);
        self.note_prober();
    }

    fn fail(&mut self, offset: i64, error_type: ErrorType, message: String) {
        let schema_id = self.held.get_mut(offset).and_then(|held| held.work.schema_id);
        self.give_up(offset, Poison { error_type, message, schema_id, offsets: None });
    }

    /// Writes a line about an order that was processed, or counts it.
    #[inline]
    pub(super) fn processed<'h>(
        &mut self,
        offset: i64,
        order: &Order,
        attempts: u32,
        headers: impl Iterator<Item = RawHeader<'h>>,
    ) {
        if self.lines_reserved == 0 {
            self.lines_withheld += 1;
        } else {
            self.lines_reserved -= 1;
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

/// Returns what lines of the log say about a held record.
pub(super) fn about<'a>(tp: &'a TopicPartition, held: &'a HeldRecord) -> About<'a> {
    let trace = Trace::of(raw(&held.record.headers));
    About {
        tp,
        offset: held.record.offset,
        order: held.work.order.as_ref(),
        trace_id: trace.map(|trace| trace.context.trace_id()),
    }
}

pub(super) fn raw(headers: &Headers) -> impl Iterator<Item = RawHeader<'_>> {
    headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref()))
}
