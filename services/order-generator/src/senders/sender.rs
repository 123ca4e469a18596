//! The sender of one partition: it delivers all queued orders as a batch, and reports them.
//!
//! A batch has the orders that queued up during the delivery before it: a single order at a low rate, thousands under load.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use kafka_client::writer::ProduceError;
use kafka_core::TopicPartition;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::report::Report;
use crate::senders::batch::{BATCH_ORDERS_MAX, Batch, Encoder, PendingOrder};
use crate::senders::delivery::{DeliveryPolicy, Outcome, Transport, deliver};
use crate::senders::outage::Outage;

/// How many consecutive batches the broker may refuse before the sender gives up.
const REFUSALS_IN_A_ROW_MAX: u32 = 10;

/// Delivers the orders of one partition, one batch at a time.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    transport: T,
    target: TopicPartition,
    encoder: Encoder,
    policy: DeliveryPolicy,
    outage: Arc<Outage>,
    report: Arc<Report>,
    /// The most orders in a batch, lowered after the broker found one too large.
    batch_orders_max: usize,
    refusals_in_a_row: u32,
}

impl<T: Transport> Sender<T> {
    /// Returns a new sender of one partition.
    pub(crate) fn new(
        transport: T,
        target: TopicPartition,
        encoder: Encoder,
        policy: DeliveryPolicy,
        outage: Arc<Outage>,
        report: Arc<Report>,
    ) -> Self {
        Self {
            transport,
            target,
            encoder,
            policy,
            outage,
            report,
            batch_orders_max: BATCH_ORDERS_MAX,
            refusals_in_a_row: 0,
        }
    }

    /// Delivers the orders of `queue` until it is closed and empty, or until the sender gives up. Then all remaining orders
    /// have failed, because the sender must not send newer ones.
    ///
    /// When `abandon` is cancelled, the sender gives up the batch in flight at once.
    pub(crate) async fn run(
        mut self,
        mut queue: Receiver<PendingOrder>,
        abandon: CancellationToken,
    ) {
        let mut gathered = Vec::with_capacity(BATCH_ORDERS_MAX);
        while queue.recv_many(&mut gathered, self.batch_size(queue.len())).await > 0 {
            let parts = gathered.split_inclusive(PendingOrder::fills_a_batch);
            let batches = parts.map(|part| self.encoder.encode(part)).collect();
            gathered.clear();
            if let ControlFlow::Break(mut unsent) = self.deliver_in_turn(batches, &abandon).await {
                queue.close();
                while queue.recv().await.is_some() {
                    unsent += 1;
                }
                self.report.never_sent(&self.target, unsent);
            }
        }
    }

    /// Returns the most orders of the next batch.
    ///
    /// Several small batches are faster than one of [`SLOW_BATCH_BYTES`](kafka_client::writer::SLOW_BATCH_BYTES).
    fn batch_size(&self, waiting: usize) -> usize {
        self.encoder.batch_orders_max(waiting).min(self.batch_orders_max)
    }

    /// Delivers a batch, in smaller and smaller parts while the broker finds it too large. Later batches stay as small.
    ///
    /// Breaks when the sender has to give up, with the number of unsent orders.
    async fn deliver_in_turn(
        &mut self,
        mut batches: VecDeque<Batch>,
        abandon: &CancellationToken,
    ) -> ControlFlow<usize> {
        while let Some(mut batch) = batches.pop_front() {
            let outcome = self.deliver(&batch, abandon).await;
            if let Outcome::Failed(error) = &outcome
                && error.is_too_large()
                && batch.orders.len() > 1
            {
                let rest = batch.split_off_half();
                self.batch_orders_max = batch.orders.len();
                warn!(target = %self.target, orders = self.batch_orders_max, "smaller batches: {error}");
                batches.push_front(rest);
                batches.push_front(batch);
                continue;
            }
            if self.conclude(&batch, outcome).is_break() {
                return ControlFlow::Break(batches.iter().map(|batch| batch.orders.len()).sum());
            }
        }
        ControlFlow::Continue(())
    }

    async fn deliver(&self, batch: &Batch, abandon: &CancellationToken) -> Outcome {
        let Self { transport, target, policy, outage, .. } = self;
        let begun = Instant::now();
        let delivery = deliver(transport, target, &batch.records, *policy, outage);
        let Some((outcome, attempts)) = abandon.run_until_cancelled(delivery).await else {
            let (target, cause) = (target.clone(), "the generator was stopped".to_owned());
            return Outcome::Unknown(ProduceError::Unknown { target, cause });
        };
        let (orders, duration) = (batch.orders.len(), begun.elapsed());
        debug!(%target, orders, attempts, ?duration, "batch has an outcome");
        self.report.attempts(orders, attempts);
        outcome
    }

    /// Reports a batch, and returns whether the sender may continue.
    fn conclude(&mut self, batch: &Batch, outcome: Outcome) -> ControlFlow<()> {
        match outcome {
            Outcome::Acknowledged { base_offset } => {
                self.outage.acknowledged(&self.target);
                self.report.acknowledged(&self.target, &batch.orders, base_offset);
                self.refusals_in_a_row = 0;
                ControlFlow::Continue(())
            }
            Outcome::Failed(error) => {
                self.report.failed(&batch.orders, &error);
                self.refusals_in_a_row += 1;
                let is_single = matches!(error, ProduceError::Refused { .. })
                    && self.refusals_in_a_row < REFUSALS_IN_A_ROW_MAX;
                if is_single { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            }
            Outcome::Unknown(error) => {
                self.report.unknown(&batch.orders, &error);
                ControlFlow::Break(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
