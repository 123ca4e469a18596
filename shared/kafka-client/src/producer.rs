//! The idempotent producer. It writes batches of any records to any partitions.
//!
//! A batch is sent until the leader of its partition has it, refuses it, or its deadline passes. Batches of one partition keep
//! their order, and each is in the log once, however often it is sent (KIP-98; the rules are those of
//! [`kafka_core::producer`]). One task owns the partitions; each broker has a connection of its own with up to five
//! requests in flight, and each request holds a batch of every partition that has one to send.
//!
//! ```text
//!  send ──► queue of the partition ──► request to its leader ──► answer ──► outcome
//!                    ▲                                              │
//!                    └─ pause, new metadata, new connection ◄───────┘ error, no answer
//! ```
//!
//! Produce: <https://kafka.apache.org/protocol#The_Messages_Produce>, `InitProducerId`:
//! <https://kafka.apache.org/protocol#The_Messages_InitProducerId>.

mod broker;
mod driver;
mod error;
mod identity;
mod partition;
mod record;
mod request;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_core::TopicPartition;
use kafka_core::compression::Compression;
use kafka_core::record_batch::EncodedBatch;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::driver::Driver;
pub use self::error::ProduceError;
pub use self::record::{BATCH_BYTES_MAX, ProducerRecord};
use crate::cluster::Cluster;

/// Batches that wait for the producer's task. Callers bound what they have queued behind it.
const COMMANDS_MAX: usize = 64;

/// Observer of attempts.
#[derive(Clone)]
pub struct OnAttempt(Arc<Observer>);

type Observer = dyn Fn(&TopicPartition, Attempted) + Send + Sync;

/// An attempt to write a batch that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Attempted {
    /// From sending it to the answer, or to the failure.
    pub duration: Duration,
    /// Why it failed, for metrics: [`BROKER_ERROR`], [`NO_ANSWER`] or [`NOT_SENT`].
    pub error_type: Option<&'static str>,
}

/// The broker answered with an error.
pub const BROKER_ERROR: &str = "broker_error";
/// The request was sent, at least in part, and has no answer.
pub const NO_ANSWER: &str = "no_answer";
/// Nothing was sent.
pub const NOT_SENT: &str = "not_sent";

impl OnAttempt {
    /// Calls `observe` after every attempt. It must not block.
    pub fn new(observe: impl Fn(&TopicPartition, Attempted) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    /// Reports an attempt.
    pub fn observe(&self, target: &TopicPartition, attempted: Attempted) {
        (self.0)(target, attempted);
    }
}

impl fmt::Debug for OnAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnAttempt").finish_non_exhaustive()
    }
}

/// Where a batch is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record; the others follow it without a gap. `None` if an answer was lost, and only a later one has
    /// shown that the batch is in the log.
    pub base_offset: Option<i64>,
}

/// The outcome of a batch.
pub type Produced = Result<Appended, ProduceError>;

/// Why batches wait, by partition: the last failure since the last success.
pub type Failures = BTreeMap<TopicPartition, String>;

/// A batch on its way to the producer's task.
#[derive(Debug)]
struct NewBatch {
    target: TopicPartition,
    batch: EncodedBatch,
    deadline: Instant,
    outcome: oneshot::Sender<Produced>,
}

/// An idempotent producer. Cloning shares it; it ends with the last clone.
#[derive(Clone, Debug)]
pub struct Producer {
    batches: mpsc::Sender<NewBatch>,
    failures: watch::Receiver<Failures>,
    /// Owns the producer's task.
    _tasks: Arc<JoinSet<()>>,
}

impl Producer {
    /// Starts a producer with acks=all, without connecting to the cluster; must be called within a tokio runtime.
    pub fn start(cluster: Cluster, on_attempt: Option<OnAttempt>) -> Self {
        Self::start_retrying(cluster, 0, on_attempt)
    }

    /// As [`Producer::start`]; a batch that the broker refuses is sent again up to `refusals_max` times, before the batches behind
    /// it, unless it is too large.
    pub fn start_retrying(
        cluster: Cluster,
        refusals_max: u32,
        on_attempt: Option<OnAttempt>,
    ) -> Self {
        let (batches, new_batches) = mpsc::channel(COMMANDS_MAX);
        let mut tasks = JoinSet::new();
        let (failures_tx, failures) = watch::channel(Failures::new());
        tasks.spawn(Driver::new(cluster, refusals_max, on_attempt, failures_tx).run(new_batches));
        Self { batches, failures, _tasks: Arc::new(tasks) }
    }

    /// Returns why batches wait; the receiver sees every change. The producer tries again by itself.
    pub fn failures(&self) -> watch::Receiver<Failures> {
        self.failures.clone()
    }

    /// Queues a batch and returns its outcome to come. Batches of one partition are written in the order of these calls. A batch
    /// expires at `deadline`, but not before those ahead of it.
    ///
    /// # Cancel safety
    /// A dropped future may or may not have queued the batch.
    pub async fn enqueue(
        &self,
        target: TopicPartition,
        batch: EncodedBatch,
        deadline: Instant,
    ) -> Delivery {
        let (outcome, delivery) = oneshot::channel();
        let unknown = target.clone();
        let batch = NewBatch { target, batch, deadline, outcome };
        if self.batches.send(batch).await.is_err() {
            tracing::debug!("the producer's task has ended");
        }
        Delivery { target: unknown, outcome: delivery }
    }

    /// Writes `records` as one uncompressed batch and waits for the outcome; see [`Producer::enqueue`].
    ///
    /// # Errors
    /// - [`ProduceError::Refused`]: nothing was written, and these records will not be accepted as they are.
    /// - [`ProduceError::NotSent`]: nothing was written before the deadline.
    /// - [`ProduceError::Unknown`]: the records may have been written.
    ///
    /// # Cancel safety
    /// The outcome is lost when the future is dropped: the records may still be written.
    pub async fn produce(
        &self,
        target: &TopicPartition,
        records: &[ProducerRecord],
        deadline: Instant,
    ) -> Produced {
        let batch = record::encode(records, Compression::None)
            .map_err(|cause| ProduceError::NotSent { target: target.clone(), cause })?;
        self.enqueue(target.clone(), batch, deadline).await.outcome().await
    }
}

/// The outcome of a queued batch, to come.
#[derive(Debug)]
#[must_use = "the batch may fail"]
pub struct Delivery {
    target: TopicPartition,
    outcome: oneshot::Receiver<Produced>,
}

impl Delivery {
    /// Waits for the outcome, which comes soon after the batch's deadline at the latest.
    ///
    /// # Errors
    /// As [`Producer::produce`].
    ///
    /// # Cancel safety
    /// The outcome is lost when the future is dropped.
    pub async fn outcome(self) -> Produced {
        self.outcome.await.unwrap_or_else(|_ended| {
            let cause = "the producer has ended".to_owned();
            Err(ProduceError::Unknown { target: self.target, cause })
        })
    }
}
