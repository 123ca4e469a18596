//! Finds out where newly assigned partitions go on: their committed offset and checkpoint, their topic's id, their ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use kafka_client::cluster::Cluster;
use kafka_client::error::{ClientError, chain};
use kafka_client::offsets::{CommittedOffset, GroupOffsets, OffsetAt, list_offsets};
use kafka_group::TopicPartition;
use kafka_protocol::ResponseError;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::checkpoint::Capacity;
use crate::checkpoint::PartitionState;
use crate::settings::{OffsetReset, OnMismatch, ProcessorSettings};
use crate::start::{self, Found, Policy};

/// Pause before the cluster is asked again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a cluster may take to answer before that is reported.
const REPORT_AFTER: Duration = Duration::from_secs(1);
/// How often a cluster that does not answer is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// A partition that is ready to be worked on.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) tp: TopicPartition,
    pub(super) epoch: u64,
    pub(super) topic_id: Uuid,
    /// Where reading begins.
    pub(super) position: i64,
    pub(super) state: PartitionState,
    /// Whether where it begins is not committed yet.
    pub(super) commit_at_once: bool,
    /// The end of what can be read.
    pub(super) log_end: i64,
    /// Whether there were numbers that could not be gone on with.
    pub(super) is_reset: bool,
    /// How many offsets are gone that were not processed.
    pub(super) skipped: u64,
}

/// Loads partitions.
#[derive(Clone, Debug)]
pub(super) struct Loader {
    cluster: Cluster,
    group_id: String,
    replay_topic: String,
    offset_reset: OffsetReset,
    on_mismatch: OnMismatch,
    capacity: Capacity,
    /// How many partitions each topic had when this process started: later ones are read from their beginning.
    partitions_at_start: BTreeMap<String, i32>,
}

/// What the cluster says about the partitions to load.
struct Survey {
    topic_ids: BTreeMap<String, Uuid>,
    committed: BTreeMap<TopicPartition, CommittedOffset>,
    log_starts: BTreeMap<TopicPartition, i64>,
    log_ends: BTreeMap<TopicPartition, i64>,
}

impl Loader {
    pub(super) fn new(
        cluster: Cluster,
        settings: &ProcessorSettings,
        partitions_at_start: BTreeMap<String, i32>,
    ) -> Self {
        Self {
            cluster,
            group_id: settings.group.group_id.clone(),
            replay_topic: settings.replay_topic(),
            offset_reset: settings.commit.offset_reset,
            on_mismatch: settings.commit.on_mismatch,
            capacity: settings.commit.capacity,
            partitions_at_start,
        }
    }

    /// Loads partitions with their epochs after a pause, however long the cluster takes to answer.
    pub(super) async fn load(
        self,
        partitions: Vec<(TopicPartition, u64)>,
        pause: Duration,
    ) -> anyhow::Result<Vec<Loaded>> {
        sleep(pause).await;
        let names: Vec<TopicPartition> = partitions.iter().map(|(tp, _)| tp.clone()).collect();
        let survey = self.survey_until_answered(&names).await?;
        partitions.into_iter().map(|(tp, epoch)| self.resolve(tp, epoch, &survey)).collect()
    }

    fn resolve(&self, tp: TopicPartition, epoch: u64, survey: &Survey) -> anyhow::Result<Loaded> {
        let of = |offsets: &BTreeMap<TopicPartition, i64>| {
            offsets.get(&tp).copied().with_context(|| format!("find the ends of {tp}"))
        };
        let topic_id = *survey
            .topic_ids
            .get(tp.topic.as_ref())
            .with_context(|| format!("find the id of topic {}", tp.topic))?;
        let found = Found {
            topic_id,
            committed: survey.committed.get(&tp),
            log_start: of(&survey.log_starts)?,
            log_end: of(&survey.log_ends)?,
        };
        let is_new = self
            .partitions_at_start
            .get(tp.topic.as_ref())
            .is_some_and(|count| tp.partition >= *count);
        // Nobody but this group's operators writes to the replay topic, and all of it is meant for this group.
        let is_replay = tp.topic.as_ref() == self.replay_topic;
        let reads_everything = match self.offset_reset {
            OffsetReset::Earliest => true,
            OffsetReset::Latest => is_new || is_replay,
            OffsetReset::None => is_replay,
        };
        let policy = Policy {
            offset_reset: if reads_everything { OffsetReset::Earliest } else { self.offset_reset },
            on_mismatch: self.on_mismatch,
            capacity: self.capacity,
        };
        let start = start::resolve(&found, &policy).with_context(|| format!("start {tp}"))?;
        if let Some(remark) = &start.remark {
            tracing::warn!(topic = %tp.topic, partition = tp.partition, offset = start.position, "{remark}");
        }
        Ok(Loaded {
            tp,
            epoch,
            topic_id,
            position: start.position,
            state: start.state,
            commit_at_once: start.commit_at_once,
            log_end: found.log_end,
            is_reset: start.is_reset,
            skipped: start.skipped,
        })
    }

    async fn survey_until_answered(&self, partitions: &[TopicPartition]) -> anyhow::Result<Survey> {
        let mut backoff = BACKOFF.0;
        // A topic that has just been created has no leader for a moment, which is nothing to report.
        let mut report_after = Instant::now() + REPORT_AFTER;
        loop {
            match self.survey(partitions).await {
                Ok(survey) => return Ok(survey),
                Err(error) if error.is_retriable() => {
                    if Instant::now() >= report_after {
                        tracing::warn!(error = %chain(&error), "waiting for committed offsets");
                        report_after = Instant::now() + REPORT_INTERVAL;
                    }
                }
                Err(error) => {
                    return Err(anyhow::Error::new(error).context("find out where to go on"));
                }
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    async fn survey(&self, partitions: &[TopicPartition]) -> Result<Survey, ClientError> {
        let topics: BTreeSet<&str> = partitions.iter().map(|tp| tp.topic.as_ref()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let mut offsets = GroupOffsets::new(self.cluster.clone(), self.group_id.clone());
        let (described, committed, log_starts, log_ends) = tokio::try_join!(
            self.cluster.metadata(&topics),
            offsets.committed(partitions),
            list_offsets(&self.cluster, partitions, OffsetAt::Earliest),
            list_offsets(&self.cluster, partitions, OffsetAt::LastStable),
        )?;
        if let Some(missing) = topics.iter().find(|topic| !described.contains_key(**topic)) {
            return Err(ClientError::Refused {
                what: format!("describe topic {missing}"),
                error: ResponseError::UnknownTopicOrPartition,
            });
        }
        let topic_ids = described.into_iter().map(|(name, topic)| (name, topic.topic_id)).collect();
        Ok(Survey { topic_ids, committed, log_starts, log_ends })
    }
}
