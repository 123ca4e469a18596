//! The queue of one partition of the dead-letter topic.

use std::time::Duration;

use kafka_client::producer::{BATCH_BYTES_MAX, ProduceError, Produced, Producer, ProducerRecord};
use kafka_core::TopicPartition;
use kafka_core::record_batch::HEADER_BYTES;
use kafka_protocol::ResponseError;
use pacing::{Backoff, ReportLimit};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::refused::Refused;
use super::{DlqContext, Letter, LetterError};
use crate::flow::pause_reasons::Pause;
use crate::telemetry::REPORT_INTERVAL;

/// How long the producer tries to write letters. Later they may be written twice.
const DELIVERY_MAX: Duration = Duration::from_mins(2);
/// How much later an outcome may come.
const DELIVERY_GRACE: Duration = Duration::from_secs(20);
/// The first pause before letters are sent again.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest pause before letters are sent again.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The writer of one partition of the dead-letter topic.
struct Queue {
    context: DlqContext,
    target: TopicPartition,
    producer: Producer,
    /// Reports of refusals, by what follows.
    refusals: ReportLimit<&'static str>,
    waiting: Waiting,
}

/// The wait for the topic, across letters and their forms.
struct Waiting {
    backoff: Backoff,
    pause: Option<Pause>,
    reports: ReportLimit,
    /// Whether the last report was that letters wait.
    is_reported: bool,
}

/// Writes letters in batches until every sender is gone.
pub(super) async fn run(
    context: DlqContext,
    producer: Producer,
    target: TopicPartition,
    mut letters: mpsc::Receiver<Letter>,
) {
    let mut queue = Queue {
        context,
        target,
        producer,
        refusals: ReportLimit::every(REPORT_INTERVAL),
        waiting: Waiting::new(),
    };
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
        let mut bytes = HEADER_BYTES + first.record.encoded_bytes_max();
        batch.push(first);
        while let Ok(letter) = letters.try_recv() {
            bytes += letter.record.encoded_bytes_max();
            if bytes > BATCH_BYTES_MAX {
                next = Some(letter);
                break;
            }
            batch.push(letter);
        }
        // The letter of a partition that was given up is written by the partition's next owner.
        batch.retain(|letter| !letter.answer.is_closed());
        if !batch.is_empty() {
            queue.write(std::mem::take(&mut batch)).await;
        }
    }
}

impl Queue {
    /// Writes one batch; letter by letter where the topic refuses the batch.
    async fn write(&mut self, batch: Vec<Letter>) {
        let records: Vec<ProducerRecord> =
            batch.iter().map(|letter| letter.record.clone()).collect();
        let Err(refusal) = self.resend(&records).await else {
            return answer(batch, Ok(()));
        };
        let mut refusal = match batch.len() {
            1 => Some(refusal),
            letters => {
                self.report_refusal(letters, &refusal, "sends them one by one");
                None
            }
        };
        for (letter, record) in batch.into_iter().zip(records) {
            let refused = match refusal.take() {
                Some(refusal) => Err(refusal),
                None => self.resend(std::slice::from_ref(&record)).await,
            };
            let outcome = match refused {
                Ok(()) => Ok(()),
                Err(refusal) => self.write_changed(&letter, refusal).await,
            };
            if outcome.is_err() {
                self.waiting.pause = None;
            }
            answer(vec![letter], outcome);
        }
    }

    /// Changes a letter that was refused until the topic takes it.
    async fn write_changed(
        &mut self,
        letter: &Letter,
        mut refusal: ProduceError,
    ) -> Result<(), LetterError> {
        loop {
            let mut refused = Refused::new(letter.record.clone());
            while !refusal.is_too_large()
                && let Some((record, change)) = refused.next(&refusal)
            {
                self.report_refusal(1, &refusal, change);
                match self.resend(std::slice::from_ref(&record)).await {
                    Ok(()) => return Ok(()),
                    Err(again) => refusal = again,
                }
            }
            if refusal.is_too_large() {
                return Err(LetterError::TooLarge);
            }
            if letter.answer.is_closed() {
                return Err(LetterError::Stopped);
            }
            self.waiting.wait(&self.context, &self.target, &refusal, 1).await;
        }
    }

