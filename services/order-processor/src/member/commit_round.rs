//! One round of commits: every changed partition is asked for its checkpoint, and the answers are committed.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_client::error::chain;
use kafka_client::offsets::{GroupOffsets, OffsetCommit};
use kafka_core::TopicPartition;
use kafka_core::member::CommitIdentity;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::partition::{Request, Snapshot};

/// How long a worker may take to answer with a checkpoint: longer than any batch of orders that are done at once.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CommitTrouble {
    /// The coordinator did not answer all of it.
    Unanswered,
    /// The coordinator answered with this error code.
    Refused(i16),
}

/// The result of one round of commits.
pub(super) struct Committed {
    pub(super) offsets: GroupOffsets,
    /// The generation it was made in.
    pub(super) generation: i32,
    /// For each partition its epoch, what was sent, and the coordinator's error.
    pub(super) results: Vec<(TopicPartition, u64, Snapshot, Option<ResponseError>)>,
    pub(super) failure: Option<String>,
    /// Whether the coordinator may have taken it, or may still take it, without an answer.
    pub(super) is_in_doubt: bool,
    pub(super) begun: Instant,
    pub(super) took: Duration,
}

/// Asks every worker for a checkpoint and commits the answers.
pub(super) async fn commit(
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
    // A worker that does not answer in time is asked again in the next round, and delays no other.
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
