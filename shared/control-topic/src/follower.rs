//! Follows the control topic: reads it from its beginning to its end, and then whatever comes.
//!
//! ```text
//!  unread ─► reading ─┬─► following ─┬─ cut off, created anew ─► reading
//!     ▲               │              └─ gone ─► nobody is to pause ─┐
//!     └── no answer ──┴─────────────────────────────────────────────┘
//! ```
//!
//! While there is no answer, what was read last holds. A topic counts as gone when it was missing several times in a row:
//! a broker that has just started may not have heard of it yet.

use std::sync::Arc;
use std::time::Duration;

use kafka_client::cluster::Cluster;
use kafka_client::error::{ClientError, chain};
use kafka_client::offsets::{OffsetAt, list_offset};
use kafka_client::reader::{Fetched, FetchedBatches, Reader, ReaderConfig};
use kafka_client::topics::ensure_topics;
use kafka_group::TopicPartition;
use kafka_group::record_batch::{AbortedTransactions, Record};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::record::Entry;
use crate::view::ControlView;
use crate::writing::now_ms;
use crate::{PARTITION, new_topic};

/// How long the broker may hold back an answer while there is nothing new; news are answered at once.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause before a topic that could not be read is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked whether the topic is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks in a row that do not find it, after which it is gone.
const MISSED_MAX: u32 = 3;
/// How often a topic that may not be read is reported.
const REPORT_INTERVAL: Duration = Duration::from_mins(5);
/// Most bytes that one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is done about a topic that is missing at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is created with so many replicas; −1 is the broker's default.
    Create {
        /// Replicas of its partition.
        replication_factor: i16,
    },
    /// It is left to others.
    Leave,
}

/// A view of the control topic that is kept up to date. Dropping it ends that.
#[derive(Debug)]
pub struct Follower {
    view: watch::Receiver<ControlView>,
    /// Owns the task.
    _tasks: JoinSet<()>,
}

impl Follower {
    /// Starts to follow a topic; must be called within a tokio runtime.
    pub fn start(cluster: Cluster, topic: impl Into<Arc<str>>, missing: Missing) -> Self {
        let (publisher, view) = watch::channel(ControlView::default());
        let following = Following {
            cluster,
            topic: topic.into(),
            missing,
            missed: 0,
            view: publisher,
            reported: None,
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
    missing: Missing,
    /// How often in a row the topic was not found.
    missed: u32,
    view: watch::Sender<ControlView>,
    reported: Option<Instant>,
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

    /// Reads the topic for as long as it stays the one that it is.
    async fn follow(&mut self) -> Result<(), ClientError> {
        self.create().await?;
        let described = self.cluster.metadata(&[&self.topic]).await?;
        let Some(found) = described.get(self.topic.as_ref()) else {
            self.missed += 1;
            if MISSED_MAX <= self.missed {
                self.gone();
            }
            sleep(LOOK_INTERVAL).await;
            return Ok(());
        };
        self.missed = 0;
        let tp = TopicPartition::new(Arc::clone(&self.topic), PARTITION);
        let start = list_offset(&self.cluster, &tp, OffsetAt::Earliest).await?;
        let end = list_offset(&self.cluster, &tp, OffsetAt::LastStable).await?;
        let config = ReaderConfig { wait_max: WAIT_MAX, ..ReaderConfig::default() };
        let mut reader = Reader::start(self.cluster.clone(), config);
        let (sender, mut fetched) = mpsc::channel(1);
        reader.add(tp, found.topic_id, start, sender);
        let gone = missed(&self.cluster, &self.topic);
        tokio::pin!(gone);
        let mut view = ControlView::from_offset(start);
        view.advance(start, end);
        loop {
            if view.is_read() && *self.view.borrow() != view {
                self.view.send_replace(view.clone());
            }
            tokio::select! {
                fetched = fetched.recv() => match fetched {
                    Some(Fetched::Batches(fetched)) => take(&mut view, &fetched, end),
                    Some(Fetched::OutOfRange { .. } | Fetched::Recreated { .. }) | None => return Ok(()),
                },
                () = &mut gone => {
                    self.gone();
                    return Ok(());
                }
            }
        }
    }

    /// Creates the topic, once.
    async fn create(&mut self) -> Result<(), ClientError> {
        let Missing::Create { replication_factor } = self.missing else { return Ok(()) };
        let created =
            ensure_topics(&self.cluster, &[new_topic(&self.topic, replication_factor)]).await;
        match created {
            Err(error) if error.is_retriable() => return Err(error),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(topic = %self.topic, error, "the control topic cannot be created");
            }
            Ok(_described) => {}
        }
        self.missing = Missing::Leave;
        Ok(())
    }

    fn gone(&self) {
        let nothing = ControlView::of_nothing();
        if *self.view.borrow() != nothing {
            tracing::warn!(topic = %self.topic, "there is no control topic: nothing is stopped by it");
            self.view.send_replace(nothing);
        }
    }

    fn refused(&mut self, error: &str) {
        if self.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            tracing::warn!(topic = %self.topic, error, "the control topic cannot be read: stopping through it has no effect here");
            self.reported = Some(Instant::now());
        }
        self.view.send_if_modified(|view| {
            let before = view.clone();
            view.refuse(error.to_owned());
            *view != before
        });
    }
}