    /// Sends records until the topic takes them, or refuses them for good.
    async fn resend(&mut self, records: &[ProducerRecord]) -> Result<(), ProduceError> {
        let first = Instant::now();
        loop {
            let begun = Instant::now();
            let produced = self.produce(records).await;
            let Self { context, target, waiting, .. } = self;
            let error = produced.as_ref().err();
            context.instruments.wrote(target, records.len(), begun.elapsed(), error);
            let error = match produced {
                Ok(_offset) => {
                    context.instruments.published(first.elapsed());
                    waiting.on_taken(target);
                    return Ok(());
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => error,
            };
            waiting.wait(context, target, &error, records.len()).await;
        }
    }

    /// Writes records once; reports why they wait meanwhile.
    async fn produce(&mut self, records: &[ProducerRecord]) -> Produced {
        let Self { context, target, producer, waiting, .. } = self;
        let _call =
            context.watchdog.begin("a write of dead letters", DELIVERY_MAX + DELIVERY_GRACE);
        let begun = Instant::now();
        let mut failures = producer.failures();
        let produced = producer.produce(target, records, begun + DELIVERY_MAX);
        tokio::pin!(produced);
        loop {
            tokio::select! {
                produced = &mut produced => return produced,
                Ok(()) = failures.changed() => {}
                // A failure that does not change is reported again.
                () = sleep(REPORT_INTERVAL) => {}
            }
            let failure = failures.borrow_and_update().get(target).cloned();
            if let Some(cause) = failure {
                let error = ProduceError::NotSent { target: target.clone(), cause };
                context.instruments.wrote(target, 0, begun.elapsed(), Some(&error));
                waiting.report(context, target, &error, records.len());
            }
        }
    }

    /// Reports a refusal, and what the writer does next.
    fn report_refusal(&mut self, letters: usize, error: &ProduceError, next: &'static str) {
        if self.refusals.report(next).is_some() {
            let TopicPartition { topic, partition } = &self.target;
            tracing::warn!(
                %topic, partition, letters, reason = %error, next,
                "the dead-letter topic refuses letters as they are"
            );
        }
    }
}

impl Waiting {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(BACKOFF_MIN, BACKOFF_MAX),
            pause: None,
            reports: ReportLimit::every(REPORT_INTERVAL),
            is_reported: false,
        }
    }

    /// Reports why letters wait, and waits before they are sent again.
    async fn wait(
        &mut self,
        context: &DlqContext,
        target: &TopicPartition,
        error: &ProduceError,
        letters: usize,
    ) {
        self.report(context, target, error, letters);
        self.backoff.wait().await;
    }

    fn report(
        &mut self,
        context: &DlqContext,
        target: &TopicPartition,
        error: &ProduceError,
        letters: usize,
    ) {
        self.pause =
            Some(context.pause_reasons.begin(format!("waiting to write {target}: {error}")));
        if self.reports.is_due() {
            self.is_reported = true;
            tracing::warn!(%target, %error, letters, "waiting for the dead-letter topic");
        }
    }

    /// Ends the wait, because the topic took letters.
    fn on_taken(&mut self, target: &TopicPartition) {
        if self.is_reported {
            tracing::info!(%target, "the dead-letter topic takes letters again");
        }
        *self = Self::new();
    }
}

/// Returns whether the topic refuses the records in this form for good.
fn is_final(error: &ProduceError) -> bool {
    use ResponseError::{InvalidRecord, InvalidTimestamp, PolicyViolation};
    let is_about_contents = matches!(
        error,
        ProduceError::Refused { error: InvalidRecord | InvalidTimestamp | PolicyViolation, .. }
    );
    is_about_contents || error.is_too_large()
}

fn answer(batch: Vec<Letter>, outcome: Result<(), LetterError>) {
    for letter in batch {
        if letter.answer.send(outcome).is_err() {
            tracing::debug!("the partition of this dead letter was given up");
        }
    }
}

#[cfg(test)]
mod tests;
