//! The last records of a topic, kept up to date by reads of its end.

use std::collections::{BTreeMap, VecDeque};

use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::error::ClientError;
use kafka_client::reader::{FetchedBatches, peek};
use kafka_core::TopicPartition;
use kafka_core::record_batch::Record;
use kafka_protocol::ResponseError;
use uuid::Uuid;

use crate::dlq::reading::Chunk;

/// Most bytes of one read, unless the first batch alone is larger.
const READ_BYTES_MAX: i32 = 256 * 1024;
/// Most reads of one partition at a time. Records beyond them are skipped.
const READS_MAX: usize = 4;

/// The last `T`s of each partition of a topic, made from its records.
#[derive(Debug)]
pub(super) struct Tail<T> {
    topic: String,
    topic_id: Uuid,
    partitions: BTreeMap<i32, Part<T>>,
}

#[derive(Debug)]
struct Part<T> {
    next_offset: i64,
    kept: VecDeque<T>,
}

impl<T> Tail<T> {
    pub(super) fn new(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), topic_id: Uuid::nil(), partitions: BTreeMap::new() }
    }

    /// Reads what is new up to `ends`, at most the last `length` offsets of each partition, and keeps what `make` makes
    /// of the records, as much again. A partition that cannot be read keeps no other from being read.
    ///
    /// # Errors
    /// The first one of [`peek`], but a log that was cut meanwhile is none.
    pub(super) async fn catch_up(
        &mut self,
        cluster: &Cluster,
        topic: &TopicMetadata,
        ends: &BTreeMap<TopicPartition, i64>,
        length: usize,
        mut make: impl FnMut(&TopicPartition, &Record<'_>) -> T,
    ) -> Result<(), ClientError> {
        if self.topic_id != topic.topic_id {
            self.topic_id = topic.topic_id;
            self.partitions.clear();
        }
        let mut outcome = Ok(());
        for partition in topic.leaders.keys() {
            let tp = TopicPartition::new(self.topic.as_str(), *partition);
            let Some(end) = ends.get(&tp).copied() else { continue };
            let part = self
                .partitions
                .entry(*partition)
                .or_insert_with(|| Part { next_offset: 0, kept: VecDeque::new() });
            let newest = end.saturating_sub(i64::try_from(length).unwrap_or(i64::MAX));
            part.next_offset = part.next_offset.max(newest).max(0);
            for _read in 0..READS_MAX {
                if part.next_offset >= end {
                    break;
                }
                let fetched = match peek(cluster, &tp, topic, part.next_offset, READ_BYTES_MAX)
                    .await
                {
                    Ok(fetched) => fetched,
                    Err(ClientError::Refused {
                        error: ResponseError::OffsetOutOfRange, ..
                    }) => {
                        part.next_offset = end;
                        break;
                    }
                    Err(error) => {
                        outcome = outcome.and(Err(error));
                        break;
                    }
                };
                part.take(&tp, fetched, &mut make);
            }
            let surplus = part.kept.len().saturating_sub(length);
            part.kept.drain(..surplus);
        }
        outcome
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.partitions.values_mut().flat_map(|part| &mut part.kept)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.partitions.values().flat_map(|part| &part.kept)
    }
}

impl<T> Part<T> {
    fn take(
        &mut self,
        tp: &TopicPartition,
        fetched: FetchedBatches,
        make: &mut impl FnMut(&TopicPartition, &Record<'_>) -> T,
    ) {
        // A broker that returns nothing, or only damage, must not keep this from ending.
        let next_offset = fetched.next_offset.max(self.next_offset + 1);
        // The processors report unreadable batches.
        let chunk = Chunk::open(tp.partition, fetched, self.next_offset..i64::MAX);
        self.kept.extend(chunk.records().map(|record| make(tp, &record)));
        self.next_offset = next_offset;
    }
}
