//! Requests about partitions to the leader of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;

use super::found::{Found, UNANSWERED, all_failed};
use crate::cluster::{Cluster, Leader, TopicMetadata};
use crate::connection::ConnectionError;
use crate::error::{ClientError, PartitionError};

/// Partitions of one leader, with the leader epochs of its metadata: a broker refuses them if it has lost its leadership.
pub(super) type Asked<'a> = BTreeMap<&'a TopicPartition, i32>;

/// Calls `ask` with the address of each leader and its partitions, all at once, and returns the answers together.
pub(super) async fn ask_leaders<'a, T, F>(
    cluster: &Cluster,
    partitions: Vec<&'a TopicPartition>,
    ask: impl Fn(Arc<str>, Asked<'a>) -> F + Send + Sync,
) -> Result<Found<T>, ClientError>
where
    T: Send,
    F: Future<Output = Result<Found<T>, ConnectionError>> + Send,
{
    let mut topics: Vec<&str> = partitions.iter().map(|tp| tp.topic.as_ref()).collect();
    topics.sort_unstable();
    topics.dedup();
    let topics = cluster.describe(&topics).await?;
    let mut found = Found::new();
    let mut by_leader: BTreeMap<NodeId, Asked<'a>> = BTreeMap::new();
    for tp in partitions {
        match leader(&topics, tp) {
            Ok(leader) => {
                by_leader.entry(leader.node).or_default().insert(tp, leader.epoch);
            }
            Err(error) => drop(found.insert(tp.clone(), Err(error))),
        }
    }
    let ask = &ask;
    let answers = by_leader.into_iter().map(|(leader, partitions)| async move {
        let Some(address) = cluster.known().address(leader).cloned() else {
            return all_failed(partitions.keys().copied(), &PartitionError::NoLeader);
        };
        let asked = partitions.clone();
        ask(address, asked).await.unwrap_or_else(|source| {
            let source = Arc::new(source);
            let error = PartitionError::Unreachable { leader, source };
            all_failed(partitions.keys().copied(), &error)
        })
    });
    found.extend(join_all(answers).await.into_iter().flatten());
    Ok(found)
}

fn leader(
    described: &BTreeMap<String, Result<TopicMetadata, ResponseError>>,
    tp: &TopicPartition,
) -> Result<Leader, PartitionError> {
    let topic = described.get(tp.topic.as_ref()).ok_or(UNANSWERED)?;
    let topic = topic.as_ref().map_err(|error| PartitionError::Refused(*error))?;
    let leader = topic.leaders.get(&tp.partition).ok_or(UNANSWERED)?;
    leader.ok_or(PartitionError::NoLeader)
}
