//! Sends to the replay topic, batch by batch: the outcome of each is known before the next is sent.
//!
//! ```text
//!  batch ─► lock held? ─► produce ─┬─► acknowledged ────────────────────────► sent
//!                ▲                 ├─► refused ──► one by one, or given up ─► reported
//!                │                 ├─► not sent ──────────┐
//!                └───── the rest ◄─┤                      │
//!                                  └─► unknown ─► wait ─► read the topic on from where it ended: what is there was sent
//! ```
//!
//! A batch whose outcome is unknown is never sent again before its topic was read, and the topic is read only once a copy
//! of the batch that was on its way has had the time in which another run would count this one as dead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use dead_letter::Identity;
use kafka_client::producer::{Appended, BATCH_BYTES_MAX, ProduceError, Producer, ProducerRecord};
use kafka_core::TopicPartition;
use service_runtime::Progress;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::lock::{RunLock, SILENCE};
use crate::dlq::letter::Place;
use crate::dlq::letter_state::replayed_letter;
use crate::dlq::lock_table::Ended;
use crate::dlq::queue::DeadLetterQueue;
use crate::dlq::reading::{Interrupted, Scan};
use crate::dlq::topic_log::TopicLog;
use crate::text::dead_letters;

/// The most records of one batch.
const BATCH_RECORDS_MAX: usize = 500;
/// Most time that the records of one batch take at a given rate.
const BATCH_TIME: Duration = Duration::from_millis(200);
/// How long one batch is tried before the run ends.
const DELIVERY_MAX: Duration = Duration::from_mins(2);
/// Pause before a batch is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// A record to be sent, and the letter that it replays.
#[derive(Clone, Debug)]
pub(super) struct ReplayRecord {
    pub(super) record: ProducerRecord,
    pub(super) identity: Identity,
    pub(super) place: Place,
}

/// A batch whose outcome is not known yet.
#[derive(Debug)]
struct Batch {
    records: Vec<ReplayRecord>,
    /// When to search for them in the topic, if they may be there already.
    search_at: Option<Instant>,
    /// Whether they go one by one, because the broker refused them together.
    is_alone: bool,
}

/// The outcome of a replay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) sent: u64,
    pub(crate) by_partition: BTreeMap<i32, u64>,
    /// Records that the broker refused.
    pub(crate) refused: u64,
    /// Incomplete letters whose records no longer exist.
    pub(crate) gone: u64,
}

impl Delivered {
    pub(crate) fn failed(&self) -> u64 {
        self.refused + self.gone
    }
}

pub(super) struct ReplaySender<'a> {
    pub(super) queue: &'a mut DeadLetterQueue,
    pub(super) lock: &'a mut RunLock,
    pub(super) producer: Producer,
    /// The topic to send to.
    pub(super) topic: &'a str,
    /// Whether that is the orders' own topic.
    pub(super) to_source: bool,
    /// The offsets up to which the topic is known.
    pub(super) ends: BTreeMap<i32, i64>,
    pub(super) pace: Option<Pace>,
    pub(super) progress: Progress,
    pub(super) delivered: Delivered,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    interval: Duration,
    due: Instant,
}

impl Pace {
    /// Returns a pace of one letter every `interval`, from now on.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, due: Instant::now() }
    }

    fn batch_records(&self) -> usize {
        let records = BATCH_TIME.as_nanos() / self.interval.as_nanos().max(1);
        usize::try_from(records).unwrap_or(BATCH_RECORDS_MAX).clamp(1, BATCH_RECORDS_MAX)
    }

    /// Returns when so many letters are due, and moves on to the next ones.
    fn next(&mut self, records: usize, now: Instant) -> Instant {
        let due = self.due.max(now);
        self.due = due + self.interval * u32::try_from(records).unwrap_or(u32::MAX);
        due
    }
}

