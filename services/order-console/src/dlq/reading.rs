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
use uuid::Uuid;

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
    pub(crate) unreadable: Vec<String>,
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

    pub(crate) fn undecodable(&self) -> impl Iterator<Item = String> {
        let reason = |range: UndecodableRecord<'_>| {
            format!("offset {}: {}", range.first_offset, range.fault.as_str())
        };
        self.batches
            .iter()
            .flat_map(RecordBatch::records)
            .filter_map(move |item| item.err().map(reason))
    }
}

/// Reads one partition from an offset to an end.
#[derive(Debug)]
pub(crate) struct Scan {
    tp: TopicPartition,
    position: i64,
    end: i64,
    start: i64,
    fetches: mpsc::Receiver<Fetched>,
    interrupt: CancellationToken,
    /// Owns the connections; absent where there is nothing to read.
    _reader: Option<Reader>,
}

impl Scan {
    pub(crate) fn start(
        cluster: &Cluster,
        tp: TopicPartition,
        topic_id: Uuid,
        part: Range<i64>,
        interrupt: &CancellationToken,
    ) -> Self {
        let (sender, fetches) = mpsc::channel(QUEUE_MAX);
        let reader = (!part.is_empty()).then(|| {
            let mut reader = Reader::start(cluster.clone(), ReaderConfig::default());
            reader.add(tp.clone(), topic_id, part.start, sender);
            reader
        });
        let Range { start, end } = part;
        Self {
            tp,
            position: start,
            end,
            start,
            fetches,
            interrupt: interrupt.clone(),
            _reader: reader,
        }
    }

    /// Returns the next records, or `None` at the end.
    ///
    /// # Errors
    /// [`Interrupted`]; or when the log cannot be read on.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        while self.position < self.end {
            let fetched = tokio::select! {
                () = self.interrupt.cancelled() => return Err(Interrupted.into()),
                fetched = timeout(STALL_MAX, self.fetches.recv()) => fetched,
            };
            let fetched = fetched.with_context(|| {
                format!("read {}: nothing arrived within {STALL_MAX:?}", self.tp)
            })?;
            match fetched {
                Some(Fetched::Batches(fetched)) => {
                    self.position = fetched.next_offset;
                    if !fetched.batches.is_empty() {
                        let part = self.start..self.end;
                        return Ok(Some(Chunk::open(self.tp.partition, fetched, part)));
                    }
                }
                Some(Fetched::OutOfRange { position }) => {
                    bail!("{} has nothing at offset {position} any more: run this again", self.tp)
                }
                Some(Fetched::Recreated { .. }) => {
                    bail!("topic {} was deleted and created again", self.tp.topic)
                }
                None => bail!("the reader of {} has ended", self.tp),
            }
        }
        Ok(None)
    }
}

/// Reads all partitions of a topic, one after the other.
#[derive(Debug)]
pub(crate) struct TopicScan {
    cluster: Cluster,
    topic: TopicLog,
    interrupt: CancellationToken,
    current: Option<Scan>,
}

impl TopicScan {
    pub(crate) fn new(cluster: &Cluster, topic: TopicLog, interrupt: &CancellationToken) -> Self {
        Self { cluster: cluster.clone(), topic, interrupt: interrupt.clone(), current: None }
    }

    /// Returns the next records, or `None` at the end of the last partition.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        loop {
            if let Some(scan) = &mut self.current {
                if let Some(chunk) = scan.next().await? {
                    return Ok(Some(chunk));
                }
                self.current = None;
            }
            let Some((partition, part)) = self.topic.ranges.pop_first() else { return Ok(None) };
            let tp = TopicPartition::new(self.topic.name.as_str(), partition);
            self.current =
                Some(Scan::start(&self.cluster, tp, self.topic.id, part, &self.interrupt));
        }
    }
}
