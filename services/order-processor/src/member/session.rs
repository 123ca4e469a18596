//! The group member's loop: hands partitions to workers, commits where they stand, takes them back.
//!
//! One loop owns the assignments. Each has an epoch, so that nothing of an earlier assignment of the same partition
//! (a loaded checkpoint, a notice) is taken for the present one. A partition's way:
//!
//! ```text
//!  Assigned ─► loading (committed offset, topic id, ends of the log) ─► working ─┬─ Revoked ─► drain ─► commit ─► gone
//!               ▲ │                                                             └─ Lost ─► gone, nothing committed
//!               └─┘ again, partition by partition, while the cluster does not tell everything
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering as Atomic};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use kafka_client::cluster::Cluster;
use kafka_client::error::chain;
use kafka_client::membership::Membership;
use kafka_client::offsets::GroupOffsets;
use kafka_client::reader::{OnFetch, Reader, ReaderConfig};
use kafka_core::TopicPartition;
use kafka_core::member::{Event, MemberConfig};
use service_runtime::Recurring;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::announcing::Standing;
use super::budget::Budget;
use super::committing::{CommitTrouble, Committed};
use super::loading::{Load, Loaded, Loader, Outcome};
use super::unavailable::Unavailable;
use super::viewing::Viewed;
use crate::handler::Handler;
use crate::partition::{self, Mishap, Notice, Request};
use crate::settings::ProcessorSettings;
use crate::telemetry::partition_status;
use crate::telemetry::readiness::{Checks, FullPartition};
use order_ledger::checkpoint::Capacity;

/// Fetches that wait for a worker: one at work, one ready, one on its way.
const FETCHED_MAX: usize = 1;
/// Requests that wait for a worker.
const REQUESTS_MAX: usize = 4;
/// Notices that wait for the session.
const NOTICES_MAX: usize = 256;
/// The least time between two commits; it doubles with every commit that fails.
pub(super) const COMMIT_PAUSE_MIN: Duration = Duration::from_millis(50);
/// How long a worker may take to say where it stands: longer than any batch of orders that are done at once.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Pause before a partition that could not be read is looked at again.
pub(super) const OUT_OF_PLACE_PAUSE: Duration = Duration::from_millis(200);
/// How long after the drain timeout a commit may take, and leaving the group after it, coordinator moves included.
pub(crate) const FINAL_COMMIT: Duration = Duration::from_secs(5);

/// One partition that is being worked on.
pub(super) struct Working {
    pub(super) epoch: u64,
    pub(super) topic_id: Uuid,
    pub(super) requests: mpsc::Sender<Request>,
    /// The revision of the worker's state.
    pub(super) revision: Arc<AtomicU64>,
    /// The move of the brake since which nothing has been under way.
    pub(super) rest: Arc<AtomicU64>,
    /// The last revision that is committed; `None` before the first commit is due.
    pub(super) committed: Option<u64>,
    /// The revision that names the last doomed record; 0 without one.
    pub(super) doomed: Arc<AtomicU64>,
    /// The last revision that is committed for good: no earlier commit can take its place any more.
    pub(super) durable: watch::Sender<Option<u64>>,
}

