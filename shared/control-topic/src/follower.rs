//! Follows the control topic: reads it from its beginning to its end, and then every new record.
//!
//! ```text
//!  unread ─► announced ─► reading ─┬─► following ─┬─ truncated, recreated, grown ─► unread
//!     ▲                            │              └─ gone ─► all are to run ─┐
//!     └── no answer ───────────────┴─────────────────────────────────────────┘
//! ```
//!
//! Only a participant announces itself, and it reads no reports. While there is no answer, the last view holds. A topic
//! counts as gone when it was missing several times in a row: a broker that has just started may not know it yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chrono::Utc;
use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::error::{ClientError, chain};
use kafka_client::offsets::{OffsetAt, list_offset};
use kafka_client::reader::{Fetched, FetchedBatches, Reader, ReaderConfig};
use kafka_client::topics::ensure_topics;
use kafka_core::TopicPartition;
use kafka_core::record_batch::{AbortedTransactions, Record};
use pacing::ReportLimit;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::announcement::Announcement;
use crate::record::{Desired, Entry};
use crate::topic::{COMMANDS, new_topic, partitions, reports};
use crate::view::ControlView;

/// How long the broker may delay an empty answer.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause before a topic that could not be read is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// How often to check that the topic exists, and how often while it is missing.
const LOOK_INTERVAL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1));
/// Checks in a row that do not find the topic, after which it counts as gone.
const MISSED_MAX: u32 = 3;
/// How often the log mentions a topic that may not be read.
const LOG_INTERVAL: Duration = Duration::from_mins(5);
/// Most bytes that one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A view of commands and reports that is kept up to date until this is dropped.
#[derive(Debug)]
pub struct Follower {
    view: watch::Receiver<ControlView>,
    _tasks: JoinSet<()>,
}

impl Follower {
    /// Starts to follow a topic, and does not create it. Must be called within a tokio runtime.
    pub fn start(cluster: Cluster, topic: impl Into<Arc<str>>) -> Self {
        Self::of(cluster, topic.into(), None)
    }

    /// Starts to follow a topic. A participant follows only its commands, and creates it where it is missing.
    pub(crate) fn of(cluster: Cluster, topic: Arc<str>, own: Option<Announcement>) -> Self {
        let (publisher, view) = watch::channel(ControlView::default());
        let following = Following {
            cluster,
            topic,
            own,
            is_created: false,
            announced: None,
            missed: 0,
            view: publisher,
            refusals: ReportLimit::every(LOG_INTERVAL),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(following.run());
        Self { view, _tasks: tasks }
    }

    /// Returns the view; the receiver sees every change.
    pub fn view(&self) -> watch::Receiver<ControlView> {
        self.view.clone()
    }
}

struct Following {
    cluster: Cluster,
    topic: Arc<str>,
    /// The first report of a participant.
    own: Option<Announcement>,
    /// Whether a participant has created the topic, or cannot.
    is_created: bool,
    /// The topic's id and the partition to which it was written.
    announced: Option<(Uuid, i32)>,
    /// How often in a row the topic was missing.
    missed: u32,
    view: watch::Sender<ControlView>,
    refusals: ReportLimit,
}

impl Following {
    async fn run(mut self) {
        loop {
            match self.follow().await {
                Ok(()) => {}
                Err(error) if error.is_retriable() => {
                    tracing::debug!(topic = %self.topic, error = %chain(&error), "cannot read the control topic yet");
                }
                Err(error) => self.refused(&chain(&error)),
            }
            sleep(PAUSE).await;
        }
    }

