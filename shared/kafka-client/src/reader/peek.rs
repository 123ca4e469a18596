//! One fetch from a log at a given offset, without following the log.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_core::TopicPartition;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;

use super::config::ReaderConfig;
use super::fetched::FetchedBatches;
use super::request::{Wanted, request};
use super::response::{Asked, Outcome, read};
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
    let wanted = Wanted {
        topic_id: topic.topic_id,
        position: offset,
        asked: offset,
        room: bytes_max,
        wait: None,
        is_findable: true,
        is_urgent: true,
        addition: 0,
    };
    let wanted = BTreeMap::from([(tp.clone(), wanted)]);
    let config = ReaderConfig { response_bytes_max: bytes_max, ..ReaderConfig::default() };
    let make = |version| request(&[tp], &wanted, &config, Duration::ZERO, version);
    let response = cluster.call_streamed::<FetchRequest>(&address, make).await?;
    let asked = Asked { wanted: &wanted, first: Some(tp), wait: Duration::ZERO };
    match read(&asked, &config, response).pop() {
        Some((_, Outcome::Read(read))) => Ok(read.into_fetched()),
        Some((_, Outcome::OutOfRange)) => Err(refused(ResponseError::OffsetOutOfRange)),
        Some((
            _,
            Outcome::FindLeader(error) | Outcome::Unreadable(error) | Outcome::Wait { error, .. },
        )) => Err(refused(error)),
        None => Err(refused(ResponseError::UnknownServerError)),
    }
}
