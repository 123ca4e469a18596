//! What becomes of an attempt: done, tried again, or written to the dead-letter topic.

use std::any::Any;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::FutureExt;
use kafka_client::writer::OutgoingRecord;
use order_avro::Order;
use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;

use super::dispatch::Poison;
use super::held::Work;
use super::{Attempted, Finished, Worker};
use crate::checkpoint::CompletedOrder;
use crate::dead_letter::{DeadLetter, ErrorType, FailedRecord, Failure};
use crate::handler::{Attempt, Handler, Outcome};
use crate::letters::LetterError;

impl<H: Handler> Worker<'_, H> {
    /// Starts an attempt; returns its outcome if it ended at once, and otherwise keeps it in flight.
    pub(super) fn start(
        &mut self,
        offset: i64,
        order: Order,
        number: u32,
    ) -> Option<(Order, Attempted)> {
        let shared = self.shared;
        let (topic, partition) = (self.topic, self.tp.partition);
        let attempt = async move {
            let attempt = Attempt { number, topic, partition, offset };
            let handled = AssertUnwindSafe(shared.handler.handle(&order, attempt)).catch_unwind();
            let outcome = handled.await.map_err(|panic| panic_message(&*panic));
            Finished::Attempt { offset, order, outcome }
        };
        let mut future = match self.spare.take() {
            Some(mut spare) => {
                spare.set(attempt);
                spare
            }
            None => ReusableBoxFuture::new(attempt),
        };
        // The waker does nothing: a future that is pending is polled again as soon as it is in flight.
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Finished::Attempt { order, outcome, .. }) => {
                self.spare = Some(future);
                Some((order, outcome))
            }
            Poll::Ready(Finished::Letter { .. }) => None,
            Poll::Pending => {
                self.in_flight.push(future);
                None
            }
        }
    }

    pub(super) fn on_finished(&mut self, finished: Finished) {
        match finished {
            Finished::Attempt { offset, order, outcome } => {
                if let Some(held) = self.held.get_mut(offset) {
                    held.work.order = Some(order);
                }
                self.settle(offset, outcome);
            }
            Finished::Letter { offset, outcome: Ok(()) } => {
                if let Some((held, next)) = self.held.release(offset) {
                    self.state.complete_dead_letter(offset, held.work.attempts, held.work.origin);
                    self.ready.extend(next);
                }
            }
            Finished::Letter { offset, outcome: Err(error) } => {
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

    /// Starts what may start, one after the other, for as long as attempts end at once.
    pub(super) fn start_ready(&mut self) {
        if self.draining.is_some() {
            self.ready.clear();
        }
        while let Some(offset) = self.ready.pop_front() {
            let Some(held) = self.held.get_mut(offset) else { continue };
            let Some(order) = held.work.order.take() else { continue };
            held.work.attempts += 1;
            let attempts = held.work.attempts;
            if let Some((order, outcome)) = self.start(offset, order, attempts) {
                if let Some(held) = self.held.get_mut(offset) {
                    held.work.order = Some(order);
                }
                self.settle(offset, outcome);
            }
        }
    }

    /// Acts on the outcome of an attempt at a held record.
    pub(super) fn settle(&mut self, offset: i64, outcome: Attempted) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(panic) => return self.fail(offset, ErrorType::Panic, panic),
        };
        match outcome {
            Outcome::Done => {
                let Some((held, next)) = self.held.release(offset) else { return };
                self.ready.extend(next);
                let Work { attempts, order: Some(order), origin, .. } = held.work else { return };
                let timestamp_ms = held.record.timestamp_ms;
                let completed =
                    CompletedOrder { timestamp_ms, price: order.price, attempts, origin };
                self.state.complete_order(offset, completed);
                self.lines_admitted = self.lines_admitted.max(self.shared.reporter.admit(1));
                self.processed(offset, &order, attempts);
            }
            Outcome::Transient { reason, retry_after } => {
                let Some(held) = self.held.get_mut(offset) else { return };
                let attempts = held.work.attempts;
                let delay = self.shared.retry.delay_after(attempts, retry_after, rand::random);
                let Some(delay) = delay else {
                    let message = format!("{reason} (after {attempts} attempts)");
                    return self.fail(offset, ErrorType::RetriesExhausted, message);
                };
                self.state.record_attempts(offset, attempts);
                self.held.wait(offset, Instant::now() + delay);
                let order = self.held.get_mut(offset).and_then(|held| held.work.order.as_ref());
                self.shared.reporter.retrying(&self.tp, offset, order, attempts, delay, &reason);
            }
            Outcome::Permanent { reason } => {
                self.fail(offset, ErrorType::Rejected, reason.into_owned());
            }
            Outcome::Simulated { reason } => {
                self.fail(offset, ErrorType::Simulated, reason.into_owned());
            }
        }
    }

    fn fail(&mut self, offset: i64, error_type: ErrorType, message: String) {
        let schema_id = self.held.get_mut(offset).and_then(|held| held.work.schema_id);
        self.dead_letter(offset, &Poison { error_type, message, schema_id });
    }

    /// Writes a held record to the dead-letter topic; it is complete when the letter is acknowledged.
    pub(super) fn dead_letter(&mut self, offset: i64, poison: &Poison) {
        let Some(held) = self.held.get_mut(offset) else { return };
        let order = held.work.order.as_ref();
        self.shared.reporter.dead_letter(
            &self.tp,
            offset,
            order,
            poison.error_type,
            &poison.message,
        );
        let record = &held.record;
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref())).collect();
        let failed = FailedRecord {
            topic: &self.tp.topic,
            topic_id: self.topic_id,
            partition: self.tp.partition,
            offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let failed_at_ms = now_ms();
        let failure = Failure {
            error_type: poison.error_type,
            message: &poison.message,
            attempts: held.work.attempts,
            schema_id: poison.schema_id,
            failed_at_ms,
            group: &self.shared.group_id,
        };
        let letter = DeadLetter::build(&failed, &failure);
        let letters = self.shared.letters.clone();
        let partition = self.tp.partition;
        self.in_flight.push(ReusableBoxFuture::new(async move {
            let outcome = match letters.write(partition, outgoing(&letter, failed_at_ms)).await {
                Err(LetterError::TooLarge) => {
                    let reduced = outgoing(&letter.without_value(), failed_at_ms);
                    letters.write(partition, reduced).await
                }
                outcome => outcome,
            };
            Finished::Letter { offset, outcome }
        }));
    }

    /// Writes a line about an order that was processed, while lines are admitted.
    pub(super) fn processed(&mut self, offset: i64, order: &Order, attempts: u32) {
        if self.lines_admitted > 0 {
            self.lines_admitted -= 1;
            self.shared.reporter.processed(
                &self.tp,
                offset,
                order,
                attempts,
                self.state.aggregate(),
            );
        }
    }
}

fn outgoing(letter: &DeadLetter, timestamp_ms: i64) -> OutgoingRecord {
    let bytes = |bytes: &Vec<u8>| Bytes::copy_from_slice(bytes);
    OutgoingRecord {
        key: letter.key.as_ref().map(bytes),
        value: letter.value.as_ref().map(bytes),
        headers: letter
            .headers
            .iter()
            .map(|(name, value)| (Cow::Owned(name.clone()), bytes(value)))
            .collect(),
        timestamp_ms,
    }
}

/// Reads what a panicking handler said.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", said.unwrap_or("without a message"))
}

fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