impl ReplaySender<'_> {
    /// Sends all that waits, by partition, in order within each.
    ///
    /// # Errors
    /// [`Interrupted`] between two batches; when the lock is lost; when a batch's outcome stays unknown.
    pub(super) async fn send_all(
        &mut self,
        waiting: &mut BTreeMap<i32, Vec<ReplayRecord>>,
    ) -> anyhow::Result<()> {
        let records_max = self.pace.as_ref().map_or(BATCH_RECORDS_MAX, Pace::batch_records);
        while let Some((partition, records)) = waiting.pop_first() {
            for batch in batches(records, records_max) {
                self.wait(batch.len()).await?;
                self.deliver(partition, batch).await?;
            }
        }
        Ok(())
    }

    /// Waits until a batch is due, and keeps the lock.
    async fn wait(&mut self, records: usize) -> anyhow::Result<()> {
        let now = Instant::now();
        let due = self.pace.as_mut().map_or(now, |pace| pace.next(records, now));
        self.wait_until(due).await
    }

    async fn wait_until(&mut self, due: Instant) -> anyhow::Result<()> {
        loop {
            if self.queue.interrupt.is_cancelled() {
                return Err(Interrupted.into());
            }
            self.lock.keep(&mut self.queue.actions).await?;
            if due <= Instant::now() {
                return Ok(());
            }
            tokio::select! {
                () = self.queue.interrupt.cancelled() => {}
                () = sleep_until(due.min(self.lock.due())) => {}
            }
        }
    }

    async fn deliver(&mut self, partition: i32, records: Vec<ReplayRecord>) -> anyhow::Result<()> {
        let target = TopicPartition::new(self.topic, partition);
        let give_up = Instant::now() + DELIVERY_MAX;
        let mut batch = Batch { records, search_at: None, is_alone: false };
        while !batch.records.is_empty() {
            let Err(error) = self.attempt(&target, &mut batch).await else {
                continue;
            };
            let is_over = self.queue.interrupt.is_cancelled() || give_up < Instant::now();
            if is_over && batch.search_at.is_some() {
                self.lock.leave();
                bail!(
                    "{} may have been sent to {target} or not ({error:#}): \
                     run the same command again, it looks before it sends",
                    dead_letters(u64::try_from(batch.records.len()).unwrap_or(u64::MAX))
                );
            }
            if is_over || error.is::<Ended>() {
                return Err(error);
            }
            tracing::warn!("trying again: {error:#}");
            tokio::select! {
                () = self.queue.interrupt.cancelled() => {}
                () = sleep(PAUSE) => {}
            }
        }
        Ok(())
    }

    /// Tries once to send a batch, or its first record where they go alone. Records with a known outcome are taken out.
    async fn attempt(&mut self, target: &TopicPartition, batch: &mut Batch) -> anyhow::Result<()> {
        if let Some(search_at) = batch.search_at {
            self.wait_until(search_at).await?;
            let found = self.search(target, &mut batch.records).await;
            let found = found.context("search for letters that were sent")?;
            batch.search_at = None;
            self.note_sent(target.partition, &found).await?;
        }
        let size = if batch.is_alone { 1 } else { batch.records.len() };
        let records: Vec<ProducerRecord> =
            batch.records.iter().take(size).map(|record| record.record.clone()).collect();
        let Some(first) = batch.records.first().map(|record| record.place) else { return Ok(()) };
        let deadline = self.lock.keep(&mut self.queue.actions).await?;
        let began = Instant::now();
        match self.producer.produce(target, &records, deadline).await {
            Ok(Appended { base_offset: Some(offset) }) => {
                let next = offset + i64::try_from(size).unwrap_or(i64::MAX);
                self.ends.insert(target.partition, next);
                let sent: Vec<Identity> =
                    batch.records.drain(..size).map(|record| record.identity).collect();
                self.note_sent(target.partition, &sent).await
            }
            Ok(Appended { base_offset: None }) => {
                batch.search_at = Some(began);
                Ok(())
            }
            // One of them is not acceptable: which one shows when they go alone.
            Err(ProduceError::Refused { .. }) if size > 1 => {
                batch.is_alone = true;
                Ok(())
            }
            Err(error @ ProduceError::Refused { .. }) => {
                tracing::warn!("dead letter {first} cannot be sent: {error}");
                self.delivered.refused += 1;
                self.progress.add(1);
                batch.records.drain(..1);
                Ok(())
            }
            Err(error @ ProduceError::Unknown { .. }) => {
                batch.search_at = Some(began + SILENCE);
                Err(error.into())
            }
            Err(error @ ProduceError::NotSent { .. }) => Err(error.into()),
        }
    }

    /// Reads what was appended to the partition, takes it out of `records`, and returns its letters. An interrupt waits for
    /// this: otherwise it would be unknown what was sent.
    async fn search(
        &self,
        target: &TopicPartition,
        records: &mut Vec<ReplayRecord>,
    ) -> anyhow::Result<Vec<Identity>> {
        let Some(topic) = TopicLog::of(&self.queue.cluster, self.topic).await? else {
            bail!("topic {} is gone", self.topic);
        };
        let Some(range) = topic.ranges.get(&target.partition) else {
            bail!("{target} is gone");
        };
        let from = self.ends.get(&target.partition).copied().unwrap_or(0).max(range.start);
        let part = from..range.end;
        let topic = topic.only(target.partition, part);
        let mut scan = Scan::new(&self.queue.cluster, topic, &CancellationToken::new());
        let mut found = BTreeSet::new();
        while let Some(chunk) = scan.next().await? {
            let replays = chunk
                .records()
                .filter_map(|record| replayed_letter(&record, &self.queue.dlq.group));
            found.extend(replays);
        }
        let sent = records.extract_if(.., |record| found.contains(&record.identity));
        Ok(sent.map(|record| record.identity).collect())
    }

    /// Counts letters that are in the topic. The orders' own topic deletes old records, so the actions topic records them.
    async fn note_sent(&mut self, partition: i32, sent: &[Identity]) -> anyhow::Result<()> {
        let records = u64::try_from(sent.len()).unwrap_or(u64::MAX);
        self.delivered.sent += records;
        *self.delivered.by_partition.entry(partition).or_default() += records;
        self.progress.add(records);
        if self.to_source {
            self.queue.actions.record_replayed(sent).await?;
        }
        Ok(())
    }
}

