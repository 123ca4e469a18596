//! Waits for the releases of partitions at the dead-letter limit, in the group's actions topic.
//!
//! One task of the process follows the topic for all of its paused partitions, while there are any. A release counts if its
//! offset is at or above the end that the topic had when the partition was paused, so no clocks are compared. That end is
//! part of the partition's checkpoint: a release also counts that comes while the partition has no owner.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kafka_client::cluster::Cluster;
use kafka_client::offsets::{OffsetAt, list_offset};
use kafka_client::reader::{Fetched, FetchedBatches, Reader, ReaderConfig};
use kafka_core::TopicPartition;
use pacing::ReportLimit;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep;

use dead_letter::actions::Action;

/// The partition that all actions are in.
const PARTITION: i32 = 0;
/// Most bytes that one batch of actions may unpack to.
const UNPACKED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pause before a topic that cannot be read is looked at again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often to check whether the paused partitions are still here.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often a topic that cannot be read is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// The process's partitions that wait for a release.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    /// What each paused partition knows about its release.
    paused: Mutex<Vec<watch::Sender<Release>>>,
    /// Notified when another partition is paused.
    changed: Notify,
}

/// What is known about the release of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Release {
    /// The offset of the actions topic from which a release counts, once the topic's end is known.
    pub(crate) counts_from: Option<i64>,
    /// The operator who has released the partition.
    pub(crate) by: Option<String>,
}

impl Releases {
    /// Waits for a release at the offset `counts_from` or above; if that is unknown, for one that is written from here on.
    /// Dropping the receiver ends the wait.
    pub(crate) fn wait(&self, counts_from: Option<i64>) -> watch::Receiver<Release> {
        let (sender, release) = watch::channel(Release { counts_from, by: None });
        self.paused().push(sender);
        self.changed.notify_one();
        release
    }

    /// Follows the actions topic while partitions are paused.
    pub(crate) async fn follow_while_paused(self: Arc<Self>, cluster: Cluster, topic: String) {
        let mut failures = ReportLimit::every(REPORT_INTERVAL);
        loop {
            if self.is_idle() {
                self.changed.notified().await;
                continue;
            }
            let Err(error) = self.follow(&cluster, &topic).await else { continue };
            if failures.is_due() {
                let error = format!("{error:#}");
                tracing::warn!(topic, error, "cannot see whether paused partitions are released");
            }
            sleep(PAUSE).await;
        }
    }

    /// Reads the topic until all are released, or another partition is paused.
    async fn follow(&self, cluster: &Cluster, topic: &str) -> anyhow::Result<()> {
        let tp = TopicPartition::new(topic, PARTITION);
        let described = cluster.metadata(&[topic]).await.context("describe the actions topic")?;
        let topic_id = described.get(topic).context("find the actions topic")?.topic_id;
        let start =
            list_offset(cluster, &tp, OffsetAt::Earliest).await.context("find its start")?;
        let end = list_offset(cluster, &tp, OffsetAt::LastStable).await.context("find its end")?;
        let Some(from) = self.ends_at(end) else { return Ok(()) };
        let from = from.max(start);
        tracing::info!(topic, offset = from, "waiting for a release");
        let (sender, mut fetched) = mpsc::channel(1);
        let mut reader = Reader::start(cluster.clone(), ReaderConfig::default());
        reader.add(tp, topic_id, from, None, sender);
        while !self.is_idle() {
            tokio::select! {
                () = self.changed.notified() => return Ok(()),
                () = sleep(LOOK_AGAIN) => {}
                next = fetched.recv() => match next {
                    Some(Fetched::Batches(fetched)) => self.apply(&fetched, from)?,
                    Some(
                        Fetched::OutOfRange { .. }
                        | Fetched::Truncated { .. }
                        | Fetched::Recreated { .. },
                    )
                    | None => {
                        bail!("it cannot be read on")
                    }
                },
            }
        }
        Ok(())
    }

    fn apply(&self, fetched: &FetchedBatches, from: i64) -> anyhow::Result<()> {
        for raw in &fetched.batches {
            let batch = raw.open(UNPACKED_BYTES_MAX).context("read the actions topic")?;
            if batch.header().is_control() {
                continue;
            }
            for record in batch.records_from(from).flatten() {
                let action = record.key.and_then(|key| Action::parse(key, record.value));
                if let Some(Action::Released { by, .. }) = action {
                    self.released(record.offset, &by);
                }
            }
        }
        Ok(())
    }

