//! Reading a part of a log from its beginning to an end that was fixed before, chunk by chunk.
//!
//! At most three fetches of one partition (1 MiB each unless a single batch is larger) are in memory at a time, whatever
//! the topic holds.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kafka_client::cluster::Cluster;
use kafka_client::reader::{Fetched, FetchedBatches, Reader, ReaderConfig};
use kafka_core::TopicPartition;
use kafka_core::record_batch::{AbortedTransactions, Record, RecordBatch, UndecodableRecord};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::topic_log::TopicLog;

/// Most bytes that one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long nothing may arrive before a read fails.
const STALL_MAX: Duration = Duration::from_secs(30);
const QUEUE_MAX: usize = 1;

/// The operator has interrupted the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted before the end")]
pub(crate) struct Interrupted;

/// The records of one fetch, within the part that is read.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) partition: i32,
    batches: Vec<RecordBatch>,
    part: Range<i64>,
    /// Why batches could not be read.
    unreadable: Vec<String>,
}

impl Chunk {
    /// Opens what was fetched: of committed transactions only, and within `part`.
    pub(crate) fn open(partition: i32, fetched: FetchedBatches, part: Range<i64>) -> Self {
        let mut aborted = AbortedTransactions::new(fetched.aborted);
        let mut chunk = Self { partition, batches: Vec::new(), part, unreadable: Vec::new() };
        for raw in fetched.batches {
            match raw.open(UNPACKED_BYTES_MAX) {
                Ok(batch) if aborted.delivers(&batch) => chunk.batches.push(batch),
                Ok(_left_out) => {}
                Err(error) => chunk.unreadable.push(kafka_client::error::chain(&error)),
            }
        }
        chunk
    }

    /// Returns the records in offset order, without undecodable ones.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let part = self.part.clone();
        self.batches
            .iter()
            .flat_map(move |batch| batch.records_from(part.start))
            .filter_map(Result::ok)
            .filter(move |record| part.contains(&record.offset))
    }

    /// Logs what cannot be read, and returns how many ranges that are.
    pub(crate) fn warn_unreadable(&self, topic: &str) -> u64 {
        let undecodable = |range: UndecodableRecord<'_>| {
            format!("offset {}: {}", range.first_offset, range.fault.as_str())
        };
        let records = self.batches.iter().flat_map(RecordBatch::records);
        let records = records.filter_map(|record| record.err().map(undecodable));
        let mut count = 0;
        for reason in self.unreadable.iter().cloned().chain(records) {
            count += 1;
            tracing::warn!(
                topic,
                partition = self.partition,
                reason,
                "skipped an unreadable range"
            );
        }
        count
    }
}

/// Reads the partitions of a topic one after the other, each from an offset to an end.
#[derive(Debug)]
pub(crate) struct Scan {
    cluster: Cluster,
    /// The ranges that are not begun yet.
    topic: TopicLog,
    interrupt: CancellationToken,
    current: Option<Part>,
}

/// The partition that is being read.
#[derive(Debug)]
struct Part {
    tp: TopicPartition,
    range: Range<i64>,
    position: i64,
    fetches: mpsc::Receiver<Fetched>,
    /// Owns the connections.
    _reader: Reader,
}

impl Scan {
    pub(crate) fn new(cluster: &Cluster, topic: TopicLog, interrupt: &CancellationToken) -> Self {
        Self { cluster: cluster.clone(), topic, interrupt: interrupt.clone(), current: None }
    }

    /// Returns the next records, or `None` at the end of the last partition.
    ///
    /// # Errors
    /// [`Interrupted`]; or when the log cannot be read on.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        loop {
            let Some(part) = self.current.as_mut().filter(|part| part.position < part.range.end)
            else {
                let Some((partition, range)) = self.topic.ranges.pop_first() else {
                    self.current = None;
                    return Ok(None);
                };
                self.current = (!range.is_empty()).then(|| self.start(partition, range));
                continue;
            };
            let tp = &part.tp;
            let fetched = tokio::select! {
                () = self.interrupt.cancelled() => return Err(Interrupted.into()),
                fetched = timeout(STALL_MAX, part.fetches.recv()) => fetched,
            };
            let fetched = fetched
                .with_context(|| format!("read {tp}: nothing arrived within {STALL_MAX:?}"))?;
            match fetched {
                Some(Fetched::Batches(fetched)) => {
                    part.position = fetched.next_offset;
                    if !fetched.batches.is_empty() {
                        return Ok(Some(Chunk::open(tp.partition, fetched, part.range.clone())));
                    }
                }
                Some(Fetched::OutOfRange { position }) => {
                    bail!("{tp} has nothing at offset {position} any more: run this again")
                }
                Some(Fetched::Truncated { position, .. }) => {
                    bail!("{tp} was truncated below offset {position}: run this again")
                }
                Some(Fetched::Recreated { .. }) => {
                    bail!("topic {} was deleted and created again", tp.topic)
                }
                None => bail!("the reader of {tp} has ended"),
            }
        }
    }

    fn start(&self, partition: i32, range: Range<i64>) -> Part {
        let (sender, fetches) = mpsc::channel(QUEUE_MAX);
        let tp = TopicPartition::new(self.topic.name.as_str(), partition);
        let mut reader = Reader::start(self.cluster.clone(), ReaderConfig::default());
        reader.add(tp.clone(), self.topic.id, range.start, None, sender);
        Part { tp, position: range.start, range, fetches, _reader: reader }
    }
}
