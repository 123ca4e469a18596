//! Waits for the word that lets a stopped partition go on: a release in the group's actions topic.
//!
//! Only a release that is newer than the stop counts. That is told by its offset: where the topic ended when the
//! partition stopped is where the reading begins. So no clocks are compared, and nothing is read while nothing is
//! stopped.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use kafka_client::cluster::Cluster;
use kafka_client::offsets::{OffsetAt, list_offset};
use kafka_client::reader::{Fetched, FetchedBatches, Reader, ReaderConfig};
use kafka_group::TopicPartition;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::dlq::actions::Action;

/// The partition that all actions are in.
const PARTITION: i32 = 0;
/// Most bytes that one batch of actions may unpack to.
const UNPACKED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pause before a topic that cannot be read is looked at again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a topic that cannot be read is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Where such words come from.
#[derive(Clone, Debug)]
pub(crate) enum Releases {
    /// An actions topic.
    Topic {
        /// The cluster that the topic is in.
        cluster: Cluster,
        /// The topic's name.
        topic: String,
    },
    /// A test.
    #[cfg(test)]
    Told(std::sync::Arc<tokio::sync::Notify>),
}

impl Releases {
    /// Returns what waits for the next word, however long that takes, and says whose it was.
    pub(crate) fn wait(&self) -> BoxFuture<'static, String> {
        match self.clone() {
            Self::Topic { cluster, topic } => Box::pin(wait(cluster, topic)),
            #[cfg(test)]
            Self::Told(told) => Box::pin(async move {
                told.notified().await;
                "the test".to_owned()
            }),
        }
    }
}

async fn wait(cluster: Cluster, topic: String) -> String {
    let mut reported: Option<Instant> = None;
    loop {
        match next_release(&cluster, &topic).await {
            Ok(Some(by)) => return by,
            // What was read is not where it was any more: what comes from here on is new.
            Ok(None) => {}
            Err(error) if reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) => {
                let error = format!("{error:#}");
                tracing::warn!(topic, error, "cannot see whether stopped partitions are released");
                reported = Some(Instant::now());
            }
            Err(_reported) => {}
        }
        sleep(PAUSE).await;
    }
}

/// Returns who wrote the next release; nobody where the topic cannot be read on.
async fn next_release(cluster: &Cluster, topic: &str) -> anyhow::Result<Option<String>> {
    let tp = TopicPartition::new(topic, PARTITION);
    let described = cluster.metadata(&[topic]).await.context("describe the actions topic")?;
    let topic_id = described.get(topic).context("find the actions topic")?.topic_id;
    let end = list_offset(cluster, &tp, OffsetAt::LastStable).await.context("find its end")?;
    tracing::info!(topic, offset = end, "waiting for a release");
    let (sender, mut fetched) = mpsc::channel(1);
    let mut reader = Reader::start(cluster.clone(), ReaderConfig::default());
    reader.add(tp, topic_id, end, sender);
    loop {
        match fetched.recv().await {
            Some(Fetched::Batches(fetched)) => {
                if let Some(by) = release_in(&fetched, end)? {
                    return Ok(Some(by));
                }
            }
            Some(Fetched::OutOfRange { .. } | Fetched::Recreated { .. }) | None => return Ok(None),
        }
    }
}

/// Returns who wrote the first release at `start` or later.
fn release_in(fetched: &FetchedBatches, start: i64) -> anyhow::Result<Option<String>> {
    for raw in &fetched.batches {
        let batch = raw.open(UNPACKED_BYTES_MAX).context("read the actions topic")?;
        if batch.header().is_control() {
            continue;
        }
        for record in batch.records_from(start).flatten() {
            let action = record.key.and_then(|key| Action::parse(key, record.value));
            if let Some(Action::Released { by, .. }) = action {
                return Ok(Some(by));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use kafka_group::record_batch::{BatchBuilder, batches};

    use super::*;

    fn fetched(actions: &[Action]) -> FetchedBatches {
        let mut builder = BatchBuilder::new(10);
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
            last_stable_offset: 0,
            high_watermark: 0,
            log_start_offset: 0,
        }
    }

    #[test]
    fn only_a_release_after_the_stop_counts() {
        let release = |by: &str| Action::Released { at_ms: 1, by: by.to_owned() };
        let other = Action::Unlocked { run: uuid::Uuid::nil() };
        let fetched = fetched(&[release("early"), other, release("late")]);
        assert_eq!(release_in(&fetched, 10).unwrap().as_deref(), Some("early"));
        assert_eq!(release_in(&fetched, 11).unwrap().as_deref(), Some("late"));
        assert_eq!(release_in(&fetched, 13).unwrap(), None);
    }
}
