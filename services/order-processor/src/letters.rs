//! The way to the dead-letter topic: one queue a partition, whose batch grows while one is on its way.
//!
//! A letter is written when the broker has acknowledged it; until then its record is incomplete and nothing is
//! committed past it. A dead-letter topic that cannot be written is waited for: letters are resent until they are
//! taken, and whoever waits for one stops doing so by dropping its future. Until then a partition works on within its
//! window, as behind any record that waits; then it stops reading.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_client::writer::{
    BATCH_BYTES_MAX, BATCH_OVERHEAD_BYTES, OutgoingRecord, ProduceError, SLOW_BATCH_BYTES, Writer,
};
use kafka_group::TopicPartition;
use kafka_protocol::ResponseError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::dead_letter::DeadLetter;
use crate::metrics::Instruments;
use crate::pauses::Pauses;
use crate::watch::Watch;

/// Letters that wait for their partition's queue; whoever has one more waits too.
const QUEUE_MAX: usize = 1_000;
/// How long the broker may take to acknowledge letters.
const PRODUCE_DEADLINE: Duration = Duration::from_secs(10);
/// Pause before letters are sent again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often a topic that cannot be written is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Why a letter was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetterError {
    /// The topic takes no record of this size.
    TooLarge,
    /// The queue has ended: the process is stopping.
    Stopped,
}

#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) record: OutgoingRecord,
    pub(crate) answer: oneshot::Sender<Result<(), LetterError>>,
}

/// What letters are written with.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) writer: Writer,
    /// Where a request is entered that is on its way.
    pub(crate) watch: Arc<Watch>,
    /// Where a topic that cannot be written is shown.
    pub(crate) pauses: Pauses,
    pub(crate) instruments: Arc<Instruments>,
}

/// The dead-letter topic, ready to be written. Cloning shares the queues.
#[derive(Clone, Debug)]
pub(crate) struct Letters {
    queues: Arc<[mpsc::Sender<Letter>]>,
}