    async fn follow(&mut self) -> Result<(), ClientError> {
        self.create().await?;
        let described = self.cluster.metadata(&[&self.topic]).await?;
        let Some(found) = described.get(self.topic.as_ref()) else {
            self.missed += 1;
            if MISSED_MAX <= self.missed {
                self.gone();
            }
            sleep(LOOK_INTERVAL.1).await;
            return Ok(());
        };
        self.missed = 0;
        self.announce(found).await;
        let mut view = self.begin(found).await?;
        let intake = if self.own.is_some() { Intake::Commands } else { Intake::Everything };
        let config = ReaderConfig { wait_max: WAIT_MAX, ..ReaderConfig::default() };
        let mut reader = Reader::start(self.cluster.clone(), config);
        let mut sources = BTreeMap::new();
        for (partition, position) in view.positions() {
            let (sender, fetched) = mpsc::channel(1);
            let tp = TopicPartition::new(Arc::clone(&self.topic), *partition);
            reader.add(tp, found.topic_id, position.start, None, sender);
            sources.insert(*partition, fetched);
        }
        let changed = changed(&self.cluster, &self.topic, found);
        tokio::pin!(changed);
        loop {
            if view.is_read() && *self.view.borrow() != view {
                self.view.send_replace(view.clone());
            }
            tokio::select! {
                (partition, fetched) = next(&mut sources) => match fetched {
                    Some(Fetched::Batches(fetched)) => intake.apply(&mut view, partition, &fetched),
                    Some(
                        Fetched::OutOfRange { .. }
                        | Fetched::Truncated { .. }
                        | Fetched::Recreated { .. },
                    )
                    | None => return Ok(()),
                },
                change = &mut changed => {
                    if change == Change::Gone {
                        self.gone();
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn create(&mut self) -> Result<(), ClientError> {
        let Some(own) = self.own.as_ref().filter(|_| !self.is_created) else { return Ok(()) };
        let topic = new_topic(&self.topic, own.replication_factor);
        match ensure_topics(&self.cluster, &[topic]).await {
            Err(error) if error.is_retriable() => return Err(error),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(topic = %self.topic, error, "the control topic cannot be created");
            }
            Ok(_described) => {}
        }
        self.is_created = true;
        Ok(())
    }

    /// Writes the first report of a participant, once for a topic, before it reads commands to their end.
    async fn announce(&mut self, found: &TopicMetadata) {
        let Some(own) = &mut self.own else { return };
        let reports = reports(found);
        if self.announced.replace((found.topic_id, reports)) == Some((found.topic_id, reports)) {
            return;
        }
        if reports == COMMANDS {
            tracing::warn!(topic = %self.topic, "the control topic has one partition: until it has a second one every service reads the reports of all others");
        }
        self.view.send_if_modified(|view| view.set_reports(reports));
        own.announce(&self.topic, reports).await;
    }

    async fn begin(&self, found: &TopicMetadata) -> Result<ControlView, ClientError> {
        let read: Vec<i32> = match self.own {
            None => partitions(found).collect(),
            Some(_) => vec![COMMANDS],
        };
        let mut positions = BTreeMap::new();
        for partition in read {
            let tp = TopicPartition::new(Arc::clone(&self.topic), partition);
            let start = list_offset(&self.cluster, &tp, OffsetAt::Earliest).await?;
            let end = list_offset(&self.cluster, &tp, OffsetAt::LastStable).await?;
            positions.insert(partition, start..end);
        }
        Ok(ControlView::of_topic(positions, reports(found)))
    }

    fn gone(&self) {
        let nothing = ControlView::of_no_topic();
        if *self.view.borrow() != nothing {
            tracing::warn!(topic = %self.topic, "there is no control topic: it pauses no service");
            self.view.send_replace(nothing);
        }
    }

    fn refused(&mut self, error: &str) {
        if self.refusals.is_due() {
            tracing::warn!(topic = %self.topic, error, "the control topic cannot be read: a pause has no effect here");
        }
        self.view.send_if_modified(|view| {
            let before = view.clone();
            view.refuse(error.to_owned());
            *view != before
        });
    }
}

/// A change of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It has been missing for several checks in a row.
    Gone,
    /// Its number of partitions has changed.
    Grown,
}

/// Waits until the topic differs from what was found.
async fn changed(cluster: &Cluster, topic: &str, found: &TopicMetadata) -> Change {
    let mut missed = 0;
    while missed < MISSED_MAX {
        sleep(if missed == 0 { LOOK_INTERVAL.0 } else { LOOK_INTERVAL.1 }).await;
        match cluster.metadata(&[topic]).await.map(|mut described| described.remove(topic)) {
            Ok(Some(now)) if reports(&now) != reports(found) => return Change::Grown,
            Ok(Some(_as_it_was)) => missed = 0,
            Ok(None) => missed += 1,
            Err(error) => {
                tracing::trace!(error = %chain(&error), "cannot check the control topic");
            }
        }
    }
    Change::Gone
}

/// Returns the next fetch, and its partition.
///
/// Cancel safe.
async fn next(sources: &mut BTreeMap<i32, mpsc::Receiver<Fetched>>) -> (i32, Option<Fetched>) {
    std::future::poll_fn(|context| {
        for (partition, source) in &mut *sources {
            if let Poll::Ready(fetched) = source.poll_recv(context) {
                return Poll::Ready((*partition, fetched));
            }
        }
        Poll::Pending
    })
    .await
}

/// The records that are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Commands,
    Everything,
}

impl Intake {
    fn apply(self, view: &mut ControlView, partition: i32, fetched: &FetchedBatches) {
        let now = Instant::now().into_std();
        let is_backlog = !view.is_read();
        let mut aborted = AbortedTransactions::new(fetched.aborted.clone());
        for raw in &fetched.batches {
            match raw.open(UNPACKED_BYTES_MAX) {
                Ok(batch) if aborted.delivers(&batch) => {
                    for record in batch.records_from(view.next_offset(partition)).flatten() {
                        // The age of old records follows from this process's clock; that of new ones from the broker's.
                        let age_ms = if is_backlog {
                            Utc::now().timestamp_millis() - record.timestamp_ms
                        } else {
                            0
                        };
                        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
                        let seen = now.checked_sub(age).unwrap_or(now);
                        self.apply_record(view, partition, &record, seen);
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "a batch of the control topic cannot be read");
                }
            }
        }
        view.advance(partition, fetched.next_offset);
    }

    fn apply_record(
        self,
        view: &mut ControlView,
        partition: i32,
        record: &Record<'_>,
        seen: std::time::Instant,
    ) {
        let offset = record.offset;
        let Some(entry) = record.key.and_then(|key| Entry::parse(key, record.value)) else {
            tracing::debug!(partition, offset, "skipped an unknown record of the control topic");
            return;
        };
        let entry = match entry {
            Entry::Instance { .. } if self == Self::Commands => return,
            Entry::Instance { .. } => entry,
            Entry::Desired(role, _) if partition != COMMANDS => {
                let role = role.as_str();
                tracing::warn!(
                    partition,
                    offset,
                    role,
                    "a command outside of partition {COMMANDS} of the control topic has no effect"
                );
                return;
            }
            Entry::Desired(role, desired) => {
                if desired.is_none() && record.value.is_some() {
                    let role = role.as_str();
                    tracing::warn!(
                        offset,
                        role,
                        "a command in the control topic cannot be read: it counts as none, and the role runs"
                    );
                }
                // A command that was written by hand has no id.
                let named = |id: Option<String>| id.or_else(|| Some(format!("@{offset}")));
                let desired =
                    desired.map(|desired| Desired { id: named(desired.id.clone()), ..desired });
                Entry::Desired(role, desired)
            }
        };
        view.apply(partition, entry, record.timestamp_ms, seen);
    }
}

#[cfg(test)]
mod tests {
    use kafka_core::record_batch::{BatchBuilder, batches};

    use super::*;
    use crate::record::{Role, RunState};
    use crate::topic::REPORTS;

    #[test]
    fn fetched_records_are_applied_once_and_unknown_ones_are_skipped() {
        let mut view = ControlView::of_topic([(COMMANDS, 11..15)].into(), COMMANDS);
        let records = [PAUSED, RUNNING, STRANGE, STRANGE];
        Intake::Everything.apply(&mut view, COMMANDS, &fetched(10, &records));
        let desired = view.desired(Role::Processor);
        assert_eq!((desired.by.as_deref(), desired.id.as_deref()), (Some("kim"), Some("7f")));
        assert_eq!((view.next_offset(COMMANDS), view.is_read()), (14, false));

        Intake::Everything.apply(&mut view, COMMANDS, &fetched(14, &[PAUSED]));
        let id = Some("@14".to_owned());
        let paused = Desired { id, state: RunState::Paused, ..Desired::default() };
        assert_eq!((view.desired(Role::Processor), view.is_read()), (&paused, true));
    }

    #[test]
    fn a_command_that_cannot_be_read_means_the_same_before_and_after_compaction() {
        for given in [fetched(10, &[PAUSED, ODD]), fetched(11, &[ODD])] {
            let mut view = ControlView::of_topic([(COMMANDS, 10..12)].into(), REPORTS);
            Intake::Commands.apply(&mut view, COMMANDS, &given);
            assert_eq!(*view.desired(Role::Processor), Desired::default());
        }
    }

    #[test]
    fn a_participant_applies_no_reports_and_a_follower_no_commands_among_them() {
        for (intake, partition, instances, state) in [
            (Intake::Commands, COMMANDS, 0, RunState::Paused),
            (Intake::Everything, COMMANDS, 1, RunState::Paused),
            (Intake::Everything, REPORTS, 1, RunState::Running),
        ] {
            let mut view = ControlView::of_topic([(partition, 10..12)].into(), partition);
            intake.apply(&mut view, partition, &fetched(10, &[PAUSED, REPORT]));
            let found = view.instances(Role::Processor).count();
            assert_eq!((found, view.desired(Role::Processor).state), (instances, state));
            assert!(view.is_read());
        }
    }

    type Given = (&'static str, &'static str);
    const PAUSED: Given = ("processor", r#"{"state":"paused"}"#);
    const RUNNING: Given = ("processor", r#"{"state":"running","id":"7f","by":"kim"}"#);
    const REPORT: Given = ("processor/a", r#"{"state":"paused","command":"7f"}"#);
    const ODD: Given = ("processor", r#"{"version":7,"state":"paused"}"#);
    const STRANGE: Given = ("dashboard", r#"{"state":"paused"}"#);

    fn fetched(base_offset: i64, records: &[Given]) -> FetchedBatches {
        let mut builder = BatchBuilder::new(base_offset);
        for (key, value) in records {
            builder = builder.record(5, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        }
        let batches: Vec<_> = batches(builder.build().unwrap()).collect();
        let next_offset = base_offset + i64::try_from(records.len()).unwrap();
        FetchedBatches {
            batches,
            damaged: None,
            aborted: vec![],
            next_offset,
            leader_epoch: None,
            last_stable_offset: next_offset,
            high_watermark: next_offset,
            log_start_offset: 0,
        }
    }
}
