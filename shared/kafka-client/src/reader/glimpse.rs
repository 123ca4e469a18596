//! Looks into logs: what lies at an offset now, without following the log.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_group::TopicPartition;
use kafka_protocol::ResponseError;
use kafka_protocol::messages;

use super::request::request;
use super::response::{Outcome, Read, read};
use super::{FetchedBatches, ReaderConfig, Wanted};
use crate::cluster::{Cluster, TopicMetadata};
use crate::connection::{Connection, ConnectionError};
use crate::error::ClientError;

/// Looks into logs, one partition at a time, over connections that are kept.
#[derive(Debug)]
pub struct Glimpses {
    cluster: Cluster,
    connections: BTreeMap<String, Connection>,
}

impl Glimpses {
    /// Looks into the logs of a cluster; nothing is connected yet.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, connections: BTreeMap::new() }
    }

    /// Returns the batches from `offset` on, `bytes_max` of them unless the first one alone is larger; none at the log's
    /// end. `topic` is what the cluster's metadata say of the partition's topic.
    ///
    /// As with the reader, the first batch may begin below `offset`, and aborted transactions are named, not left out.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] where the leader does not answer; [`ClientError::Refused`] with `OffsetOutOfRange`
    /// where the log does not hold the offset, with another code while the partition has no leader or is moving.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn at(
        &mut self,
        tp: &TopicPartition,
        topic: &TopicMetadata,
        offset: i64,
        bytes_max: i32,
    ) -> Result<FetchedBatches, ClientError> {
        let refused = |error| ClientError::refused(format!("read {tp} at offset {offset}"), error);
        let leader = topic.leaders.get(&tp.partition).copied().flatten();
        let address = leader
            .and_then(|leader| self.cluster.address(leader))
            .ok_or_else(|| refused(ResponseError::LeaderNotAvailable))?;
        let wanted = Wanted {
            topic_id: topic.topic_id,
            position: offset,
            asked: offset,
            room: bytes_max,
            is_urgent: true,
            addition: 0,
        };
        let wanted = BTreeMap::from([(tp.clone(), wanted)]);
        let config = ReaderConfig { response_bytes_max: bytes_max, ..ReaderConfig::default() };
        let make = |version| request(&[tp], &wanted, &config, Duration::ZERO, version);
        let response = self.fetch(&address, make).await?;
        match read(&wanted, Some(tp), &config, response).pop() {
            Some((_, Outcome::Read(read))) => Ok(fetched(read)),
            Some((_, Outcome::OutOfRange)) => Err(refused(ResponseError::OffsetOutOfRange)),
            Some((
                _,
                Outcome::FindLeader(error)
                | Outcome::Unreadable(error)
                | Outcome::Wait { error, .. },
            )) => Err(refused(error)),
            None => Err(refused(ResponseError::UnknownServerError)),
        }
    }

    async fn fetch(
        &mut self,
        address: &str,
        make: impl Fn(i16) -> messages::FetchRequest + Send,
    ) -> Result<messages::FetchResponse, ConnectionError> {
        let deadline = self.cluster.config().request_timeout;
        if let Some(mut connection) = self.connections.remove(address) {
            let request = make(connection.version::<messages::FetchRequest>()?);
            match connection.call(&request, deadline).await {
                Ok(response) => {
                    self.connections.insert(address.to_owned(), connection);
                    return Ok(response);
                }
                // The broker may have closed it since (connections.max.idle.ms, a restart).
                Err(ConnectionError::Broken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.cluster.connect(address).await?;
        let request = make(connection.version::<messages::FetchRequest>()?);
        let response = connection.call(&request, deadline).await?;
        self.connections.insert(address.to_owned(), connection);
        Ok(response)
    }
}

fn fetched(read: Read) -> FetchedBatches {
    let Read { reading, found, aborted, high_watermark, log_start_offset } = read;
    FetchedBatches {
        batches: reading.batches,
        damaged: reading.damaged,
        aborted,
        next_offset: reading.next_offset,
        last_stable_offset: found.end,
        high_watermark,
        log_start_offset,
    }
}
