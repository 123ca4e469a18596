//! A walk over the letters of one group, which passes each letter once.

use serde::Serialize;
use utoipa::ToSchema;

use super::filter::Filter;
use super::identities::IdentityMap;
use super::letter::{DlqContext, Letter};
use super::queue::DeadLetterQueue;
use super::reading::{Chunk, Scan};

/// Reads the dead-letter topic to the end it had at the start. It keeps the identities of the letters that it has passed.
#[derive(Debug)]
pub(crate) struct Walk {
    dlq: DlqContext,
    scan: Scan,
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

impl DeadLetterQueue {
    /// Reads the letters that a filter takes.
    pub(crate) fn walk(&self, filter: &Filter) -> Walk {
        let mut topic = self.log.clone();
        topic.ranges.retain(|partition, range| {
            *range = filter.narrow(*partition, range.clone());
            !range.is_empty()
        });
        Walk {
            dlq: self.dlq.clone(),
            scan: Scan::new(&self.cluster, topic, &self.interrupt),
            filter: filter.clone(),
            seen: IdentityMap::default(),
            skipped: Skipped::default(),
        }
    }
}

impl Walk {
    /// Returns the next records, whose letters are [`Self::letters`], or `None` at the end.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let Some(chunk) = self.scan.next().await? else { return Ok(None) };
        self.skipped.unreadable += chunk.warn_unreadable(&self.dlq.topic);
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
