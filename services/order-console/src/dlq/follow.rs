//! The letters of a group as they arrive.

use std::collections::{BTreeSet, VecDeque};

use anyhow::bail;
use dead_letter::Identity;
use futures_util::stream::{self, SelectAll, Stream, StreamExt};
use kafka_client::reader::{Fetched, Reader, ReaderConfig};
use kafka_core::TopicPartition;
use tokio::sync::mpsc;

use super::filter::Filter;
use super::letter::Letter;
use super::queue::DeadLetterQueue;
use super::reading::Chunk;

/// Fetches of a partition that may wait.
const QUEUE_MAX: usize = 1;
/// Letters that are remembered to pass a repeat of one only once: a crash repeats the latest ones.
const REMEMBERED_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// At the first letter of the topic.
    Beginning,
    End,
}

type Arrival = (i32, i64, Fetched);

/// A reader of the whole dead-letter topic that does not end.
pub(crate) struct Follow<'a> {
    queue: &'a DeadLetterQueue,
    fetches: SelectAll<stream::BoxStream<'static, Arrival>>,
    remembered: BTreeSet<Identity>,
    order: VecDeque<Identity>,
    _reader: Reader,
}

impl<'a> Follow<'a> {
    pub(crate) fn start(queue: &'a DeadLetterQueue, from: From) -> Self {
        let mut reader = Reader::start(queue.cluster.clone(), ReaderConfig::default());
        let mut fetches = SelectAll::new();
        for (partition, range) in &queue.log.ranges {
            let position = if from == From::Beginning { range.start } else { range.end };
            let (sender, receiver) = mpsc::channel(QUEUE_MAX);
            let tp = TopicPartition::new(queue.log.name.as_str(), *partition);
            reader.add(tp, queue.log.id, position, None, sender);
            fetches.push(arrivals(*partition, position, receiver).boxed());
        }
        let (remembered, order) = (BTreeSet::new(), VecDeque::new());
        Self { queue, fetches, remembered, order, _reader: reader }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.queue.dlq.topic
    }

    /// Returns the records that arrive next; `None` at an interrupt.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let name = &self.queue.log.name;
        let next = tokio::select! {
            () = self.queue.interrupt.cancelled() => return Ok(None),
            next = self.fetches.next() => next,
        };
        let chunk = match next {
            Some((partition, position, Fetched::Batches(fetched))) => {
                Chunk::open(partition, fetched, position..i64::MAX)
            }
            Some((partition, _, Fetched::OutOfRange { position })) => {
                bail!("{name}-{partition} has nothing at offset {position} any more")
            }
            Some((partition, _, Fetched::Truncated { position, .. })) => {
                bail!("{name}-{partition} was truncated below offset {position}")
            }
            Some((_, _, Fetched::Recreated { .. })) => {
                bail!("topic {name} was deleted and created again")
            }
            None => bail!("the reader of {name} has ended"),
        };
        chunk.warn_unreadable(name);
        Ok(Some(chunk))
    }

    /// Returns the letters of a chunk that a filter takes, are this group's and did not arrive before.
    pub(crate) fn letters<'c>(&mut self, chunk: &'c Chunk, filter: &Filter) -> Vec<Letter<'c>> {
        let dlq = &self.queue.dlq;
        let mut letters = Vec::new();
        for record in chunk.records() {
            let letter = dlq.read(chunk.partition, &record);
            if filter.takes(&letter)
                && letter.identity.group == dlq.group
                && self.remembered.insert(letter.identity.clone())
            {
                self.order.push_back(letter.identity.clone());
                letters.push(letter);
            }
            while self.order.len() > REMEMBERED_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.remembered.remove(&oldest);
            }
        }
        letters
    }
}

/// Streams what arrives for a partition, with the partition and the position that was asked for.
fn arrivals(
    partition: i32,
    position: i64,
    receiver: mpsc::Receiver<Fetched>,
) -> impl Stream<Item = Arrival> + Send + 'static {
    stream::unfold(receiver, move |mut receiver| async move {
        let fetched = receiver.recv().await?;
        Some(((partition, position, fetched), receiver))
    })
}
