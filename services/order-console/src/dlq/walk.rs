//! A walk over the letters of one group, which passes each letter once.

use kafka_client::cluster::Cluster;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::filter::Filter;
use super::identities::IdentityMap;
use super::letter::{DlqContext, Letter};
use super::reading::{Chunk, TopicScan};
use super::topic_log::TopicLog;

/// Reads the dead-letter topic to the end it had at the start. It keeps the identities of the letters that it has passed.
#[derive(Debug)]
pub(crate) struct Walk {
    dlq: DlqContext,
    scan: TopicScan,
    filter: Filter,
    seen: IdentityMap<()>,
    pub(crate) skipped: Skipped,
}

/// Records of the dead-letter topic that are not counted as letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Skipped {
    /// Letters that were written more than once.
    pub(crate) repeats: u64,
    /// Letters of other groups' order-processors.
    pub(crate) other_groups: u64,
    /// Batches and records that cannot be read.
    pub(crate) unreadable: u64,
}

impl Walk {
    pub(crate) fn new(
        cluster: &Cluster,
        topic: TopicLog,
        dlq: &DlqContext,
        filter: &Filter,
        interrupt: &CancellationToken,
    ) -> Self {
        Self {
            dlq: dlq.clone(),
            filter: filter.clone(),
            scan: TopicScan::new(cluster, topic, interrupt),
            seen: IdentityMap::default(),
            skipped: Skipped::default(),
        }
    }

    /// Returns the next records, whose letters are [`Self::letters`], or `None` at the end.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let Some(chunk) = self.scan.next().await? else { return Ok(None) };
        for reason in chunk.unreadable.iter().cloned().chain(chunk.undecodable()) {
            self.skipped.unreadable += 1;
            tracing::warn!(
                topic = self.dlq.topic,
                partition = chunk.partition,
                reason,
                "skipped an unreadable range"
            );
        }
        Ok(Some(chunk))
    }

    /// Returns the letters of a chunk that the filter takes, that were not passed before, and that this group's
    /// order-processors or another kind of program wrote.
    pub(crate) fn letters<'a>(&mut self, chunk: &'a Chunk) -> Vec<Letter<'a>> {
        let mut letters = Vec::new();
        for record in chunk.records() {
            let letter = self.dlq.read(chunk.partition, &record);
            if letter.identity.group != self.dlq.group {
                self.skipped.other_groups += 1;
            } else if self.seen.insert(&letter.identity, ()).is_some() {
                self.skipped.repeats += 1;
            } else if self.filter.takes(&letter) {
                letters.push(letter);
            }
        }
        letters
    }
}