    /// Notes the topic's end, and returns the offset to read it from if a partition waits.
    pub(crate) fn ends_at(&self, end: i64) -> Option<i64> {
        let paused = self.paused();
        for release in paused.iter() {
            // A topic that ends below the known end was created again.
            release.send_if_modified(|release| {
                let is_unknown = release.counts_from.is_none_or(|from| end < from);
                if is_unknown {
                    release.counts_from = Some(end);
                }
                is_unknown
            });
        }
        paused.iter().filter_map(|release| release.borrow().counts_from).min()
    }

    /// Releases the partitions that a release at `offset` counts for.
    pub(crate) fn released(&self, offset: i64, by: &str) {
        self.paused().retain(|release| {
            let is_meant = release.borrow().counts_from.is_some_and(|from| from <= offset);
            if is_meant {
                release.send_modify(|release| release.by = Some(by.to_owned()));
            }
            !is_meant
        });
    }

    fn is_idle(&self) -> bool {
        let mut paused = self.paused();
        paused.retain(|release| !release.is_closed());
        paused.is_empty()
    }

    fn paused(&self) -> MutexGuard<'_, Vec<watch::Sender<Release>>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kafka_core::record_batch::{BatchBuilder, batches};

    use super::*;

    fn fetched(base: i64, actions: &[Action]) -> FetchedBatches {
        let mut builder = BatchBuilder::new(base);
        for action in actions {
            let (key, value) = (action.key(), action.value());
            builder =
                builder.record(0, Some(key.as_bytes()), value.as_deref().map(str::as_bytes), &[]);
        }
        FetchedBatches {
            batches: batches(builder.build().unwrap()).collect(),
            damaged: None,
            aborted: vec![],
            next_offset: 0,
            leader_epoch: None,
            last_stable_offset: 0,
            high_watermark: 0,
            log_start_offset: 0,
        }
    }

    fn release(by: &str) -> Action {
        Action::Released { at_ms: 1, by: by.to_owned() }
    }

    /// Returns what is known of a release.
    fn known(release: &watch::Receiver<Release>) -> (Option<i64>, Option<String>) {
        let Release { counts_from, by } = release.borrow().clone();
        (counts_from, by)
    }

    #[test]
    fn only_a_release_after_the_pause_counts() {
        let releases = Releases::default();
        let (old, new) = (releases.wait(Some(10)), releases.wait(None));
        assert_eq!(releases.ends_at(12), Some(10));
        let other = Action::Unlocked { run: uuid::Uuid::nil() };
        let fetched = fetched(9, &[release("too early"), release("early"), other, release("late")]);
        releases.apply(&fetched, 10).unwrap();
        assert_eq!(known(&old), (Some(10), Some("early".to_owned())));
        assert_eq!(known(&new), (Some(12), Some("late".to_owned())));
        assert!(releases.is_idle());
    }

    #[test]
    fn one_that_is_paused_while_the_topic_is_read_waits_for_a_release_of_its_own() {
        let releases = Releases::default();
        let first = releases.wait(None);
        assert_eq!(releases.ends_at(3), Some(3));
        let second = releases.wait(None);
        releases.released(3, "operator");
        assert_eq!(known(&first), (Some(3), Some("operator".to_owned())));
        assert_eq!(known(&second), (None, None));
        assert_eq!(releases.ends_at(4), Some(4));
        assert_eq!(known(&second), (Some(4), None));
    }

    #[test]
    fn a_topic_that_is_shorter_than_what_is_known_of_it_is_another_one() {
        let releases = Releases::default();
        let waiting = releases.wait(Some(10));
        assert_eq!(releases.ends_at(3), Some(3));
        releases.released(3, "operator");
        assert_eq!(known(&waiting), (Some(3), Some("operator".to_owned())));
    }

    #[test]
    fn a_partition_that_was_given_up_waits_no_longer() {
        let releases = Releases::default();
        let waiting = releases.wait(None);
        assert!(!releases.is_idle());
        drop(waiting);
        assert!(releases.is_idle());
    }
}