/// A running membership with its workers.
pub(crate) struct Session<H> {
    pub(super) cluster: Cluster,
    pub(super) settings: ProcessorSettings,
    pub(super) shared: Arc<partition::Shared<H>>,
    pub(super) checks: Checks,
    pub(super) membership: Membership,
    pub(super) reader: Reader,
    pub(super) epochs: u64,
    /// The epoch of every partition that is assigned, also while it is loading.
    pub(super) assigned: BTreeMap<TopicPartition, u64>,
    pub(super) working: BTreeMap<TopicPartition, Working>,
    pub(super) workers: JoinSet<anyhow::Result<()>>,
    pub(super) loader: Loader,
    pub(super) loading: JoinSet<anyhow::Result<Outcome>>,
    pub(super) unavailable: Unavailable,
    /// Ids of topics that were deleted while this process read them.
    pub(super) deleted_ids: BTreeSet<Uuid>,
    pub(super) budget: Budget,
    pub(super) notices: (mpsc::Sender<Notice>, mpsc::Receiver<Notice>),
    /// Taken while a commit is under way.
    pub(super) offsets: Option<GroupOffsets>,
    pub(super) committing: JoinSet<Committed>,
    pub(super) last_commit: Instant,
    /// The least time between the last commit and the next.
    pub(super) commit_pause: Duration,
    pub(super) commit_trouble: Recurring<CommitTrouble>,
    /// Until when a commit that got no answer may still take the place of a later one.
    pub(super) settles_at: Option<Instant>,
    /// A commit is due: the interval is over, or something does not wait for it.
    pub(super) commit_soon: bool,
    /// Partitions that could not be read on.
    pub(super) out_of_place: Recurring<TopicPartition>,
    pub(super) viewing: JoinSet<Viewed>,
    pub(super) standing: Standing,
}

impl<H: Handler> Session<H> {
    pub(crate) fn start(
        cluster: Cluster,
        settings: ProcessorSettings,
        shared: Arc<partition::Shared<H>>,
        checks: Checks,
        older_partitions: BTreeMap<String, i32>,
        capacity: Capacity,
        standing: Standing,
    ) -> Self {
        let group = &settings.group;
        let member = MemberConfig {
            group_id: group.group_id.clone(),
            topics: vec![shared.orders_topic.as_str().into(), shared.replay_topic.as_str().into()],
            assignor: settings.member.assignor,
            instance_id: settings.member.instance_id.clone(),
            session_timeout: settings.member.session_timeout,
            rebalance_timeout: settings.member.rebalance_timeout,
            heartbeat_interval: settings.member.heartbeat_interval,
        };
        let offsets = GroupOffsets::new(cluster.clone(), group.group_id.clone());
        let membership = Membership::start(cluster.clone(), member);
        shared.instruments.watch_membership(membership.status());
        let instruments = Arc::clone(&shared.instruments);
        let on_fetch = OnFetch::new(move |took, error| instruments.polled(took, error));
        let reading = ReaderConfig { on_fetch: Some(on_fetch), ..ReaderConfig::default() };
        Self {
            membership,
            reader: Reader::start(cluster.clone(), reading),
            epochs: 0,
            assigned: BTreeMap::new(),
            working: BTreeMap::new(),
            workers: JoinSet::new(),
            loader: Loader::new(cluster.clone(), &settings, older_partitions),
            loading: JoinSet::new(),
            unavailable: Unavailable::default(),
            deleted_ids: BTreeSet::new(),
            budget: Budget::new(capacity),
            notices: mpsc::channel(NOTICES_MAX),
            offsets: Some(offsets),
            committing: JoinSet::new(),
            last_commit: Instant::now(),
            commit_pause: COMMIT_PAUSE_MIN,
            commit_trouble: Recurring::default(),
            out_of_place: Recurring::default(),
            settles_at: None,
            commit_soon: false,
            viewing: JoinSet::new(),
            standing,
            cluster,
            settings,
            shared,
            checks,
        }
    }

    /// Works until `stop`, then drains, commits and leaves the group, all of it by one deadline.
    ///
    /// # Errors
    /// When the membership ended for good, a checkpoint cannot be read, a worker failed, or `stuck` says what is stuck.
    /// The group is left, so that other members take over at once.
    pub(crate) async fn run(
        mut self,
        stop: CancellationToken,
        stuck: mpsc::Receiver<String>,
    ) -> anyhow::Result<()> {
        self.checks.kafka.not_ready("joining the group");
        let grace = self.settings.member.drain_timeout + FINAL_COMMIT;
        let ending = stop.child_token();
        // A stop counts from its signal, also while the loop is busy with a rebalance.
        let since = OnceLock::new();
        let is_over = async {
            ending.cancelled().await;
            sleep_until(*since.get_or_init(Instant::now) + grace).await;
        };
        let mut outcome = Ok(());
        let live = async {
            outcome = self.work(&stop, stuck).await;
            ending.cancel();
            let drained = self.end(*since.get_or_init(Instant::now)).await;
            if outcome.is_ok() {
                outcome = drained;
            }
        };
        tokio::select! {
            () = live => {}
            () = is_over => tracing::warn!(
                ?grace,
                "Kafka did not answer in time: what is not committed is done again, and the session times out"
            ),
        }
        outcome
    }

