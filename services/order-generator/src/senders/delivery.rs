//! Delivery of one batch: identical records in every attempt until the broker has them, refuses them, or time is up.
//!
//! ```text
//!              ┌──── not sent or unknown, time left: wait, send the identical records again ────┐
//!              ↓                                                                                │
//! records ─→ send ─┬─ acknowledged ──────────────────────────→ Acknowledged                     │
//!              ↑   ├─ not sent, unknown ────────────────────────────────────────────────────────┴─→ Unknown, Failed
//!              │   └─ refused ─┬─ tried often enough ────────→ Failed
//!              └── tries left ─┘
//! ```
//!
//! The sender sends newer records to the partition only after the batch has an outcome, and none after
//! [`Outcome::Unknown`]. A late request therefore either repeats records that readers know, or is the last one.

use std::time::Duration;

use kafka_client::writer::{OutgoingRecord, ProduceError, Writer};
use kafka_core::TopicPartition;
use pacing::Backoff;
use tokio::time::Instant;

use crate::senders::outage::Outage;

/// How long to wait for the acknowledgement of a batch before the next attempt, which is also the request's timeout.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause before the second attempt; each further pause is twice as long.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Sends records to a partition once.
pub(crate) trait Transport: Clone + Send + Sync + 'static {
    /// Sends the records and returns the offset of the first; see [`Writer::produce`].
    fn produce(
        &self,
        target: &TopicPartition,
        records: &[OutgoingRecord],
        deadline: Instant,
    ) -> impl Future<Output = Result<i64, ProduceError>> + Send;
}

impl Transport for Writer {
    async fn produce(
        &self,
        target: &TopicPartition,
        records: &[OutgoingRecord],
        deadline: Instant,
    ) -> Result<i64, ProduceError> {
        Self::produce(self, target, records, deadline).await
    }
}

/// The retries of a delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryPolicy {
    /// The most retries of a batch that the broker refuses.
    pub(crate) retries_max: u32,
    /// The longest time of attempts without an acknowledgement.
    pub(crate) timeout: Duration,
}

/// The outcome of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All in-sync replicas have the batch.
    Acknowledged {
        /// The offset of the first record.
        base_offset: i64,
    },
    /// The broker has not written the batch.
    Failed(ProduceError),
    /// The broker may have written the batch.
    Unknown(ProduceError),
}

/// Delivers records to one partition, and returns the outcome and the number of attempts.
///
/// It does not retry a batch that the broker finds too large.
///
/// # Cancel safety
///
/// Not cancel safe: a dropped future loses the outcome of records that the broker may write.
pub(crate) async fn deliver<T: Transport>(
    transport: &T,
    target: &TopicPartition,
    records: &[OutgoingRecord],
    policy: DeliveryPolicy,
    outage: &Outage,
) -> (Outcome, u32) {
    let give_up = Instant::now() + policy.timeout;
    let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
    let mut attempts = 0;
    let mut refusals = 0;
    // The error of the last attempt whose records may have been written.
    let mut in_doubt: Option<ProduceError> = None;
    loop {
        attempts += 1;
        let deadline = give_up.min(Instant::now() + REQUEST_TIMEOUT);
        let error = match transport.produce(target, records, deadline).await {
            Ok(base_offset) => return (Outcome::Acknowledged { base_offset }, attempts),
            Err(error) => error,
        };
        if error.is_too_large() && records.len() > 1 {
            return (Outcome::Failed(error), attempts);
        }
        let is_last = match error {
            ProduceError::Refused { .. } => {
                refusals += 1;
                refusals > policy.retries_max
            }
            ProduceError::NotSent { .. } | ProduceError::Unknown { .. } => {
                outage.waiting(target, &error);
                Instant::now() + backoff.peek() >= give_up
            }
        };
        if matches!(error, ProduceError::Unknown { .. }) {
            in_doubt = Some(error.clone());
        }
        if is_last {
            let outcome = in_doubt.map_or(Outcome::Failed(error), Outcome::Unknown);
            return (outcome, attempts);
        }
        backoff.wait().await;
    }
}

#[cfg(test)]
mod tests;