impl Letters {
    /// Starts one queue for each of the topic's `partitions`, in tasks that `tasks` owns.
    pub(crate) fn start(
        desk: &Desk,
        topic: &str,
        partitions: i32,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        desk.instruments.letterboxes(partitions);
        let queues = (0..partitions)
            .map(|partition| {
                let (sender, letters) = mpsc::channel(QUEUE_MAX);
                let target = TopicPartition::new(topic, partition);
                tasks.spawn(write(desk.clone(), target, letters));
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
            let bytes = smallest.encoded_bytes();
            tracing::warn!(
                bytes,
                "the dead-letter topic takes no record of this size: max.message.bytes"
            );
            sleep(REPORT_INTERVAL).await;
        }
    }

    async fn send(&self, source_partition: i32, record: OutgoingRecord) -> Result<(), LetterError> {
        let index = usize::try_from(source_partition).unwrap_or(0) % self.queues.len().max(1);
        let (answer, written) = oneshot::channel();
        let queue = self.queues.get(index).ok_or(LetterError::Stopped)?;
        queue.send(Letter { record, answer }).await.map_err(|_closed| LetterError::Stopped)?;
        written.await.unwrap_or(Err(LetterError::Stopped))
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

/// Writes what arrives, in batches, until every sender is gone.
async fn write(desk: Desk, target: TopicPartition, mut letters: mpsc::Receiver<Letter>) {
    let mut batch = Vec::new();
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(letter) => letter,
            None => match letters.recv().await {
                Some(letter) => letter,
                None => return,
            },
        };
        let mut bytes = BATCH_OVERHEAD_BYTES + first.record.encoded_bytes();
        batch.push(first);
        while let Ok(letter) = letters.try_recv() {
            bytes += letter.record.encoded_bytes();
            if bytes > BATCH_BYTES_MAX {
                next = Some(letter);
                break;
            }
            batch.push(letter);
        }
        // Nobody waits for a letter of a partition that was given up: whoever has it next writes one.
        batch.retain(|letter| !letter.answer.is_closed());
        for part in swift_parts(std::mem::take(&mut batch), |letter| letter.record.encoded_bytes())
        {
            write_batch(&desk, &target, part).await;
        }
    }
}

/// Cuts a batch that would be slow on its way into several that are not; what is slow by itself goes alone.
fn swift_parts<T>(batch: Vec<T>, bytes_of: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let bytes: usize = batch.iter().map(&bytes_of).sum();
    if batch.is_empty() {
        return Vec::new();
    }
    if !SLOW_BATCH_BYTES.contains(&(BATCH_OVERHEAD_BYTES + bytes)) {
        return vec![batch];
    }
    let mut parts: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for letter in batch {
        let bytes = bytes_of(&letter);
        if let Some(part) = parts.last_mut().filter(|_| bytes < room) {
            part.push(letter);
        } else {
            parts.push(vec![letter]);
            room = SLOW_BATCH_BYTES.start - BATCH_OVERHEAD_BYTES;
        }
        room = room.saturating_sub(bytes);
    }
    parts
}

/// Sends one batch until it is taken; one that is too large goes letter by letter.
async fn write_batch(desk: &Desk, target: &TopicPartition, batch: Vec<Letter>) {
    let records: Vec<OutgoingRecord> = batch.iter().map(|letter| letter.record.clone()).collect();
    match resend(desk, target, &records).await {
        Ok(()) => answer(batch, Ok(())),
        Err(LetterError::TooLarge) if batch.len() > 1 => {
            for (letter, record) in batch.into_iter().zip(records) {
                let outcome = resend(desk, target, &[record]).await;
                answer(vec![letter], outcome);
            }
        }
        Err(error) => answer(batch, Err(error)),
    }
}

fn answer(batch: Vec<Letter>, outcome: Result<(), LetterError>) {
    for letter in batch {
        if letter.answer.send(outcome).is_err() {
            tracing::debug!("nobody waits for this dead letter any more");
        }
    }
}

async fn resend(
    desk: &Desk,
    target: &TopicPartition,
    records: &[OutgoingRecord],
) -> Result<(), LetterError> {
    let mut backoff = BACKOFF.0;
    let mut reported: Option<Instant> = None;
    let mut pause = None;
    let first = Instant::now();
    loop {
        let begun = Instant::now();
        let produced = {
            let _call = desk.watch.begin("a produce request", PRODUCE_DEADLINE);
            desk.writer.produce(target, records, Instant::now() + PRODUCE_DEADLINE).await
        };
        let error = produced.as_ref().err();
        desk.instruments.wrote(target, records.len(), begun.elapsed(), error);
        let error = match produced {
            Ok(_offset) => {
                desk.instruments.published(first.elapsed());
                if pause.is_some() {
                    tracing::info!(%target, "the dead-letter topic takes letters again");
                }
                return Ok(());
            }
            Err(ProduceError::Refused {
                error: ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge,
                ..
            }) => return Err(LetterError::TooLarge),
            Err(error) => error,
        };
        pause.get_or_insert_with(|| {
            desk.pauses.begin(format!("waiting to write {target}: {error}"))
        });
        if reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            tracing::warn!(%target, %error, letters = records.len(), "waiting for the dead-letter topic");
            reported = Some(Instant::now());
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(sizes: &[usize]) -> Vec<Vec<usize>> {
        swift_parts(sizes.to_vec(), |bytes| *bytes)
    }

    #[test]
    fn batches_that_are_small_or_large_go_as_they_are() {
        assert!(parts(&[]).is_empty());
        for batch in [vec![1_000; 7], vec![1_000; 66], vec![70_000]] {
            assert_eq!(parts(&batch), std::slice::from_ref(&batch));
        }
    }

    #[test]
    fn a_batch_between_goes_in_small_parts_in_its_order() {
        let batch: Vec<usize> = (0..40).map(|n| 900 + n).collect();
        let parts = parts(&batch);
        assert_eq!(parts.concat(), batch);
        assert_eq!(parts.len(), 5);
        for part in parts {
            let bytes = BATCH_OVERHEAD_BYTES + part.iter().sum::<usize>();
            assert!(bytes < SLOW_BATCH_BYTES.start, "{bytes}");
        }
    }

    #[test]
    fn a_letter_that_is_slow_by_itself_goes_alone() {
        assert_eq!(
            parts(&[1_000, 20_000, 1_000, 1_000]),
            [vec![1_000], vec![20_000], vec![1_000, 1_000]]
        );
    }
}
