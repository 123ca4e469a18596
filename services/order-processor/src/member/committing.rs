//! Commits checkpoints: once an interval while partitions are worked on, and once more when they are given up.
//!
//! Dead letters ask for a commit at once. They need a durable one. A commit that got no answer may still be in flight and
//! replace later ones of its generation. So a later commit is durable only if it was sent [`LATE_COMMIT_MAX`] later, or in a
//! later generation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_client::error::chain;
use kafka_client::offsets::{GroupOffsets, OffsetCommit};
use kafka_core::TopicPartition;
use kafka_core::member::CommitPermission;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use order_ledger::checkpoint::Capacity;
use pacing::ReportLimit;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::budget::{Budget, TooNarrow};
use super::commit_round::{CommitTrouble, Committed, commit};
use super::session::{INTERRUPTED_PAUSE, Session};
use crate::handler::Handler;
use crate::telemetry::REPORT_INTERVAL;
use crate::telemetry::partitions::list;

/// The least time between two commits; it doubles with every commit that fails.
const COMMIT_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Pause before a final commit is made again.
const COMMIT_RETRY: Duration = Duration::from_millis(100);
/// How long a commit may be in flight after its connection was closed.
const LATE_COMMIT_MAX: Duration = Duration::from_secs(15);

/// The commits of a session.
pub(super) struct Commits {
    /// Taken while a round is running.
    pub(super) offsets: Option<GroupOffsets>,
    pub(super) rounds: JoinSet<Committed>,
    pub(super) last_begun: Instant,
    /// The least time between the last commit and the next.
    pub(super) pause: Duration,
    pub(super) trouble: ReportLimit<CommitTrouble>,
    /// Until when a commit that got no answer may still replace a later one.
    pub(super) settles_at: Option<Instant>,
    /// Whether a commit is due: the interval is over, or something does not wait for it.
    pub(super) is_due: bool,
    pub(super) budget: Budget,
}

impl Commits {
    pub(super) fn new(offsets: GroupOffsets, capacity: Capacity) -> Self {
        Self {
            offsets: Some(offsets),
            rounds: JoinSet::new(),
            last_begun: Instant::now(),
            pause: COMMIT_PAUSE_MIN,
            trouble: ReportLimit::every(REPORT_INTERVAL),
            settles_at: None,
            is_due: false,
            budget: Budget::new(capacity),
        }
    }

    /// Returns whether no earlier commit can replace one that was sent at `begun`.
    pub(super) fn is_settled(&self, begun: Instant) -> bool {
        self.settles_at.is_none_or(|at| at <= begun)
    }
}

impl<H: Handler> Session<H> {
    /// Returns whether a commit can begin now.
    pub(super) fn may_commit(&self) -> bool {
        let is_granted =
            matches!(self.membership.status().borrow().permission, CommitPermission::Granted(_));
        is_granted && self.commits.rounds.is_empty()
    }

    /// Begins a round of commits of all changed partitions, unless one is running or commits are not allowed.
    pub(super) fn commit(&mut self) {
        self.commits.is_due = false;
        if !self.is_dirty() {
            return;
        }
        let CommitPermission::Granted(identity) =
            self.membership.status().borrow().permission.clone()
        else {
            return;
        };
        let Some(offsets) = self.commits.offsets.take() else { return };
        let is_settled = self.commits.is_settled(Instant::now());
        self.commits.last_begun = Instant::now();
        let asked = self
            .working
            .iter()
            .filter(|(_, working)| working.is_dirty(is_settled))
            .map(|(tp, working)| (tp.clone(), working.epoch, working.requests.clone()))
            .collect();
        let instance_id = self.shared.settings.member.instance_id.clone();
        self.commits.rounds.spawn(commit(offsets, identity, instance_id, asked));
    }

