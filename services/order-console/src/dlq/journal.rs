//! The actions topic at work: followed, and written.

use std::collections::BTreeMap;

use anyhow::Context as _;
use bytes::Bytes;
use dead_letter::Identity;
use dead_letter::actions::Action;
use kafka_client::cluster::Cluster;
use kafka_client::exact_writer::{ExactRecord, ExactWriter};
use kafka_client::topics::{NewTopic, ensure_topics};
use kafka_client::writer::ProduceError;
use kafka_core::TopicPartition;
use tokio::time::{Duration, Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::identities::IdentityMap;
use super::reading::Scan;
use super::render::{TEXT_BYTES_MAX, cut};
use super::topic_log::TopicLog;
use crate::group_snapshot::refuse_earlier_topics;
use crate::replay::lock::LockTable;
use crate::settings::ConsoleSettings;
use kafka_client::retry::while_retriable;
use service_runtime::now_ms;

/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(8);
/// How long an action is written again until it is acknowledged: writing one twice changes nothing.
const WRITE_MAX: Duration = Duration::from_secs(40);
/// Pause before that.
const PAUSE: Duration = Duration::from_millis(200);
/// Actions that are written at once.
const BATCH_MAX: usize = 500;
/// The topic's only partition.
const PARTITION: i32 = 0;

/// Why a letter was put aside, by whom and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dismissal {
    pub(crate) reason: String,
    pub(crate) at_ms: i64,
    pub(crate) by: String,
}

/// What the actions that were read come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    dismissed: IdentityMap<usize>,
    /// Letters that were dismissed together share one.
    dismissals: Vec<Dismissal>,
    /// Letters that are known to have been replayed to the orders' own topic.
    replayed: IdentityMap<()>,
    /// By topic id and partition: from where on replays may be in the orders' own topic that are not known yet.
    to_source: BTreeMap<(Uuid, i32), i64>,
    locks: LockTable,
}

impl Decisions {
    fn apply(&mut self, offset: i64, action: Action) {
        self.locks.apply(offset, &action);
        match action {
            Action::Dismissed { identity, reason, at_ms, by } => {
                let [reason, by] = [reason, by].map(|text| cut(&text, TEXT_BYTES_MAX));
                let dismissal = Dismissal { reason, at_ms, by };
                if self.dismissals.last() != Some(&dismissal) {
                    self.dismissals.push(dismissal);
                }
                self.dismissed.insert(&identity, self.dismissals.len() - 1);
            }
            Action::Reopened { identity } => self.dismissed.remove(&identity),
            Action::ReplayedToSource { identity, .. } => {
                self.replayed.insert(&identity, ());
            }
            Action::ToSource { topic_id, partition, from } => {
                self.to_source.insert((topic_id, partition), from);
            }
            Action::Released { .. } | Action::Lock { .. } | Action::Unlocked { .. } => {}
        }
    }

    /// Returns why a letter was dismissed, if it was.
    pub(crate) fn dismissal(&self, identity: &Identity) -> Option<&Dismissal> {
        self.dismissals.get(*self.dismissed.get(identity)?)
    }

    /// Returns whether a letter is known to have been replayed to the orders' own topic.
    pub(crate) fn is_replayed_to_source(&self, identity: &Identity) -> bool {
        self.replayed.contains(identity)
    }

    /// Returns from which offset on a partition of the orders' own topic may hold replays that are not known yet.
    pub(crate) fn to_source_from(&self, topic_id: Uuid, partition: i32) -> Option<i64> {
        self.to_source.get(&(topic_id, partition)).copied()
    }
}

/// The actions topic of one group, read up to a position.
#[derive(Debug)]
pub(crate) struct Journal {
    cluster: Cluster,
    writer: ExactWriter,
    topic: String,
    position: i64,
    decisions: Decisions,
    stop: CancellationToken,
}

impl Journal {
    /// Reads the actions topic; one that does not exist is as good as empty.
    ///
    /// # Errors
    /// When the cluster does not answer, or the group's topics are those of an earlier release.
    pub(crate) async fn open(
        cluster: &Cluster,
        settings: &ConsoleSettings,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        refuse_earlier_topics(cluster, settings).await?;
        let mut journal = Self {
            cluster: cluster.clone(),
            writer: ExactWriter::new(cluster.clone()),
            topic: settings.group_topics.actions.clone(),
            position: 0,
            decisions: Decisions::default(),
            stop: stop.clone(),
        };
        journal.catch_up().await?;
        Ok(journal)
    }

    /// Creates the actions topic if it does not exist.
    ///
    /// # Errors
    /// When the cluster does not answer or does not allow it.
    pub(crate) async fn create(&self, settings: &ConsoleSettings) -> anyhow::Result<()> {
        let topics = [NewTopic::compacted(
            &settings.group_topics.actions.clone(),
            settings.topics.replication_factor,
        )];
        while_retriable(|| ensure_topics(&self.cluster, &topics))
            .await
            .with_context(|| format!("create topic {}", self.topic))?;
        Ok(())
    }