/// Cuts records into batches of limited number and size.
fn batches(records: Vec<ReplayRecord>, records_max: usize) -> Vec<Vec<ReplayRecord>> {
    let mut batches: Vec<Vec<ReplayRecord>> = Vec::new();
    let mut bytes = 0;
    for record in records {
        let more = record.record.encoded_bytes_max();
        bytes += more;
        match batches.last_mut() {
            Some(batch) if batch.len() < records_max && bytes <= BATCH_BYTES_MAX => {
                batch.push(record);
            }
            _ => {
                bytes = more;
                batches.push(vec![record]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;

    fn record(offset: i64, value_bytes: usize) -> ReplayRecord {
        ReplayRecord {
            record: ProducerRecord {
                timestamp_ms: 0,
                key: None,
                value: Some(Bytes::from(vec![0; value_bytes])),
                headers: Vec::new(),
            },
            identity: Identity {
                topic_id: Uuid::nil(),
                partition: 0,
                offset,
                group: String::new(),
                replay_count: 0,
            },
            place: Place { partition: 0, offset },
        }
    }

    fn sizes(records: Vec<ReplayRecord>, records_max: usize) -> Vec<usize> {
        let batches = batches(records, records_max);
        let offsets: Vec<i64> = batches.iter().flatten().map(|p| p.place.offset).collect();
        assert!(offsets.is_sorted(), "in their order: {offsets:?}");
        batches.iter().map(Vec::len).collect()
    }

    #[test]
    fn batches_are_bounded_in_number_and_size() {
        let small = |count| (0..count).map(|offset| record(offset, 1)).collect();
        assert_eq!(sizes(small(0), 3), Vec::<usize>::new());
        assert_eq!(sizes(small(7), 3), [3, 3, 1]);
        let large = (0..3).map(|offset| record(offset, 400 * 1024)).collect();
        assert_eq!(sizes(large, 500), [2, 1]);
        let huge = (0..2).map(|offset| record(offset, 2 * 1024 * 1024)).collect();
        assert_eq!(sizes(huge, 500), [1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_spreads_letters_evenly_and_makes_up_for_nothing() {
        let mut pace = Pace::new(Duration::from_millis(10));
        assert_eq!(pace.batch_records(), 20);
        let start = Instant::now();
        assert_eq!(pace.next(20, start), start);
        assert_eq!(pace.next(20, start), start + Duration::from_millis(200));
        let late = start + Duration::from_mins(1);
        assert_eq!(pace.next(20, late), late);
        assert_eq!(pace.next(20, late), late + Duration::from_millis(200));
        assert_eq!(Pace::new(Duration::from_mins(1)).batch_records(), 1);
        assert_eq!(Pace::new(Duration::from_nanos(1)).batch_records(), BATCH_RECORDS_MAX);
    }
}