    /// Acts on the result of a round of commits.
    ///
    /// # Errors
    /// When the coordinator stores too little beside an offset for any checkpoint.
    pub(super) async fn on_committed(&mut self, committed: Committed) -> anyhow::Result<()> {
        self.commits.offsets = Some(committed.offsets);
        let errors: Vec<_> = committed.results.iter().filter_map(|result| result.3).collect();
        let instruments = Arc::clone(&self.shared.instruments);
        instruments.commit(committed.took, committed.failure.is_some(), &errors);
        if committed.failure.is_none() && errors.is_empty() {
            self.commits.pause = COMMIT_PAUSE_MIN;
        } else {
            // The commit is due already and waits for no other interval.
            self.commits.is_due = true;
            let pause_max = self.shared.settings.commit.interval.max(COMMIT_PAUSE_MIN);
            self.commits.pause = (2 * self.commits.pause).min(pause_max);
        }
        if let Some(error) = committed.failure {
            self.report_unanswered(&error);
        }
        if committed.is_in_doubt {
            self.commits.settles_at = Some(Instant::now() + LATE_COMMIT_MAX);
        }
        let is_settled = self.commits.is_settled(committed.begun);
        let (mut refused, mut too_long) = (Vec::new(), BTreeMap::new());
        for (tp, epoch, snapshot, error) in committed.results {
            match error {
                None => {
                    if let Some(working) = self.working.get_mut(&tp).filter(|w| w.epoch == epoch) {
                        working.committed = working.committed.max(Some(snapshot.revision));
                        if is_settled && snapshot.commit.is_some() {
                            working.durable.send_replace(working.committed);
                        }
                        if let Some(commit) = snapshot.commit {
                            self.commits.budget.accepted(commit.metadata.len());
                            instruments.committed(&tp, commit.offset);
                        }
                    }
                }
                Some(ResponseError::OffsetMetadataTooLarge) => {
                    let chars = snapshot.commit.map_or(0, |commit| commit.metadata.len());
                    // The next owner of a partition that is being given up loads it.
                    let is_assigned = self.assigned.get(&tp) == Some(&epoch);
                    too_long.extend(is_assigned.then_some((tp, chars)));
                }
                Some(error) => {
                    self.membership.commit_failed(error, committed.generation).await;
                    refused.push((tp, error));
                }
            }
        }
        self.report_refused(refused);
        self.narrow(too_long)?;
        self.commits.is_due |= self.is_awaited();
        Ok(())
    }

    /// Makes checkpoints shorter, and loads the partitions again whose checkpoints were too long for the coordinator: they
    /// resume from the last committed one, as after a kill.
    ///
    /// The state in memory may never fit into less, because letters wait for a commit.
    fn narrow(&mut self, too_long: BTreeMap<TopicPartition, usize>) -> Result<(), TooNarrow> {
        let Some(shortest) = too_long.values().copied().min() else { return Ok(()) };
        self.commits.budget.refused(shortest)?;
        let partitions: BTreeSet<TopicPartition> = too_long.into_keys().collect();
        tracing::warn!(
            partitions = %list(&partitions),
            refused_chars = shortest,
            chars = self.commits.budget.capacity().chars(),
            "the coordinator stores less beside an offset than was assumed: checkpoints get shorter, and these partitions \
             repeat their work since their last commit; OFFSET_METADATA_MAX_BYTES, or the right to describe the \
             brokers' configuration, avoids that"
        );
        for tp in &partitions {
            self.forget(tp);
        }
        self.load(partitions, INTERRUPTED_PAUSE);
        Ok(())
    }

    fn report_unanswered(&mut self, error: &str) {
        if let Some(unreported) = self.commits.trouble.report(CommitTrouble::Unanswered) {
            tracing::warn!(error, unreported, "could not commit, will commit again");
        }
    }