/// Returns when the topic has been missing for several looks in a row.
async fn missed(cluster: &Cluster, topic: &str) {
    let mut missed = 0;
    while missed < MISSED_MAX {
        sleep(LOOK_INTERVAL).await;
        match cluster.metadata(&[topic]).await {
            Ok(described) if described.contains_key(topic) => missed = 0,
            Ok(_without_it) => missed += 1,
            Err(error) => {
                tracing::trace!(error = %chain(&error), "cannot look for the control topic");
            }
        }
    }
}

/// Takes in what was fetched, of a topic that ended at `end` when reading began.
fn take(view: &mut ControlView, fetched: &FetchedBatches, end: i64) {
    let now = Instant::now().into_std();
    let is_backlog = !view.is_read();
    let mut aborted = AbortedTransactions::new(fetched.aborted.clone());
    for raw in &fetched.batches {
        match raw.open(UNPACKED_BYTES_MAX) {
            Ok(batch) if aborted.delivers(&batch) => {
                for record in batch.records_from(view.next_offset()).flatten() {
                    // What was there before is as old as our own clock says; all signs to come are judged by the broker's.
                    let age_ms = if is_backlog { now_ms() - record.timestamp_ms } else { 0 };
                    let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
                    take_record(view, &record, now.checked_sub(age).unwrap_or(now));
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a batch of the control topic cannot be read");
            }
        }
    }
    view.advance(fetched.next_offset, end);
}

fn take_record(view: &mut ControlView, record: &Record<'_>, seen: std::time::Instant) {
    let Some(entry) = record.key.and_then(|key| Entry::parse(key, record.value)) else {
        let offset = record.offset;
        tracing::debug!(offset, "skipped a record of the control topic that says nothing known");
        return;
    };
    if let (Entry::Desired(role, None), Some(_)) = (&entry, record.value) {
        let (offset, role) = (record.offset, role.as_str());
        tracing::warn!(
            offset,
            role,
            "a word in the control topic cannot be read: it counts as none, and the role runs"
        );
    }
    view.apply(entry, record.timestamp_ms, seen);
}

#[cfg(test)]
mod tests {
    use kafka_group::record_batch::{BatchBuilder, batches};

    use super::*;
    use crate::record::{Desired, Role, RunState};

    #[test]
    fn what_is_fetched_is_taken_in_once_and_what_is_not_known_is_skipped() {
        let mut view = ControlView::from_offset(11);
        take(&mut view, &fetched(10, &[PAUSED, RUNNING, STRANGE, STRANGE]), 15);
        let desired = |view: &ControlView| view.desired(Role::Processor).clone();
        assert_eq!(desired(&view).by.as_deref(), Some("kim"));
        assert_eq!((view.next_offset(), view.is_read()), (14, false));

        take(&mut view, &fetched(14, &[PAUSED]), 15);
        let paused = Desired { state: RunState::Paused, ..Desired::default() };
        assert_eq!((desired(&view), view.is_read()), (paused, true));
    }

    #[test]
    fn a_word_that_cannot_be_read_says_the_same_before_and_after_compaction() {
        let mut before = ControlView::from_offset(10);
        take(&mut before, &fetched(10, &[PAUSED, ODD]), 12);
        let mut after = ControlView::from_offset(10);
        take(&mut after, &fetched(11, &[ODD]), 12);
        for view in [before, after] {
            assert_eq!(*view.desired(Role::Processor), Desired::default());
        }
    }

    type Given = (&'static str, &'static str);
    const PAUSED: Given = ("processor", r#"{"state":"paused"}"#);
    const RUNNING: Given = ("processor", r#"{"state":"running","by":"kim"}"#);
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
            last_stable_offset: next_offset,
            high_watermark: next_offset,
            log_start_offset: 0,
        }
    }
}
