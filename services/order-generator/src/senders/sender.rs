//! The sender of one partition: it encodes queued orders as batches, and reports their outcomes.
//!
//! A batch has the orders that queued up while the batches before it were in flight: a single order at a low rate, as many as
//! the topic takes under load. Outcomes come in the order of the batches.
//!
//! # Batches that are too large
//!
//! The orders of a batch that the broker finds too large are encoded again as smaller batches, which would come behind those in
//! flight. So while the broker's limit is not known, a batch larger than all before it is sent alone.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kafka_client::producer::{Appended, ProduceError, Produced};
use kafka_core::TopicPartition;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::metrics::Measures;
use crate::report::Report;
use crate::senders::QUEUE_ORDERS_MAX;
use crate::senders::batch::{Batch, Encoder, PendingOrder, Traced, Unencoded};
use crate::senders::delivery::{Delivery, Transport};

/// How many consecutive batches the broker may refuse before the sender gives up.
const REFUSALS_IN_A_ROW_MAX: u32 = 10;

/// Delivers the orders of one partition.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) target: TopicPartition,
    pub(crate) encoder: Encoder,
    /// Whether the broker is known to take the encoder's batches.
    pub(crate) is_limit_known: bool,
    pub(crate) delivery_timeout: Duration,
    pub(crate) measures: Measures,
    pub(crate) report: Arc<Report>,
    /// When cancelled, the sender gives up its batches in flight.
    pub(crate) abandon: CancellationToken,
}

/// A sender at work.
struct Run {
    sender: Sender,
    /// Orders that go into the next batches.
    waiting: Vec<PendingOrder>,
    in_flight: VecDeque<InFlight>,
    /// Orders of batches that were too large, to be encoded again once nothing is in flight.
    too_large: Vec<PendingOrder>,
    /// The most orders in a batch, lowered after the broker found one too large.
    batch_orders_max: usize,
    /// The size of the largest batch that the broker has taken.
    taken_bytes: usize,
    refusals_in_a_row: u32,
}

/// A batch whose outcome is to come.
struct InFlight {
    orders: Vec<PendingOrder>,
    traces: Vec<Traced>,
    bytes: usize,
    started: SystemTime,
    begun: Instant,
    delivery: Delivery,
}

impl Sender {
    /// Delivers the orders of `queue` until it is closed and empty, or until the sender gives up. Then all orders that are not in
    /// flight have failed, because the sender must not send newer ones.
    pub(crate) async fn run(self, mut queue: Receiver<PendingOrder>) {
        let mut run = Run {
            sender: self,
            waiting: Vec::new(),
            in_flight: VecDeque::new(),
            too_large: Vec::new(),
            batch_orders_max: usize::MAX,
            taken_bytes: 0,
            refusals_in_a_row: 0,
        };
        if run.deliver(&mut queue).await.is_break() {
            queue.close();
            let mut unsent = run.waiting.len();
            while queue.recv().await.is_some() {
                unsent += 1;
            }
            while run.settle().await.is_break() {}
            unsent += run.too_large.len();
            run.sender.report.never_sent(&run.sender.target, unsent);
        }
    }
}

impl Run {
    /// Breaks when the sender has to give up.
    async fn deliver(&mut self, queue: &mut Receiver<PendingOrder>) -> ControlFlow<()> {
        let in_flight_max = self.sender.transport.in_flight_max();
        let mut is_closed = false;
        loop {
            if self.in_flight.is_empty() && !self.too_large.is_empty() {
                self.too_large.append(&mut self.waiting);
                std::mem::swap(&mut self.too_large, &mut self.waiting);
            }
            let has_room = self.in_flight.len() < in_flight_max && self.too_large.is_empty();
            if has_room && !self.waiting.is_empty() {
                self.send().await?;
                continue;
            }
            tokio::select! {
                biased;
                produced = outcome(&self.sender, &mut self.in_flight), if !self.in_flight.is_empty() => {
                    self.conclude(produced)?;
                }
                taken = queue.recv_many(&mut self.waiting, QUEUE_ORDERS_MAX), if has_room && !is_closed => {
                    is_closed = taken == 0;
                }
                else => return ControlFlow::Continue(()),
            }
        }
    }