    pub(crate) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    pub(crate) fn locks(&self) -> &LockTable {
        &self.decisions.locks
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Reads what was written since the last look: at least everything that was acknowledged to anybody before.
    ///
    /// # Errors
    /// When the cluster does not answer, or when told to stop.
    pub(crate) async fn catch_up(&mut self) -> anyhow::Result<()> {
        let found = TopicLog::of(&self.cluster, &self.topic).await?;
        let Some(log) = found else { return Ok(()) };
        let Some(part) = log.ranges.get(&PARTITION) else { return Ok(()) };
        let part = self.position.max(part.start)..part.end;
        let tp = TopicPartition::new(self.topic.as_str(), PARTITION);
        let mut scan = Scan::start(&self.cluster, tp, log.id, part.clone(), &self.stop);
        while let Some(chunk) = scan.next().await.context("read the actions topic")? {
            for record in chunk.records() {
                let action = record.key.and_then(|key| Action::parse(key, record.value));
                if let Some(action) = action {
                    self.decisions.apply(record.offset, action);
                }
            }
        }
        self.position = self.position.max(part.end);
        Ok(())
    }

    /// Notes letters that were replayed to the orders' own topic.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) async fn record_replayed(&mut self, letters: &[Identity]) -> anyhow::Result<()> {
        let at_ms = now_ms();
        let replayed =
            |identity: &Identity| Action::ReplayedToSource { identity: identity.clone(), at_ms };
        self.write_all(&letters.iter().map(replayed).collect::<Vec<_>>()).await
    }

    /// Writes any number of actions, also none.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) async fn write_all(&mut self, actions: &[Action]) -> anyhow::Result<()> {
        for batch in actions.chunks(BATCH_MAX) {
            self.write(batch).await?;
        }
        Ok(())
    }

    /// Writes actions to the topic, which has to exist ([`Self::create`]), until they are acknowledged, and returns the offset of the first one. Where an acknowledgement is
    /// lost they may be there twice, which means the same.
    ///
    /// # Errors
    /// When they are refused, or not acknowledged for long.
    pub(crate) async fn write(&mut self, actions: &[Action]) -> anyhow::Result<i64> {
        let records: Vec<ExactRecord> = actions.iter().map(record).collect();
        let target = TopicPartition::new(self.topic.as_str(), PARTITION);
        let give_up = Instant::now() + WRITE_MAX;
        loop {
            let deadline = give_up.min(Instant::now() + REQUEST_MAX);
            match self.writer.produce(&target, &records, deadline).await {
                Ok(offset) => return Ok(offset),
                Err(error @ (ProduceError::NotSent { .. } | ProduceError::Unknown { .. }))
                    if Instant::now() + PAUSE < give_up =>
                {
                    tracing::debug!(%error, "writing an action again");
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error).context("write to the actions topic"),
            }
        }
    }
}

fn record(action: &Action) -> ExactRecord {
    ExactRecord {
        timestamp_ms: now_ms(),
        key: Some(Bytes::from(action.key())),
        value: action.value().map(Bytes::from),
        headers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(offset: i64) -> Identity {
        Identity {
            topic_id: Uuid::nil(),
            partition: 0,
            offset,
            group: "night".into(),
            replay_count: 0,
        }
    }

    fn dismissed(offset: i64, reason: &str) -> Action {
        Action::Dismissed {
            identity: identity(offset),
            reason: reason.into(),
            at_ms: 1,
            by: "kim".into(),
        }
    }

    fn decisions(actions: impl IntoIterator<Item = Action>) -> Decisions {
        let mut decisions = Decisions::default();
        for (offset, action) in (0..).zip(actions) {
            decisions.apply(offset, action);
        }
        decisions
    }

    #[test]
    fn the_last_decision_about_a_letter_holds() {
        let decisions = decisions([
            dismissed(1, "first"),
            dismissed(2, "first"),
            dismissed(3, "second"),
            dismissed(1, "changed"),
            Action::Reopened { identity: identity(2) },
        ]);
        let reason = |offset| decisions.dismissal(&identity(offset)).map(|d| d.reason.as_str());
        assert_eq!([reason(1), reason(2), reason(3)], [Some("changed"), None, Some("second")]);
    }

    #[test]
    fn what_is_kept_of_a_decision_does_not_grow_with_its_reason() {
        let decisions = decisions([dismissed(1, &"x".repeat(100_000))]);
        let kept = &decisions.dismissal(&identity(1)).unwrap().reason;
        assert!(kept.len() <= TEXT_BYTES_MAX + "…".len(), "{} bytes", kept.len());
    }

    #[test]
    fn replays_to_the_source_are_known_and_the_rest_is_looked_for_from_the_last_offset() {
        let to_source = |from| Action::ToSource { topic_id: Uuid::nil(), partition: 1, from };
        let decisions = decisions([
            to_source(100),
            Action::ReplayedToSource { identity: identity(7), at_ms: 0 },
            to_source(200),
        ]);
        assert!(decisions.is_replayed_to_source(&identity(7)));
        assert!(!decisions.is_replayed_to_source(&identity(8)));
        assert_eq!(decisions.to_source_from(Uuid::nil(), 1), Some(200));
        assert_eq!(decisions.to_source_from(Uuid::nil(), 0), None);
    }
}