    async fn work(
        &mut self,
        stop: &CancellationToken,
        mut stuck: mpsc::Receiver<String>,
    ) -> anyhow::Result<()> {
        let mut tick = interval(self.settings.commit.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut view = Box::pin(sleep(Duration::ZERO));
        let mut each_second = interval(Duration::from_secs(1));
        loop {
            let soon = self.last_commit + self.commit_pause;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(what) = stuck.recv() => anyhow::bail!("stuck: {what}"),
                event = self.membership.next_event() => match event {
                    Some(event) => self.on_event(event).await?,
                    None => anyhow::bail!("the membership ended without a reason"),
                },
                Some(loaded) = self.loading.join_next() => {
                    self.on_loaded(loaded.context("load checkpoints")??);
                }
                Some(ended) = self.workers.join_next() => ended.context("work on a partition")??,
                Some(notice) = self.notices.1.recv() => self.on_notice(notice).await?,
                () = self.standing.moved() => self.commit_soon |= self.is_dirty(),
                _ = tick.tick() => self.commit_soon |= self.is_dirty(),
                () = sleep_until(soon), if self.commit_soon && self.may_commit() => {
                    self.commit();
                    tick.reset();
                }
                Some(committed) = self.committing.join_next() => {
                    self.on_committed(committed.context("commit")?).await?;
                }
                () = &mut view, if self.viewing.is_empty() => self.start_viewing(),
                Some(viewed) = self.viewing.join_next() => {
                    let pause = self.on_viewed(viewed.context("read the group's numbers")?);
                    view.as_mut().reset(Instant::now() + pause);
                }
                _ = each_second.tick() => {
                    self.shared.reporter.tick();
                    self.shared.instruments.assigned(self.assigned.len());
                    self.judge_health();
                    self.commit_soon |= self.is_awaited();
                }
            }
            self.say_standing();
        }
    }

