//! Writes dead letters: one queue for each partition of the dead-letter topic, which batches letters while one request is in
//! flight.
//!
//! A letter is written when the broker has acknowledged it. Until then its record is incomplete, and no commit passes it.
//! Letters are sent again until the topic takes them; a worker gives a letter up by dropping its future. A partition whose
//! letters cannot be written works on until its window is full. A letter that the topic refuses is changed until the topic
//! takes it: [`refused`].

use std::sync::Arc;

use bytes::Bytes;
use dead_letter::{DeadLetter, OwnedHeader};
use kafka_client::cluster::Cluster;
use kafka_client::producer::{Producer, ProducerRecord};
use kafka_core::TopicPartition;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::flow::pause_reasons::PauseReasons;
use crate::flow::watchdog::Watchdog;
use crate::telemetry::REPORT_INTERVAL;
use crate::telemetry::metrics::Instruments;

mod queue;
mod refused;

/// The most letters in a queue; a worker with one more waits.
const QUEUE_MAX: usize = 1_000;

/// The dead-letter topic, ready to be written. Cloning shares the queues.
#[derive(Clone, Debug)]
pub(crate) struct DlqWriter {
    queues: Arc<[mpsc::Sender<Letter>]>,
}

/// Why a letter was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetterError {
    /// The topic takes no record of this size.
    TooLarge,
    /// The queue has ended: the process is stopping.
    Stopped,
}

/// A letter in a queue.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) record: ProducerRecord,
    pub(crate) answer: oneshot::Sender<Result<(), LetterError>>,
}

#[derive(Clone, Debug)]
pub(crate) struct DlqContext {
    pub(crate) cluster: Cluster,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) pause_reasons: PauseReasons,
    pub(crate) instruments: Arc<Instruments>,
}

impl DlqWriter {
    /// Starts one queue for each of the topic's `partitions`, in tasks that `tasks` owns.
    pub(crate) fn start(
        context: &DlqContext,
        topic: &str,
        partitions: i32,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        context.instruments.dlq_partitions(partitions);
        let producer = Producer::start(context.cluster.clone(), None);
        let queues = (0..partitions)
            .map(|partition| {
                let (sender, letters) = mpsc::channel(QUEUE_MAX);
                let target = TopicPartition::new(topic, partition);
                tasks.spawn(queue::run(context.clone(), producer.clone(), target, letters));
                sender
            })
            .collect();
        Self { queues }
    }

    /// Hands letters to a test instead of a broker.
    #[cfg(test)]
    pub(crate) fn captured() -> (Self, mpsc::Receiver<Letter>) {
        let (sender, letters) = mpsc::channel(QUEUE_MAX);
        (Self { queues: Arc::new([sender]) }, letters)
    }

    /// Writes one letter about a record of `source_partition`, however long it takes. Where it is too large for the
    /// topic, it goes without the record's value, and if need be without anything of the record.
    ///
    /// # Errors
    /// [`LetterError::Stopped`] when the process is stopping.
    ///
    /// # Cancel safety
    /// After a dropped future the letter may still be written, once more than known.
    pub(crate) async fn write(
        &self,
        source_partition: i32,
        letter: DeadLetter,
        timestamp_ms: i64,
    ) -> Result<(), LetterError> {
        match self.send(source_partition, outgoing(&letter, timestamp_ms)).await {
            Err(LetterError::TooLarge) => {}
            outcome => return outcome,
        }
        let letter = letter.without_value();
        match self.send(source_partition, outgoing(&letter, timestamp_ms)).await {
            Err(LetterError::TooLarge) => {}
            outcome => return outcome,
        }
        let smallest = outgoing(&letter.without_record(), timestamp_ms);
        loop {
            match self.send(source_partition, smallest.clone()).await {
                Err(LetterError::TooLarge) => {}
                outcome => return outcome,
            }
            let bytes = smallest.encoded_bytes_max();
            tracing::warn!(
                bytes,
                "the dead-letter topic takes no record of this size: max.message.bytes"
            );
            sleep(REPORT_INTERVAL).await;
        }
    }

    async fn send(&self, source_partition: i32, record: ProducerRecord) -> Result<(), LetterError> {
        let index = usize::try_from(source_partition).unwrap_or(0) % self.queues.len().max(1);
        let (answer, written) = oneshot::channel();
        let queue = self.queues.get(index).ok_or(LetterError::Stopped)?;
        queue.send(Letter { record, answer }).await.map_err(|_closed| LetterError::Stopped)?;
        written.await.unwrap_or(Err(LetterError::Stopped))
    }
}

/// Returns a dead letter as a record of its topic.
fn outgoing(letter: &DeadLetter, timestamp_ms: i64) -> ProducerRecord {
    let bytes = |bytes: &Vec<u8>| Bytes::copy_from_slice(bytes);
    let header = |(name, value): &OwnedHeader| (bytes(name), value.as_ref().map(bytes));
    ProducerRecord {
        key: letter.key.as_ref().map(bytes),
        value: letter.value.as_ref().map(bytes),
        headers: letter.headers.iter().map(header).collect(),
        timestamp_ms,
    }
}
