//! The session of a group member: its partitions, and the worker of each.
//!
//! One loop owns the assignments. Each has an epoch, so that nothing of an earlier assignment of the same partition
//! (a loaded checkpoint, a notice) is taken for the present one. A partition's way:
//!
//! ```text
//!  Assigned ─► loading (committed offset, topic id, ends of the log) ─► working ─┬─ Revoked ─► drain ─► commit ─► gone
//!               ▲ │                                                             └─ Lost ─► gone, nothing committed
//!               └─┘ again, partition by partition, until the cluster has reported everything
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kafka_client::cluster::Cluster;
use kafka_client::membership::Membership;
use kafka_client::offsets::GroupOffsets;
use kafka_client::reader::{OnFetch, Reader, ReaderConfig};
use kafka_core::TopicPartition;
use kafka_core::member::MemberConfig;
use order_ledger::checkpoint::Capacity;
use order_ledger::resume::ResumePoint;
use pacing::ReportLimit;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::committing::Commits;
use super::instance_report::InstanceReport;
use super::loading::{Load, Loaded, Loader, Outcome};
use super::unavailable::Unavailable;
use super::viewing::Viewed;
use super::working::Working;
use crate::handler::Handler;
use crate::partition::{self, Notice, Published, ReadError};
use crate::telemetry::REPORT_INTERVAL;
use crate::telemetry::partition_status::PartitionStatus;
use crate::telemetry::partitions::list;
use crate::telemetry::readiness::{Checks, FullPartition};

/// Fetches that wait for a worker: one is taken in, one is ready, one is in flight.
const FETCHED_MAX: usize = 1;
/// Requests that wait for a worker.
const REQUESTS_MAX: usize = 4;
/// Notices that wait for the session.
const NOTICES_MAX: usize = 256;
/// Pause before a partition that could not be read on is loaded again.
pub(super) const INTERRUPTED_PAUSE: Duration = Duration::from_millis(200);
/// How long the final commit and leaving the group may take after the drain timeout, coordinator moves included.
pub(crate) const FINAL_COMMIT: Duration = Duration::from_secs(5);

/// A running membership with its workers.
pub(crate) struct Session<H> {
    pub(super) cluster: Cluster,
    pub(super) shared: Arc<partition::Shared<H>>,
    pub(super) checks: Checks,
    pub(super) membership: Membership,
    pub(super) reader: Reader,
    /// The epoch of every partition that is assigned, also while it is loading.
    pub(super) assigned: BTreeMap<TopicPartition, u64>,
    pub(super) working: BTreeMap<TopicPartition, Working>,
    pub(super) workers: JoinSet<anyhow::Result<()>>,
    pub(super) loads: Loads,
    pub(super) commits: Commits,
    pub(super) notices: (mpsc::Sender<Notice>, mpsc::Receiver<Notice>),
    /// Partitions that could not be read on.
    pub(super) interrupted: ReportLimit<TopicPartition>,
    pub(super) viewing: JoinSet<Viewed>,
    pub(super) report: InstanceReport,
}

/// What the session loads for its workers.
pub(super) struct Loads {
    pub(super) loader: Loader,
    pub(super) running: JoinSet<anyhow::Result<Outcome>>,
    /// The number of assignments so far.
    pub(super) epochs: u64,
    pub(super) unavailable: Unavailable,
    /// Ids of topics that were deleted while this process read them.
    pub(super) deleted_ids: BTreeSet<Uuid>,
    /// Partitions whose leader has found the position outside its log.
    pub(super) out_of_range: BTreeSet<TopicPartition>,
}

