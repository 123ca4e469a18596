//! Delivering one batch: sending the identical records until the broker has them, refuses them, or time is up.
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
//! Nothing newer is sent to the partition before the batch has an outcome, and after [`Outcome::Unknown`] nothing is
//! sent to it any more. A request that reaches the broker late can therefore only repeat records that readers have
//! seen from this producer, or be the last one.

use std::time::Duration;

use kafka_client::writer::{OutgoingRecord, ProduceError, Writer};
use kafka_core::TopicPartition;
use tokio::time::{Instant, sleep};

use crate::senders::outage::Outage;

/// How long a broker may take to acknowledge a batch before the batch is sent again: as long as it is told in the
/// request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause before the second attempt; each further one is twice as long.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Sends records to a partition once; what the generator needs of [`Writer`].
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

/// How hard a delivery tries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryPolicy {
    /// How often a batch is sent again that the broker refuses.
    pub(crate) retries_max: u32,
    /// How long a batch is sent again without an acknowledgement.
    pub(crate) timeout: Duration,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All in-sync replicas have it, from this offset on.
    Acknowledged {
        /// The offset of the first record.
        base_offset: i64,
    },
    /// It has not been written.
    Failed(ProduceError),
    /// It may have been written or not.
    Unknown(ProduceError),
}

/// Delivers records to one partition and returns the outcome with the number of attempts, at least one.
///
/// Records that are too large together are not tried again together.
///
/// # Cancel safety
///
/// The outcome is lost when the future is dropped; the records may be written all the same.
pub(crate) async fn deliver<T: Transport>(
    transport: &T,
    target: &TopicPartition,
    records: &[OutgoingRecord],
    policy: DeliveryPolicy,
    outage: &Outage,
) -> (Outcome, u32) {
    let give_up = Instant::now() + policy.timeout;
    let mut backoff = BACKOFF_FIRST;
    let mut attempts = 0;
    let mut refusals = 0;
    // What happened to the last attempt that may have been written although it was not acknowledged.
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
                Instant::now() + backoff >= give_up
            }
        };
        if matches!(error, ProduceError::Unknown { .. }) {
            in_doubt = Some(error.clone());
        }
        if is_last {
            let outcome = in_doubt.map_or(Outcome::Failed(error), Outcome::Unknown);
            return (outcome, attempts);
        }
        sleep(backoff).await;
        backoff = BACKOFF_MAX.min(backoff * 2);
    }
}

#[cfg(test)]
mod tests;