    /// Encodes the next batch and sends it.
    async fn send(&mut self) -> ControlFlow<()> {
        let Sender { ref target, ref report, .. } = self.sender;
        let Batch { orders, encoded, traces } =
            match self.sender.encoder.encode(&mut self.waiting, self.batch_orders_max) {
                Ok(batch) => batch,
                Err(Unencoded { orders, error }) => {
                    let (target, cause) = (target.clone(), format!("compress a batch: {error}"));
                    report.failed(&orders, &ProduceError::NotSent { target, cause });
                    return ControlFlow::Break(());
                }
            };
        let bytes = encoded.encoded_bytes();
        let goes_alone = !self.sender.is_limit_known && self.taken_bytes < bytes;
        if goes_alone {
            let settled = self.settle().await;
            if settled.is_break() || !self.too_large.is_empty() {
                self.too_large.extend(orders);
                return settled;
            }
        }
        let Sender { ref transport, ref target, delivery_timeout, .. } = self.sender;
        let (started, begun) = (SystemTime::now(), Instant::now());
        let delivery = transport.enqueue(target.clone(), encoded, begun + delivery_timeout).await;
        self.in_flight.push_back(InFlight { orders, traces, bytes, started, begun, delivery });
        if goes_alone { self.settle().await } else { ControlFlow::Continue(()) }
    }

    /// Waits for the outcomes of all batches in flight. Breaks when the sender has to give up, which leaves the rest in flight.
    async fn settle(&mut self) -> ControlFlow<()> {
        while !self.in_flight.is_empty() {
            let produced = outcome(&self.sender, &mut self.in_flight).await;
            self.conclude(produced)?;
        }
        ControlFlow::Continue(())
    }

    /// Reports the oldest batch in flight, and returns whether the sender may continue.
    fn conclude(&mut self, produced: Produced) -> ControlFlow<()> {
        let Some(batch) = self.in_flight.pop_front() else { return ControlFlow::Continue(()) };
        let Sender { target, report, measures, .. } = &self.sender;
        let (orders, duration) = (batch.orders.len(), batch.begun.elapsed());
        debug!(%target, orders, bytes = batch.bytes, ?duration, "batch has an outcome");
        measures.sent(target, orders, produced.as_ref().err());
        match produced {
            Ok(Appended { base_offset }) => {
                measures.end_spans(target, &batch.traces, base_offset, batch.started);
                report.acknowledged(target, &batch.orders, base_offset);
                self.taken_bytes = self.taken_bytes.max(batch.bytes);
                self.refusals_in_a_row = 0;
                ControlFlow::Continue(())
            }
            Err(error) if error.is_too_large() && orders > 1 => {
                self.shrink(batch.orders, &error);
                ControlFlow::Continue(())
            }
            Err(error @ ProduceError::Refused { .. }) => {
                report.failed(&batch.orders, &error);
                self.refusals_in_a_row += 1;
                let may_continue = self.refusals_in_a_row < REFUSALS_IN_A_ROW_MAX;
                if may_continue { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            }
            Err(error @ ProduceError::NotSent { .. }) => {
                report.failed(&batch.orders, &error);
                ControlFlow::Break(())
            }
            Err(error @ ProduceError::Unknown { .. }) => {
                report.unknown(&batch.orders, &error);
                ControlFlow::Break(())
            }
        }
    }

    /// Keeps the orders of a batch that is too large, to be sent in halves. Later batches stay as small.
    fn shrink(&mut self, orders: Vec<PendingOrder>, error: &ProduceError) {
        let half = orders.len().div_ceil(2);
        if half < self.batch_orders_max {
            self.batch_orders_max = half;
            warn!(target = %self.sender.target, orders = half, "smaller batches: {error}");
        }
        // The topic's limit was lowered, or was never known.
        self.sender.is_limit_known = false;
        self.taken_bytes = 0;
        self.too_large.extend(orders);
    }
}

/// Waits for the outcome of the oldest batch in flight. It is unknown once the sender's batches are abandoned.
///
/// # Cancel safety
/// Cancel safe.
async fn outcome(sender: &Sender, in_flight: &mut VecDeque<InFlight>) -> Produced {
    let unknown = |cause: &str| {
        Err(ProduceError::Unknown { target: sender.target.clone(), cause: cause.to_owned() })
    };
    let Some(batch) = in_flight.front_mut() else { return unknown("nothing is in flight") };
    let produced = sender.abandon.run_until_cancelled(batch.delivery.outcome()).await;
    produced.unwrap_or_else(|| unknown("the generator was stopped"))
}

#[cfg(test)]
mod tests;