impl<H: Handler> Session<H> {
    pub(crate) fn start(
        cluster: Cluster,
        shared: Arc<partition::Shared<H>>,
        checks: Checks,
        loader: Loader,
        capacity: Capacity,
        report: InstanceReport,
    ) -> Self {
        let settings = &shared.settings;
        let group_id = &settings.group.group_id;
        let topics = [&settings.topics.orders_topic, &settings.group_topics.replay];
        let member = MemberConfig {
            group_id: group_id.clone(),
            topics: topics.map(|topic| topic.as_str().into()).into(),
            assignor: settings.member.assignor,
            instance_id: settings.member.instance_id.clone(),
            session_timeout: settings.member.session_timeout,
            rebalance_timeout: settings.member.rebalance_timeout,
            heartbeat_interval: settings.member.heartbeat_interval,
        };
        let offsets = GroupOffsets::new(&cluster, group_id.clone());
        let membership = Membership::start(&cluster, member);
        shared.instruments.watch_membership(membership.status());
        let instruments = Arc::clone(&shared.instruments);
        let on_fetch = OnFetch::new(move |took, error| instruments.polled(took, error));
        let reading = ReaderConfig { on_fetch: Some(on_fetch), ..ReaderConfig::default() };
        Self {
            membership,
            reader: Reader::start(cluster.clone(), reading),
            assigned: BTreeMap::new(),
            working: BTreeMap::new(),
            workers: JoinSet::new(),
            loads: Loads {
                loader,
                running: JoinSet::new(),
                epochs: 0,
                unavailable: Unavailable::default(),
                deleted_ids: BTreeSet::new(),
                out_of_range: BTreeSet::new(),
            },
            commits: Commits::new(offsets, capacity),
            notices: mpsc::channel(NOTICES_MAX),
            interrupted: ReportLimit::every(REPORT_INTERVAL),
            viewing: JoinSet::new(),
            report,
            cluster,
            shared,
            checks,
        }
    }

    pub(super) fn judge_health(&mut self) {
        let status = self.membership.status().borrow().clone();
        self.checks.judge_membership(&status, self.shared.settings.member.session_timeout);
        let statuses = self.shared.instruments.statuses();
        let now = Instant::now();
        let full = self.checks.judge_work(&statuses, &self.loads.unavailable.by_reason(), now);
        for FullPartition { tp, offset, first_incomplete, incomplete, reason } in full {
            tracing::warn!(
                topic = %tp.topic, partition = tp.partition, offset, first_incomplete, incomplete, reason,
                "takes nothing in: its incomplete records reach a limit"
            );
        }
        for (reason, partitions) in self.loads.unavailable.due(now) {
            tracing::warn!(partitions = %list(&partitions), reason, "partitions are unavailable");
        }
    }

    /// Begins to load newly assigned partitions.
    pub(super) fn load(&mut self, partitions: BTreeSet<TopicPartition>, pause: Duration) {
        let mut epochs = BTreeMap::new();
        for tp in partitions {
            self.loads.epochs += 1;
            self.assigned.insert(tp.clone(), self.loads.epochs);
            epochs.insert(tp, self.loads.epochs);
        }
        self.shared.instruments.assigned(self.assigned.len());
        let deleted_ids = self.loads.deleted_ids.clone();
        let capacity = self.commits.budget.capacity();
        let out_of_range = self.loads.out_of_range.clone();
        let load = Load { partitions: epochs, pause, deleted_ids, out_of_range, capacity };
        self.loads.running.spawn(self.loads.loader.clone().load(load));
    }

    pub(super) fn on_loaded(&mut self, outcome: Outcome) {
        let Outcome { loaded, mut failed, mut stopped, mut again } = outcome;
        // Some may have been revoked or lost while they were being loaded.
        again.partitions.retain(|tp, epoch| self.assigned.get(tp) == Some(epoch));
        stopped.retain(|tp, reason| {
            let is_new = self.loads.unavailable.reason(tp) != Some(reason);
            if again.partitions.contains_key(tp) && is_new {
                tracing::error!(topic = %tp.topic, partition = tp.partition, reason, "stopped");
            }
            again.partitions.contains_key(tp)
        });
        failed.retain(|tp, _reason| again.partitions.contains_key(tp));
        self.loads.unavailable.note(failed);
        self.loads.unavailable.note(stopped);
        again.capacity = self.commits.budget.capacity();
        if !again.partitions.is_empty() {
            self.loads.running.spawn(self.loads.loader.clone().load(again));
        }
        for partition in loaded {
            if self.assigned.get(&partition.tp) == Some(&partition.epoch) {
                self.loads.out_of_range.remove(&partition.tp);
                self.is_available(&partition.tp);
                self.start_worker(partition);
            }
        }
        self.judge_health();
    }

    pub(super) fn is_available(&mut self, tp: &TopicPartition) {
        if self.loads.unavailable.clear(tp) {
            tracing::info!(topic = %tp.topic, partition = tp.partition, "available again");
        }
    }

