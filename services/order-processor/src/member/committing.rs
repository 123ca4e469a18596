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
use kafka_core::member::{CommitIdentity, CommitPermission};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::budget::TooNarrow;
use super::session::{ANSWER_MAX, COMMIT_PAUSE_MIN, OUT_OF_PLACE_PAUSE, Session, list};
use crate::handler::Handler;
use crate::partition::{Request, Snapshot};

/// Pause before a commit that the coordinator did not take is made again.
const COMMIT_RETRY: Duration = Duration::from_millis(100);
/// How long a commit may be on its way after its connection was given up.
const LATE_COMMIT_MAX: Duration = Duration::from_secs(15);

/// What kept a commit from being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CommitTrouble {
    /// The coordinator did not answer all of it.
    Unanswered,
    /// The coordinator answered with this error code.
    Refused(i16),
}

/// What became of one round of commits.
pub(super) struct Committed {
    offsets: GroupOffsets,
    /// The generation it was made in.
    generation: i32,
    /// For each partition its epoch, what was sent, and the coordinator's error.
    results: Vec<(TopicPartition, u64, Snapshot, Option<ResponseError>)>,
    failure: Option<String>,
    /// Whether some of it may be taken later, or was taken without an answer.
    is_in_doubt: bool,
    /// When it was sent.
    begun: Instant,
    took: Duration,
}

impl<H: Handler> Session<H> {
    /// Returns whether a commit can begin now.
    pub(super) fn may_commit(&self) -> bool {
        let is_granted =
            matches!(self.membership.status().borrow().permission, CommitPermission::Granted(_));
        is_granted && self.committing.is_empty()
    }

    /// Returns whether what is committed in a commit sent at `begun` is there for good.
    pub(super) fn is_settled(&self, begun: Instant) -> bool {
        self.settles_at.is_none_or(|at| at <= begun)
    }

    /// Begins to commit where every changed partition stands, while that is allowed and none is under way.
    pub(super) fn commit(&mut self) {
        self.commit_soon = false;
        if !self.is_dirty() {
            return;
        }
        let CommitPermission::Granted(identity) =
            self.membership.status().borrow().permission.clone()
        else {
            return;
        };
        let Some(offsets) = self.offsets.take() else { return };
        let is_settled = self.is_settled(Instant::now());
        self.last_commit = Instant::now();
        let asked = self
            .working
            .iter()
            .filter(|(_, working)| working.is_dirty(is_settled))
            .map(|(tp, working)| (tp.clone(), working.epoch, working.requests.clone()))
            .collect();
        let instance_id = self.settings.member.instance_id.clone();
        self.committing.spawn(commit(offsets, identity, instance_id, asked));
    }

    /// Takes note of what became of a commit.
    ///
    /// # Errors
    /// When the coordinator stores too little beside an offset for any checkpoint.
    pub(super) async fn on_committed(&mut self, committed: Committed) -> anyhow::Result<()> {
        self.offsets = Some(committed.offsets);
        let errors: Vec<_> = committed.results.iter().filter_map(|result| result.3).collect();
        let instruments = Arc::clone(&self.shared.instruments);
        instruments.commit(committed.took, committed.failure.is_some(), &errors);
        if committed.failure.is_none() && errors.is_empty() {
            self.commit_pause = COMMIT_PAUSE_MIN;
        } else {
            // The numbers are due; they do not wait for another interval.
            self.commit_soon = true;
            let pause_max = self.settings.commit.interval.max(COMMIT_PAUSE_MIN);
            self.commit_pause = (2 * self.commit_pause).min(pause_max);
        }
        if let Some(error) = committed.failure {
            self.report_unanswered(&error);
        }
        if committed.is_in_doubt {
            self.settles_at = Some(Instant::now() + LATE_COMMIT_MAX);
        }
        let is_settled = self.is_settled(committed.begun);
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
                            self.budget.accepted(commit.metadata.len());
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
        self.commit_soon |= self.is_awaited();
        Ok(())
    }

