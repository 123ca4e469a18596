//! Where each dead letter stands: what was replayed and what was dismissed.
//!
//! What was replayed is read from where replays go, the group's replay topic, and nowhere else: a record there with the
//! letter's coordinates and the next replay count *is* the replay, whoever was killed after writing it. Only where letters
//! were ever replayed to the orders' own topic is that read too, from the offset on that was noted before the first of
//! them. Held are the identities alone.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Context as _;
use kafka_client::cluster::Cluster;
use kafka_group::record_batch::Record;
use tokio_util::sync::CancellationToken;

use super::identities::IdentityMap;
use super::journal::Decisions;
use super::letter::Letter;
use super::reading::TopicScan;
use super::topic_log::TopicLog;
use crate::dead_letter::{Identity, RawHeader, replay_of};
use crate::settings::ProcessorSettings;

/// What has become of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Nothing yet.
    Unresolved,
    /// It was sent again.
    Replayed,
    /// It was put aside.
    Dismissed,
}

impl State {
    /// Returns the word for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Replayed => "replayed",
            Self::Dismissed => "dismissed",
        }
    }
}

/// Letters that were sent again.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    letters: IdentityMap<()>,
    /// Up to where the group's replay topic was read.
    pub(super) replay_ends: BTreeMap<i32, i64>,
    /// Up to where the orders' own topic was read, where it was.
    pub(super) source_ends: BTreeMap<i32, i64>,
}

impl Sent {
    /// Reads where replays go.
    ///
    /// # Errors
    /// When the cluster does not answer, or when told to stop.
    pub(super) async fn read(
        cluster: &Cluster,
        settings: &ProcessorSettings,
        decisions: &Decisions,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let mut sent = Self::default();
        let group = &settings.group.group_id;
        if let Some(replay) = TopicLog::of(cluster, &settings.replay_topic()).await? {
            sent.replay_ends = ends(&replay);
            sent.read_from(cluster, replay, group, stop).await.context("read the replay topic")?;
        }
        if let Some(mut orders) = TopicLog::of(cluster, &settings.topics.orders_topic).await? {
            let topic_id = orders.id;
            sent.source_ends = ends(&orders);
            orders.ranges = orders
                .ranges
                .into_iter()
                .filter_map(|(partition, Range { start, end })| {
                    let from = decisions.replayed_from(topic_id, partition)?;
                    Some((partition, start.max(from)..end))
                })
                .collect();
            sent.read_from(cluster, orders, group, stop)
                .await
                .context("look for replays among the orders")?;
        }
        Ok(sent)
    }

    async fn read_from(
        &mut self,
        cluster: &Cluster,
        topic: TopicLog,
        group: &str,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut scan = TopicScan::new(cluster, topic, stop);
        while let Some(chunk) = scan.next().await? {
            for record in chunk.records() {
                if let Some(identity) = replayed_letter(&record, group) {
                    self.add(&identity);
                }
            }
        }
        Ok(())
    }

    /// Notes that a letter was sent again.
    pub(super) fn add(&mut self, identity: &Identity) {
        self.letters.insert(identity, ());
    }

    /// Returns whether a letter was sent again.
    pub(super) fn contains(&self, identity: &Identity) -> bool {
        self.letters.contains(identity)
    }

    /// Returns what has become of a letter.
    pub(super) fn state(&self, letter: &Letter<'_>, decisions: &Decisions) -> State {
        if self.contains(&letter.identity) {
            State::Replayed
        } else if decisions.dismissal(&letter.identity).is_some() {
            State::Dismissed
        } else {
            State::Unresolved
        }
    }
}

/// Returns which letter a record is the replay of, if it is one.
pub(super) fn replayed_letter(record: &Record<'_>, group: &str) -> Option<Identity> {
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

fn ends(topic: &TopicLog) -> BTreeMap<i32, i64> {
    topic.ranges.iter().map(|(partition, range)| (*partition, range.end)).collect()
}