    fn start_worker(&mut self, loaded: Loaded) {
        let Loaded { tp, epoch, topic_id, resume, committed_chars, log_end } = loaded;
        let ResumePoint { position, state, commit_at_once, is_reset, skipped, truncated, .. } =
            resume;
        let (fetched_tx, fetched) = mpsc::channel(FETCHED_MAX);
        let (requests, requests_rx) = mpsc::channel(REQUESTS_MAX);
        let revision = AtomicU64::new(state.revision());
        let published = Arc::new(Published { revision, ..Published::default() });
        let leader_epoch = state.leader_epoch();
        let committed = (!commit_at_once).then(|| state.revision());
        let (durable, durable_rx) =
            watch::channel(committed.filter(|_| self.commits.is_settled(Instant::now())));
        let is_replay = tp.topic.as_ref() == self.shared.settings.group_topics.replay;
        if is_replay {
            tracing::debug!(topic = %tp.topic, partition = tp.partition, offset = position, "reading");
        } else {
            let orders = state.aggregate().orders();
            tracing::info!(topic = %tp.topic, partition = tp.partition, offset = position, orders, "reading");
        }
        self.shared.reporter.take_over(&tp, state.aggregate());
        let status = self.shared.instruments.take_over(
            &tp,
            PartitionStatus {
                committed: (!commit_at_once).then_some(position),
                log_end,
                committable: position,
                frontier: position,
                ..PartitionStatus::default()
            },
        );
        self.commits.budget.accepted(committed_chars);
        self.shared.instruments.skipped_offsets.inc_by(skipped);
        self.shared.instruments.truncated_offsets.inc_by(truncated.unwrap_or(0));
        self.shared.instruments.checkpoint_resets.inc_by(u64::from(is_reset));
        let assignment = partition::Assignment {
            tp: tp.clone(),
            epoch,
            topic_id,
            state,
            fetched,
            requests: requests_rx,
            notices: self.notices.0.clone(),
            published: Arc::clone(&published),
            durable: durable_rx,
            status,
        };
        self.workers.spawn(partition::run(Arc::clone(&self.shared), assignment));
        self.reader.add(tp.clone(), topic_id, position, leader_epoch, fetched_tx);
        let working = Working { epoch, topic_id, requests, published, committed, durable };
        self.working.insert(tp, working);
        self.commits.is_due |= commit_at_once;
    }

    pub(super) async fn on_notice(&mut self, notice: Notice) -> anyhow::Result<()> {
        let (tp, epoch, error) = match notice {
            Notice::Idle | Notice::LettersWait => {
                self.commits.is_due |= self.is_dirty();
                return Ok(());
            }
            Notice::Interrupted { tp, epoch, error } => (tp, epoch, error),
        };
        if self.assigned.get(&tp) != Some(&epoch) {
            return Ok(());
        }
        if let Some(unreported) = self.interrupted.report(tp.clone()) {
            tracing::warn!(partition = %tp, ?error, unreported, "cannot read on from here");
        }
        let partitions = BTreeSet::from([tp]);
        match error {
            // Completed work counts, wherever the log begins by now.
            ReadError::OutOfRange { .. } => {
                self.loads.out_of_range.extend(partitions.iter().cloned());
                self.revoke(&partitions, Instant::now()).await?;
            }
            ReadError::Truncated { .. } => self.revoke(&partitions, Instant::now()).await?,
            ReadError::Recreated { .. } => {
                for tp in &partitions {
                    self.loads
                        .deleted_ids
                        .extend(self.working.get(tp).map(|working| working.topic_id));
                    self.forget(tp);
                }
            }
        }
        self.load(partitions, INTERRUPTED_PAUSE);
        Ok(())
    }

    /// Gives a partition up without a commit.
    pub(super) fn forget(&mut self, tp: &TopicPartition) {
        self.assigned.remove(tp);
        self.reader.remove(tp);
        self.stop_showing(tp);
    }

    /// Removes a partition from the numbers of this process.
    pub(super) fn stop_showing(&mut self, tp: &TopicPartition) {
        self.loads.unavailable.forget(tp);
        if self.working.remove(tp).is_some() {
            self.shared.reporter.give_up(tp);
            self.shared.instruments.give_up(tp);
        }
        self.shared.instruments.assigned(self.assigned.len());
    }

    pub(super) fn is_dirty(&self) -> bool {
        let is_settled = self.commits.is_settled(Instant::now());
        self.working.values().any(|working| working.is_dirty(is_settled))
    }

    /// Returns whether dead letters wait for a commit that can be made.
    pub(super) fn is_awaited(&self) -> bool {
        let is_settled = self.commits.is_settled(Instant::now());
        let is_awaited = |working: &Working| working.letters_wait() && working.is_dirty(is_settled);
        self.working.values().any(is_awaited)
    }
}
