//! One fetch from a log at a given offset, without following the log.

use std::time::Duration;

use kafka_core::TopicPartition;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;

use super::damage::Place;
use super::lanes::{Asked, Solo};
use super::request::request;
use super::response::{Context, Outcome, read_partition};
use super::session::{Key, Params};
use super::{FetchedBatches, ReaderConfig};
use crate::cluster::{Cluster, TopicMetadata};
use crate::error::ClientError;

/// Returns the batches from `offset`, at most `bytes_max` bytes unless the first batch is larger; none at the log's end.
/// `topic` is the metadata of the partition's topic.
///
/// As with the reader, the first batch may begin below `offset`, and aborted transactions are listed, not filtered.
///
/// # Errors
/// [`ClientError::Unreachable`] if the leader does not answer; [`ClientError::Refused`] with `OffsetOutOfRange` if the log
/// does not hold the offset, with another code while the partition has no leader or its leader changes.
///
/// # Cancel safety
/// Cancel safe.
pub async fn peek(
    cluster: &Cluster,
    tp: &TopicPartition,
    topic: &TopicMetadata,
    offset: i64,
    bytes_max: i32,
) -> Result<FetchedBatches, ClientError> {
    let refused = |error| ClientError::refused(format!("read {tp} at offset {offset}"), error);
    let leader = topic.leaders.get(&tp.partition).copied().flatten();
    let address = leader
        .and_then(|leader| cluster.known().address(leader.node).cloned())
        .ok_or_else(|| refused(ResponseError::LeaderNotAvailable))?;
    let key = Key { topic_id: topic.topic_id, tp: tp.clone() };
    let params = Params { offset, leader_epoch: -1, room: bytes_max };
    let asked = Asked::Solo(Solo { key, params, wait: Duration::ZERO });
    let config = ReaderConfig { response_bytes_max: bytes_max, ..ReaderConfig::default() };
    let make = |version| request(&asked, &config, Duration::ZERO, version);
    let answer = cluster.call_streamed::<FetchRequest>(&address, make).await?;
    if let Some(error) = ResponseError::try_from_code(answer.error_code) {
        return Err(refused(error));
    }
    let part = answer.partitions.into_iter().next();
    let part = part.ok_or_else(|| refused(ResponseError::UnknownServerError))?;
    let context = Context { params, is_full: false, was_first: true, wait: Duration::ZERO };
    match read_partition(&Place::new(offset), part, context) {
        Outcome::Read(read) => Ok(read.into_fetched()),
        Outcome::OutOfRange | Outcome::Diverges(_) => Err(refused(ResponseError::OffsetOutOfRange)),
        Outcome::FindLeader(error) | Outcome::Unreadable(error) | Outcome::Wait { error, .. } => {
            Err(refused(error))
        }
    }
}
