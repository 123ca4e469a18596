//! Committing where partitions stand: now and then while they are worked on, and once more when they are given up.
//!
//! Dead letters wait for commits, at once and not for the interval. They need one that is there for good. A commit that got
//! no answer may be on its way still, and take the place of later ones of its generation. So what is committed then
//! counts as committed for good only if it was sent [`LATE_COMMIT_MAX`] later, or in a later generation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_client::error::chain;
use kafka_client::offsets::{GroupOffsets, OffsetCommit};
use kafka_core::TopicPartition;
use kafka_core::member::CommitPermission;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use tokio::time::{Instant, sleep, timeout_at};

use super::budget::TooNarrow;
use super::commit_round::{CommitTrouble, Committed, commit};
use super::commits::COMMIT_PAUSE_MIN;
use super::session::{INTERRUPTED_PAUSE, Session};
use crate::handler::Handler;
use crate::telemetry::partitions::list;

/// Pause before a commit that the coordinator did not take is made again.
const COMMIT_RETRY: Duration = Duration::from_millis(100);
/// How long a commit may be on its way after its connection was given up.
const LATE_COMMIT_MAX: Duration = Duration::from_secs(15);

impl<H: Handler> Session<H> {
    /// Returns whether a commit can begin now.
    pub(super) fn may_commit(&self) -> bool {
        let is_granted =
            matches!(self.membership.status().borrow().permission, CommitPermission::Granted(_));
        is_granted && self.commits.rounds.is_empty()
    }

    /// Begins to commit where every changed partition stands, while that is allowed and none is under way.
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

    /// Takes note of what became of a commit.
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
            // The numbers are due; they do not wait for another interval.
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
                    // One that is being given up is started by its next owner.
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

    /// Makes checkpoints shorter from here on, and starts the partitions again whose checkpoints were too long for the
    /// coordinator: from the last one that it took, as after a kill.
    ///
    /// What a partition has in memory may never fit in less: letters wait for a commit.
    fn narrow(&mut self, too_long: BTreeMap<TopicPartition, usize>) -> Result<(), TooNarrow> {
        let Some(shortest) = too_long.values().copied().min() else { return Ok(()) };
        self.commits.budget.refused(shortest)?;
        let partitions: BTreeSet<TopicPartition> = too_long.into_keys().collect();
        tracing::warn!(
            partitions = %list(&partitions),
            refused_chars = shortest,
            chars = self.commits.budget.capacity().chars(),
            "the coordinator stores less beside an offset than was assumed: checkpoints are shorter from here on, and \
             what these partitions have done since their last commit is done again; OFFSET_METADATA_MAX_BYTES, or the \
             right to describe the brokers' configuration, avoids that"
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
                    "the coordinator refused to commit where these partitions stand"
                );
            }
        }
    }

    /// Waits for the commit that is under way, and gives it up when the time is up.
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
            GroupOffsets::new(self.cluster.clone(), self.shared.settings.group.group_id.clone())
        });
    }

    /// Commits drained partitions, again and again until all are committed, fenced, or the time is up.
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
                "could not commit where these partitions stand: what is not committed is done again"
            );
        }
    }
}
