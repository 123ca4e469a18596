//! How batches get to the broker: by the producer of this product, or by rskafka.

use std::fmt;
use std::pin::Pin;

use kafka_client::producer::{Produced, Producer};
use kafka_core::TopicPartition;
use kafka_core::producer::BATCHES_SENT_MAX;
use kafka_core::record_batch::EncodedBatch;
use tokio::time::Instant;

/// The outcome of a batch, to come.
pub(crate) struct Delivery(Pin<Box<dyn Future<Output = Produced> + Send>>);

/// The queuing of a batch, to be awaited before the next batch of its partition is queued.
pub(crate) type Queued<'a> = Pin<Box<dyn Future<Output = Delivery> + Send + 'a>>;

impl Delivery {
    /// Wraps a future that waits for the outcome.
    pub(crate) fn new(outcome: impl Future<Output = Produced> + Send + 'static) -> Self {
        Self(Box::pin(outcome))
    }

    /// Waits for the outcome.
    ///
    /// # Cancel safety
    /// Cancel safe. It must not be called again once it has returned.
    pub(crate) async fn outcome(&mut self) -> Produced {
        self.0.as_mut().await
    }
}

/// Delivers batches: each is sent until the broker has it, refuses it, or its deadline has passed.
pub(crate) trait Transport: fmt::Debug + Send + Sync {
    /// Returns how many batches of a partition may wait for their outcome.
    fn in_flight_max(&self) -> usize;

    /// Queues a batch. Batches of one partition are written in the order of these calls.
    fn enqueue(&self, target: TopicPartition, batch: EncodedBatch, deadline: Instant)
    -> Queued<'_>;

    /// Notes that the topic has got more partitions.
    fn has_grown(&self) {}
}

impl Transport for Producer {
    fn in_flight_max(&self) -> usize {
        BATCHES_SENT_MAX
    }

    fn enqueue(
        &self,
        target: TopicPartition,
        batch: EncodedBatch,
        deadline: Instant,
    ) -> Queued<'_> {
        Box::pin(async move {
            let delivery = Self::enqueue(self, target, batch, deadline).await;
            Delivery::new(delivery.outcome())
        })
    }
}
