//! What has become of each dead letter: nothing yet, replayed, or dismissed.
//!
//! A record of the group's replay topic with the letter's coordinates and the next replay count *is* the replay, even if
//! the run that wrote it was killed right after. The orders' own topic deletes old records, so a letter that was replayed
//! to it has a record in the actions topic. The run writes that after the replay. What a killed run left without one is
//! searched in the orders' topic, from the offset on that the run recorded before it sent anything. Only identities are
//! kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::Context as _;
use clap::ValueEnum;
use dead_letter::{Identity, RawHeader, replay_of};
use kafka_core::record_batch::Record;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::decisions::OperatorDecisions;
use super::identities::IdentityMap;
use super::letter::Letter;
use super::queue::DeadLetterQueue;
use super::reading::Scan;
use super::topic_log::TopicLog;

/// What has become of a dead letter.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema, ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum LetterState {
    /// Nothing yet.
    #[default]
    Unresolved,
    /// It was sent again.
    Replayed,
    /// An operator dismissed it.
    Dismissed,
}

impl LetterState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Replayed => "replayed",
            Self::Dismissed => "dismissed",
        }
    }
}

/// Letters that were sent again.
#[derive(Clone, Debug, Default)]
pub(crate) struct SentLetters {
    letters: IdentityMap<()>,
    /// Up to where the group's replay topic was read.
    pub(crate) replay_ends: BTreeMap<i32, i64>,
    /// The id of the orders' own topic.
    pub(crate) source_id: Option<Uuid>,
    /// Up to where that was read, where it had to be.
    pub(crate) source_ends: BTreeMap<i32, i64>,
    /// Replays found there that the actions topic does not have.
    pub(crate) unrecorded: Vec<Identity>,
    /// Replays from before this time may have been deleted from the replay topic, in milliseconds since 1970.
    pub(crate) lost_before_ms: Option<i64>,
}

impl SentLetters {
    pub(crate) async fn read(queue: &DeadLetterQueue) -> anyhow::Result<Self> {
        let mut sent = Self::default();
        let (cluster, settings) = (&queue.cluster, &queue.settings);
        if let Some(replay) = TopicLog::of(cluster, &settings.group_topics.replay).await? {
            sent.read_replays(queue, replay).await.context("read the replay topic")?;
        }
        if let Some(orders) = TopicLog::of(cluster, &settings.topics.orders_topic).await? {
            let read = sent.read_source(queue, orders).await;
            read.context("search for replays among the orders")?;
        }
        Ok(sent)
    }

    async fn read_replays(
        &mut self,
        queue: &DeadLetterQueue,
        topic: TopicLog,
    ) -> anyhow::Result<()> {
        self.replay_ends = topic.ends();
        // The topic is created to keep everything. Where it did not, nothing is missing since its oldest record.
        let mut cut: BTreeSet<i32> = topic
            .ranges
            .iter()
            .filter_map(|(partition, range)| (range.start > 0).then_some(*partition))
            .collect();
        let mut scan = Scan::new(&queue.cluster, topic, &queue.interrupt);
        while let Some(chunk) = scan.next().await? {
            for record in chunk.records() {
                if cut.remove(&chunk.partition) {
                    self.lost_before_ms = self.lost_before_ms.max(Some(record.timestamp_ms));
                }
                if let Some(identity) = replayed_letter(&record, &queue.dlq.group) {
                    self.letters.insert(&identity, ());
                }
            }
        }
        if !cut.is_empty() {
            self.lost_before_ms = Some(i64::MAX);
        }
        Ok(())
    }

    async fn read_source(
        &mut self,
        queue: &DeadLetterQueue,
        mut topic: TopicLog,
    ) -> anyhow::Result<()> {
        let decisions = queue.actions.decisions();
        self.source_ends = topic.ends();
        let topic_id = topic.id;
        self.source_id = Some(topic_id);
        topic.ranges = topic
            .ranges
            .into_iter()
            .filter_map(|(partition, Range { start, end })| {
                let from = decisions.to_source_from(topic_id, partition)?;
                Some((partition, start.max(from)..end))
            })
            .collect();
        let mut scan = Scan::new(&queue.cluster, topic, &queue.interrupt);
        while let Some(chunk) = scan.next().await? {
            let replayed = |record| replayed_letter(&record, &queue.dlq.group);
            for identity in chunk.records().filter_map(replayed) {
                if !decisions.is_replayed_to_source(&identity) {
                    self.letters.insert(&identity, ());
                    self.unrecorded.push(identity);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn state(&self, letter: &Letter<'_>, decisions: &OperatorDecisions) -> LetterState {
        let identity = &letter.identity;
        if self.letters.contains(identity) || decisions.is_replayed_to_source(identity) {
            LetterState::Replayed
        } else if decisions.dismissal(identity).is_some() {
            LetterState::Dismissed
        } else {
            LetterState::Unresolved
        }
    }
}

/// Returns the letter that a record is the replay of, if it is one.
pub(crate) fn replayed_letter(record: &Record<'_>, group: &str) -> Option<Identity> {
    let headers: Vec<RawHeader<'_>> =
        record.headers.iter().map(|header| (header.name, header.value)).collect();
    let (of, count) = replay_of(&headers)?;
    Some(Identity {
        topic_id: of.topic_id,
        partition: of.partition,
        offset: of.offset,
        group: group.to_owned(),
        replay_count: count.checked_sub(1)?,
    })
}