    /// Reports what the coordinator refused, one line for each of its error codes.
    fn report_refused(&mut self, refused: Vec<(TopicPartition, ResponseError)>) {
        let mut by_code: BTreeMap<i16, (ResponseError, BTreeSet<TopicPartition>)> = BTreeMap::new();
        for (tp, error) in refused {
            by_code.entry(error.code()).or_insert((error, BTreeSet::new())).1.insert(tp);
        }
        for (code, (error, partitions)) in by_code {
            if let Some(unreported) = self.commits.trouble.report(CommitTrouble::Refused(code)) {
                tracing::warn!(
                    partitions = %list(&partitions),
                    ?error,
                    unreported,
                    "the coordinator refused to commit these partitions"
                );
            }
        }
    }

    /// Waits for the running round of commits until a deadline.
    pub(super) async fn finish_committing(&mut self, until: Instant) {
        while let Ok(Some(committed)) = timeout_at(until, self.commits.rounds.join_next()).await {
            match committed {
                Ok(committed) => {
                    if let Err(error) = self.on_committed(committed).await {
                        tracing::error!(error = format!("{error:#}"), "could not commit");
                    }
                }
                Err(error) => tracing::error!(%error, "a commit failed"),
            }
        }
        if !self.commits.rounds.is_empty() {
            self.commits.settles_at = Some(Instant::now() + LATE_COMMIT_MAX);
        }
        self.commits.rounds.shutdown().await;
        self.commits.offsets.get_or_insert_with(|| {
            GroupOffsets::new(&self.cluster, self.shared.settings.group.group_id.clone())
        });
    }

    /// Commits drained partitions until all are committed, fenced, or the deadline has passed.
    pub(super) async fn commit_finally(&mut self, mut commits: Vec<OffsetCommit>, until: Instant) {
        let mut status = self.membership.status();
        while !commits.is_empty() {
            let permission = status.borrow_and_update().permission.clone();
            let identity = match permission {
                CommitPermission::Granted(identity) => identity,
                CommitPermission::Denied => break,
                CommitPermission::Wait => match timeout_at(until, status.changed()).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) | Err(_) => break,
                },
            };
            let Some(mut offsets) = self.commits.offsets.take() else { break };
            let instance_id = self.shared.settings.member.instance_id.as_deref();
            let begun = Instant::now();
            let outcome = timeout_at(until, offsets.commit(&identity, instance_id, &commits)).await;
            self.commits.offsets = Some(offsets);
            let instruments = &self.shared.instruments;
            match outcome {
                Err(_elapsed) => {
                    instruments.commit(begun.elapsed(), true, &[]);
                    self.commits.settles_at = Some(Instant::now() + LATE_COMMIT_MAX);
                    break;
                }
                Ok(Err(error)) => {
                    instruments.commit(begun.elapsed(), true, &[]);
                    self.report_unanswered(&chain(&error));
                    if error.may_have_acted(ApiKey::OffsetCommit) {
                        self.commits.settles_at = Some(Instant::now() + LATE_COMMIT_MAX);
                    }
                }
                Ok(Ok(results)) => {
                    let errors: Vec<_> = results.values().filter_map(|error| *error).collect();
                    instruments.commit(begun.elapsed(), false, &errors);
                    let refused = results.iter().filter_map(|(tp, e)| Some((tp.clone(), (*e)?)));
                    self.report_refused(refused.collect());
                    commits.retain(|commit| {
                        !matches!(
                            results.get(&commit.partition),
                            Some(
                                None | Some(
                                    ResponseError::UnknownMemberId
                                        | ResponseError::IllegalGeneration
                                        | ResponseError::FencedInstanceId
                                        | ResponseError::OffsetMetadataTooLarge
                                )
                            )
                        )
                    });
                }
            }
            if !commits.is_empty() && timeout_at(until, sleep(COMMIT_RETRY)).await.is_err() {
                break;
            }
        }
        if !commits.is_empty() {
            let partitions: BTreeSet<_> =
                commits.into_iter().map(|commit| commit.partition).collect();
            tracing::warn!(
                partitions = %list(&partitions),
                "could not commit these partitions: uncommitted work is done again"
            );
        }
    }
}