    async fn on_event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Joined { generation, is_leader, owned } => {
                self.shared.instruments.joined();
                // The coordinator takes no commit of an earlier generation any more.
                self.settles_at = None;
                tracing::info!(
                    generation,
                    leader = is_leader,
                    partitions = owned,
                    "joined the group"
                );
                self.judge_health();
            }
            Event::Assigned(partitions) => {
                tracing::info!(partitions = %list(&partitions), "partitions assigned");
                self.load(partitions, Duration::ZERO);
            }
            Event::Revoked(partitions) => {
                tracing::info!(partitions = %list(&partitions), "partitions revoked, draining");
                self.revoke(&partitions, Instant::now()).await?;
                self.membership.drained(partitions).await;
            }
            Event::Lost(partitions) => {
                tracing::warn!(
                    partitions = %list(&partitions),
                    "partitions lost: another member may have them, what was not committed is done again"
                );
                self.judge_health();
                for tp in &partitions {
                    self.forget(tp);
                }
            }
            Event::OtherClients(members) => tracing::warn!(
                members = %members.join(", "),
                "members of another kind are in the group: the numbers of the partitions they hold start over"
            ),
            Event::UnreadableSubscription { member_id, error } => tracing::warn!(
                member = member_id,
                error = %chain(&error),
                "this member's subscription cannot be read: it is assigned no partition"
            ),
            Event::Fatal(error) => {
                return Err(anyhow::Error::new(error).context("stay in the group"));
            }
        }
        Ok(())
    }

    /// Says whether this member is of use to its group.
    pub(super) fn judge_health(&mut self) {
        let status = self.membership.status().borrow().clone();
        self.checks.judge_membership(&status, self.settings.member.session_timeout);
        let standings = self.shared.instruments.standings();
        let now = Instant::now();
        let full = self.checks.judge_work(&standings, &self.unavailable.by_reason(), now);
        for FullPartition { tp, offset, first_incomplete, incomplete, reason } in full {
            tracing::warn!(
                topic = %tp.topic, partition = tp.partition, offset, first_incomplete, incomplete, reason,
                "takes nothing in: as much as may be is incomplete"
            );
        }
        for (reason, partitions) in self.unavailable.due(now) {
            tracing::warn!(partitions = %list(&partitions), reason, "partitions are unavailable");
        }
    }

    /// Begins to read where newly assigned partitions go on.
    pub(super) fn load(&mut self, partitions: BTreeSet<TopicPartition>, pause: Duration) {
        let mut epochs = BTreeMap::new();
        for tp in partitions {
            self.epochs += 1;
            self.assigned.insert(tp.clone(), self.epochs);
            epochs.insert(tp, self.epochs);
        }
        self.shared.instruments.assigned(self.assigned.len());
        let deleted_ids = self.deleted_ids.clone();
        let capacity = self.budget.capacity();
        let load = Load { partitions: epochs, pause, deleted_ids, capacity };
        self.loading.spawn(self.loader.clone().load(load));
    }

    fn on_loaded(&mut self, outcome: Outcome) {
        let Outcome { loaded, mut failed, mut stopped, mut again } = outcome;
        // Some may have been revoked or lost while they were being loaded.
        again.partitions.retain(|tp, epoch| self.assigned.get(tp) == Some(epoch));
        stopped.retain(|tp, reason| {
            let is_new = self.unavailable.reason(tp) != Some(reason);
            if again.partitions.contains_key(tp) && is_new {
                tracing::error!(topic = %tp.topic, partition = tp.partition, reason, "stopped");
            }
            again.partitions.contains_key(tp)
        });
        failed.retain(|tp, _reason| again.partitions.contains_key(tp));
        self.unavailable.note(failed);
        self.unavailable.note(stopped);
        again.capacity = self.budget.capacity();
        if !again.partitions.is_empty() {
            self.loading.spawn(self.loader.clone().load(again));
        }
        for partition in loaded {
            if self.assigned.get(&partition.tp) == Some(&partition.epoch) {
                self.is_available(&partition.tp);
                self.start_worker(partition);
            }
        }
        self.judge_health();
    }

    pub(super) fn is_available(&mut self, tp: &TopicPartition) {
        if self.unavailable.clear(tp) {
            tracing::info!(topic = %tp.topic, partition = tp.partition, "available again");
        }
    }

    fn start_worker(&mut self, loaded: Loaded) {
        let Loaded { tp, epoch, topic_id, position, state, commit_at_once, .. } = loaded;
        let (fetched_tx, fetched) = mpsc::channel(FETCHED_MAX);
        let (requests, requests_rx) = mpsc::channel(REQUESTS_MAX);
        let revision = Arc::new(AtomicU64::new(state.revision()));
        let rest = Arc::new(AtomicU64::new(0));
        let committed = (!commit_at_once).then(|| state.revision());
        let doomed = Arc::new(AtomicU64::new(0));
        let (durable, durable_rx) =
            watch::channel(committed.filter(|_| self.is_settled(Instant::now())));
        let is_replay = tp.topic.as_ref() == self.shared.replay_topic;
        if is_replay {
            tracing::debug!(topic = %tp.topic, partition = tp.partition, offset = position, "reading");
        } else {
            let orders = state.aggregate().orders();
            tracing::info!(topic = %tp.topic, partition = tp.partition, offset = position, orders, "reading");
        }
        self.shared.reporter.take_over(&tp, state.aggregate());
        let standing = self.shared.instruments.take_over(
            &tp,
            partition_status::Standing {
                committed: (!commit_at_once).then_some(position),
                log_end: loaded.log_end,
                committable: position,
                frontier: position,
                ..partition_status::Standing::default()
            },
        );
        self.budget.accepted(loaded.committed_chars);
        self.shared.instruments.skipped(loaded.skipped);
        if loaded.is_reset {
            self.shared.instruments.checkpoint_reset();
        }
        let assignment = partition::Assignment {
            tp: tp.clone(),
            epoch,
            topic_id,
            state,
            fetched,
            requests: requests_rx,
            notices: self.notices.0.clone(),
            revision: Arc::clone(&revision),
            rest: Arc::clone(&rest),
            durability: partition::Durability { doomed: Arc::clone(&doomed), durable: durable_rx },
            standing,
        };
        self.workers.spawn(partition::run(Arc::clone(&self.shared), assignment));
        self.reader.add(tp.clone(), topic_id, position, fetched_tx);
        let working =
            Working { epoch, topic_id, requests, revision, rest, committed, doomed, durable };
        self.working.insert(tp, working);
        self.commit_soon |= commit_at_once;
    }

    async fn on_notice(&mut self, notice: Notice) -> anyhow::Result<()> {
        let (tp, epoch, mishap) = match notice {
            Notice::AtRest | Notice::LettersWait => {
                self.commit_soon |= self.is_dirty();
                return Ok(());
            }
            Notice::OutOfPlace { tp, epoch, mishap } => (tp, epoch, mishap),
        };
        if self.assigned.get(&tp) != Some(&epoch) {
            return Ok(());
        }
        if let Some(unreported) = self.out_of_place.report(tp.clone()) {
            tracing::warn!(partition = %tp, ?mishap, unreported, "cannot be read on from here");
        }
        let partitions = BTreeSet::from([tp]);
        match mishap {
            // What is done so far counts, wherever the log begins by now.
            Mishap::OutOfRange { .. } => self.revoke(&partitions, Instant::now()).await?,
            Mishap::Recreated { .. } => {
                for tp in &partitions {
                    self.deleted_ids.extend(self.working.get(tp).map(|working| working.topic_id));
                    self.forget(tp);
                }
            }
        }
        self.load(partitions, OUT_OF_PLACE_PAUSE);
        Ok(())
    }

    /// Stops working on a partition without committing where it stands.
    pub(super) fn forget(&mut self, tp: &TopicPartition) {
        self.assigned.remove(tp);
        self.reader.remove(tp);
        self.stop_showing(tp);
    }

    /// Takes a partition off the numbers that this process shows of its own work.
    pub(super) fn stop_showing(&mut self, tp: &TopicPartition) {
        self.unavailable.forget(tp);
        if self.working.remove(tp).is_some() {
            self.shared.reporter.give_up(tp);
            self.shared.instruments.give_up(tp);
        }
        self.shared.instruments.assigned(self.assigned.len());
    }

    pub(super) fn is_dirty(&self) -> bool {
        let is_settled = self.is_settled(Instant::now());
        self.working.values().any(|working| working.is_dirty(is_settled))
    }

    /// Returns whether a commit would let dead letters go that wait for one.
    pub(super) fn is_awaited(&self) -> bool {
        let is_settled = self.is_settled(Instant::now());
        let is_awaited = |working: &Working| working.letters_wait() && working.is_dirty(is_settled);
        self.working.values().any(is_awaited)
    }
}

impl Working {
    /// Returns whether something is to be committed; once no earlier commit can come any more, also what one may have
    /// taken the place of.
    pub(super) fn is_dirty(&self, is_settled: bool) -> bool {
        Some(self.revision.load(Atomic::Relaxed)) > self.committed
            || (is_settled && *self.durable.borrow() < self.committed)
    }

    pub(super) fn letters_wait(&self) -> bool {
        let doomed = self.doomed.load(Atomic::Acquire);
        (doomed > 0) && (*self.durable.borrow() < Some(doomed))
    }
}

/// Writes partitions for people: `orders 0 1 2, orders.replay 0`.
pub(crate) fn list(partitions: &BTreeSet<TopicPartition>) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for tp in partitions {
        topics.entry(&tp.topic).or_default().push(tp.partition.to_string());
    }
    let topics: Vec<String> = topics
        .into_iter()
        .map(|(topic, indexes)| format!("{topic} {}", indexes.join(" ")))
        .collect();
    topics.join(", ")
}
