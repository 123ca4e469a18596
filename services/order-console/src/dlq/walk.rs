//! A walk over the letters of one group, each of them once.

use kafka_client::cluster::Cluster;
use tokio_util::sync::CancellationToken;

use super::identities::IdentityMap;
use super::letter::{Desk, Letter};
use super::reading::{Chunk, TopicScan};
use super::topic_log::TopicLog;

/// Reads the dead-letter topic to the end it had at the start. Held are the identities of the letters seen.
#[derive(Debug)]
pub(crate) struct Walk {
    desk: Desk,
    scan: TopicScan,
    seen: IdentityMap<()>,
    /// What was passed over so far.
    pub(crate) passed_over: PassedOver,
}

/// What is in the dead-letter topic and is no letter to work on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PassedOver {
    /// Letters that were written more than once.
    pub(crate) repeats: u64,
    /// Letters of other groups' order-processors.
    pub(crate) other_groups: u64,
    /// Batches and records that cannot be read.
    pub(crate) unreadable: u64,
}

impl Walk {
    /// Walks what `topic` says is there.
    pub(crate) fn new(
        cluster: &Cluster,
        topic: TopicLog,
        desk: &Desk,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            desk: desk.clone(),
            scan: TopicScan::new(cluster, topic, stop),
            seen: IdentityMap::default(),
            passed_over: PassedOver::default(),
        }
    }

    /// Returns the next records, whose letters are [`Self::letters`], or `None` at the end.
    ///
    /// # Errors
    /// As [`TopicScan::next`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let Some(chunk) = self.scan.next().await? else { return Ok(None) };
        for words in chunk.unreadable.iter().cloned().chain(chunk.undecodable()) {
            self.passed_over.unreadable += 1;
            tracing::warn!(
                topic = self.desk.topic,
                partition = chunk.partition,
                "passed over what cannot be read: {words}"
            );
        }
        Ok(Some(chunk))
    }

    /// Returns the letters of a chunk that were not met before and are this group's, or of a program that is no
    /// order-processor.
    pub(crate) fn letters<'a>(&mut self, chunk: &'a Chunk) -> Vec<Letter<'a>> {
        let mut letters = Vec::new();
        for record in chunk.records() {
            let letter = self.desk.read(chunk.partition, &record);
            if letter.identity.group != self.desk.group {
                self.passed_over.other_groups += 1;
            } else if self.seen.insert(&letter.identity, ()).is_some() {
                self.passed_over.repeats += 1;
            } else {
                letters.push(letter);
            }
        }
        letters
    }
}