    /// Makes checkpoints shorter from here on, and starts the partitions again whose checkpoints were too long for the
    /// coordinator: from the last one that it took, as after a kill.
    ///
    /// What a partition has in memory may never fit in less: letters wait for a commit.
    fn narrow(&mut self, too_long: BTreeMap<TopicPartition, usize>) -> Result<(), TooNarrow> {
        let Some(shortest) = too_long.values().copied().min() else { return Ok(()) };
        self.budget.refused(shortest)?;
        let partitions: BTreeSet<TopicPartition> = too_long.into_keys().collect();
        tracing::warn!(
            partitions = %list(&partitions),
            refused_chars = shortest,
            chars = self.budget.capacity().chars(),
            "the coordinator stores less beside an offset than was assumed: checkpoints are shorter from here on, and \
             what these partitions have done since their last commit is done again; OFFSET_METADATA_MAX_BYTES, or the \
             right to describe the brokers' configuration, avoids that"
        );
        for tp in &partitions {
            self.forget(tp);
        }
        self.load(partitions, OUT_OF_PLACE_PAUSE);
        Ok(())
    }

    fn report_unanswered(&mut self, error: &str) {
        if let Some(unreported) = self.commit_trouble.report(CommitTrouble::Unanswered) {
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
            if let Some(unreported) = self.commit_trouble.report(CommitTrouble::Refused(code)) {
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
        while let Ok(Some(committed)) = timeout_at(until, self.committing.join_next()).await {
            match committed {
                Ok(committed) => {
                    if let Err(error) = self.on_committed(committed).await {
                        tracing::error!(error = format!("{error:#}"), "could not commit");
                    }
                }
                Err(error) => tracing::error!(%error, "a commit failed"),
            }
        }
        if !self.committing.is_empty() {
            self.settles_at = Some(Instant::now() + LATE_COMMIT_MAX);
        }
        self.committing.shutdown().await;
        self.offsets.get_or_insert_with(|| {
            GroupOffsets::new(self.cluster.clone(), self.settings.group.group_id.clone())
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
            let Some(mut offsets) = self.offsets.take() else { break };
            let instance_id = self.settings.member.instance_id.as_deref();
            let begun = Instant::now();
            let outcome = timeout_at(until, offsets.commit(&identity, instance_id, &commits)).await;
            self.offsets = Some(offsets);
            let instruments = &self.shared.instruments;
            match outcome {
                Err(_elapsed) => {
                    instruments.commit(begun.elapsed(), true, &[]);
                    self.settles_at = Some(Instant::now() + LATE_COMMIT_MAX);
                    break;
                }
                Ok(Err(error)) => {
                    instruments.commit(begun.elapsed(), true, &[]);
                    self.report_unanswered(&chain(&error));
                    if error.may_have_acted(ApiKey::OffsetCommit) {
                        self.settles_at = Some(Instant::now() + LATE_COMMIT_MAX);
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

/// Asks every worker where it stands and commits the answers.
async fn commit(
    mut offsets: GroupOffsets,
    identity: CommitIdentity,
    instance_id: Option<String>,
    asked: Vec<(TopicPartition, u64, mpsc::Sender<Request>)>,
) -> Committed {
    let mut answers = Vec::new();
    for (tp, epoch, requests) in asked {
        let (answer, answered) = oneshot::channel();
        if requests.try_send(Request::Checkpoint(answer)).is_ok() {
            answers.push((tp, epoch, answered));
        }
    }
    // One that does not answer in time is asked again with the next commit, and holds up no other.
    let until = Instant::now() + ANSWER_MAX;
    let mut snapshots: Vec<(TopicPartition, u64, Snapshot)> = Vec::new();
    for (tp, epoch, answered) in answers {
        if let Ok(Ok(snapshot)) = timeout_at(until, answered).await {
            snapshots.push((tp, epoch, snapshot));
        }
    }
    let commits: Vec<OffsetCommit> =
        snapshots.iter().filter_map(|(_, _, snapshot)| snapshot.commit.clone()).collect();
    let generation = identity.generation;
    let begun = Instant::now();
    let committed = offsets.commit(&identity, instance_id.as_deref(), &commits).await;
    let (answers, failure, is_in_doubt) = match committed {
        Ok(answers) if answers.len() < commits.len() => {
            (answers, Some("a part of the commit was not answered".to_owned()), true)
        }
        Ok(answers) => (answers, None, false),
        Err(error) => {
            let is_in_doubt = error.may_have_acted(ApiKey::OffsetCommit);
            (BTreeMap::new(), Some(chain(&error)), is_in_doubt)
        }
    };
    let results = snapshots
        .into_iter()
        .filter_map(|(tp, epoch, snapshot)| {
            let error = *answers.get(&tp)?;
            Some((tp, epoch, snapshot, error))
        })
        .collect();
    let took = begun.elapsed();
    Committed { offsets, generation, results, failure, is_in_doubt, begun, took }
}
