//! The offsets that a consumer group has committed.

use std::collections::BTreeMap;

use kafka_core::TopicPartition;
use kafka_core::member::CommitIdentity;
use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;

use super::found::{Found, UNANSWERED, all_failed, by_topic, checked};
use crate::cluster::{Cluster, topic_name};
use crate::connection::Connection;
use crate::coordinator::Coordinator;
use crate::error::ClientError;

/// Most partitions that one OffsetCommit carries.
const COMMIT_PARTITIONS_MAX: usize = 100;
/// Most bytes of metadata that one OffsetCommit carries: requests that make the coordinator's own record too large
/// fail whole, with an error that names nothing.
const COMMIT_METADATA_BYTES_MAX: usize = 256 * 1024;
/// Stands for an unknown leader epoch.
const NO_EPOCH: i32 = -1;

/// An offset to commit for one partition, with metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of the next record to process.
    pub offset: i64,
    /// The leader epoch of the last record before `offset`, if it is known (KIP-320).
    pub leader_epoch: Option<i32>,
    /// Up to `offset.metadata.max.bytes` characters (the broker's default is 4096).
    pub metadata: String,
}

/// The committed offset of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to process.
    pub offset: i64,
    /// The leader epoch of the last record before `offset`, if it was committed with it (KIP-320).
    pub leader_epoch: Option<i32>,
    /// The metadata committed with it; empty if there is none.
    pub metadata: String,
}

/// The committed offsets of one consumer group.
#[derive(Debug)]
pub struct GroupOffsets {
    coordinator: Coordinator,
    connection: Option<Connection>,
}

/// Returns whether `group` has committed an offset in an existing topic of this name.
///
/// # Errors
/// As [`GroupOffsets::committed`] and [`Cluster::existing`].
///
/// # Cancel safety
/// Cancel safe.
pub async fn is_committed_in(
    cluster: &Cluster,
    group: &str,
    topic: &str,
) -> Result<bool, ClientError> {
    let partitions = cluster.existing(&[topic]).await?.partitions();
    if partitions.is_empty() {
        return Ok(false);
    }
    let committed = GroupOffsets::new(cluster, group).committed(&partitions).await?;
    Ok(committed.values().any(|committed| matches!(committed, Ok(Some(_)))))
}

impl GroupOffsets {
    /// Names the committed offsets of `group_id`; nothing is connected yet.
    pub fn new(cluster: &Cluster, group_id: impl Into<String>) -> Self {
        Self { coordinator: cluster.coordinator(group_id), connection: None }
    }

    /// Returns the group's committed offset of each of `partitions`; `None` if it never committed one.
    ///
    /// # Errors
    /// A retriable [`ClientError`] while the coordinator is moving: call again.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<Found<Option<CommittedOffset>>, ClientError> {
        let topics = by_topic(partitions.iter().map(|tp| (tp, tp.partition)))
            .into_iter()
            .map(|(topic, indexes)| {
                messages::offset_fetch_request::OffsetFetchRequestTopics::default()
                    .with_name(topic_name(topic))
                    .with_partition_indexes(indexes)
            })
            .collect();
        let group = messages::offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(StrBytes::from_string(self.coordinator.group_id().to_owned()).into())
            .with_topics(Some(topics));
        let request = messages::OffsetFetchRequest::default()
            .with_groups(vec![group])
            .with_require_stable(true);
        let response = self.coordinator.call(&mut self.connection, &request).await?;
        let group = response.groups.into_iter().next().unwrap_or_default();
        if let Some(error) = ResponseError::try_from_code(group.error_code) {
            self.note_error(error);
            let what =
                format!("fetch the committed offsets of group {}", self.coordinator.group_id());
            return Err(ClientError::refused(what, error));
        }
        Ok(read_committed(partitions, group))
    }

    /// Commits `commits` as `identity`, in as many requests as the coordinator's limits require, one after the other.
    ///
    /// Returns the error of each partition; `None` means committed. A partition is absent from the result if it was not
    /// sent, because an earlier request failed as a whole.
    ///
    /// # Errors
    /// A [`ClientError`] if the first request got no answer: its outcome is unknown, commit again.
    ///
    /// # Cancel safety
    /// A dropped future leaves the outcome unknown: commit again.
    pub async fn commit(
        &mut self,
        identity: &CommitIdentity,
        instance_id: Option<&str>,
        commits: &[OffsetCommit],
    ) -> Result<BTreeMap<TopicPartition, Option<ResponseError>>, ClientError> {
        let mut results = BTreeMap::new();
        for chunk in commit_chunks(commits) {
            let request = self.commit_request(identity, instance_id, chunk);
            let response = match self.coordinator.call(&mut self.connection, &request).await {
                Ok(response) => response,
                Err(error) if results.is_empty() => return Err(error),
                Err(error) => {
                    tracing::debug!(error = %error, "a later part of a commit got no answer");
                    return Ok(results);
                }
            };
            for topic in response.topics {
                for partition in topic.partitions {
                    let tp = TopicPartition::new(topic.name.0.as_str(), partition.partition_index);
                    let error = ResponseError::try_from_code(partition.error_code);
                    if let Some(error) = error {
                        self.note_error(error);
                    }
                    results.insert(tp, error);
                }
            }
        }
        Ok(results)
    }

    fn commit_request(
        &self,
        identity: &CommitIdentity,
        instance_id: Option<&str>,
        commits: &[OffsetCommit],
    ) -> messages::OffsetCommitRequest {
        let topics = by_topic(commits.iter().map(|commit| (&commit.partition, commit)))
            .into_iter()
            .map(|(topic, commits)| {
                let partitions = commits
                    .into_iter()
                    .map(|commit| {
                        messages::offset_commit_request::OffsetCommitRequestPartition::default()
                            .with_partition_index(commit.partition.partition)
                            .with_committed_offset(commit.offset)
                            .with_committed_leader_epoch(commit.leader_epoch.unwrap_or(NO_EPOCH))
                            .with_committed_metadata(Some(StrBytes::from_string(
                                commit.metadata.clone(),
                            )))
                    })
                    .collect();
                messages::offset_commit_request::OffsetCommitRequestTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(partitions)
            })
            .collect();
        messages::OffsetCommitRequest::default()
            .with_group_id(StrBytes::from_string(self.coordinator.group_id().to_owned()).into())
            .with_generation_id_or_member_epoch(identity.generation)
            .with_member_id(StrBytes::from_string(identity.member_id.clone()))
            .with_group_instance_id(instance_id.map(|id| StrBytes::from_string(id.to_owned())))
            .with_topics(topics)
    }

    fn note_error(&self, error: ResponseError) {
        if let Some(connection) = &self.connection {
            self.coordinator.note_error(connection.address(), error);
        }
    }
}

/// Returns the committed offsets of a response, which may leave partitions out.
fn read_committed(
    partitions: &[TopicPartition],
    group: messages::offset_fetch_response::OffsetFetchResponseGroup,
) -> Found<Option<CommittedOffset>> {
    let mut found = all_failed(partitions, &UNANSWERED);
    for topic in group.topics {
        for partition in topic.partitions {
            let tp = TopicPartition::new(topic.name.0.as_str(), partition.partition_index);
            let committed = checked(partition.error_code).map(|()| {
                let metadata = partition.metadata.map(|text| text.to_string()).unwrap_or_default();
                let leader_epoch = partition.committed_leader_epoch;
                let committed = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: Some(leader_epoch).filter(|epoch| *epoch > NO_EPOCH),
                    metadata,
                };
                Some(committed).filter(|committed| committed.offset >= 0)
            });
            found.insert(tp, committed);
        }
    }
    found
}

/// Splits `commits` so that no request exceeds the limits in partitions and bytes.
fn commit_chunks(commits: &[OffsetCommit]) -> Vec<&[OffsetCommit]> {
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, commit) in commits.iter().enumerate() {
        let full = index - start == COMMIT_PARTITIONS_MAX
            || (index > start && bytes + commit.metadata.len() > COMMIT_METADATA_BYTES_MAX);
        if full {
            chunks.push(&commits[start..index]);
            start = index;
            bytes = 0;
        }
        bytes += commit.metadata.len();
    }
    if start < commits.len() {
        chunks.push(&commits[start..]);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::super::found::{check, partitions};
    use super::*;

    #[test]
    fn an_error_about_one_partition_hides_no_committed_offset_of_the_others() {
        use messages::offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
        };
        for error in [
            ResponseError::UnstableOffsetCommit,
            ResponseError::UnknownTopicOrPartition,
            ResponseError::TopicAuthorizationFailed,
        ] {
            let of = |index, offset| {
                let partition = OffsetFetchResponsePartitions::default();
                partition.with_partition_index(index).with_committed_offset(offset)
            };
            let topic = OffsetFetchResponseTopics::default().with_name(topic_name("orders"));
            let topic =
                topic.with_partitions(vec![of(0, -1), of(1, -1).with_error_code(error.code())]);
            let group = OffsetFetchResponseGroup::default().with_topics(vec![topic]);

            check(&read_committed(&partitions(3), group), &None, error);
        }
    }

    #[test]
    fn a_commit_is_split_by_partitions_and_by_bytes() {
        let sizes = |commits: &[OffsetCommit]| -> Vec<usize> {
            commit_chunks(commits).into_iter().map(<[OffsetCommit]>::len).collect()
        };
        assert_eq!(sizes(&commits(0, 0)), Vec::<usize>::new());
        assert_eq!(sizes(&commits(250, 10)), [100, 100, 50]);
        assert_eq!(sizes(&commits(100, 4096)), [64, 36]);
        assert_eq!(sizes(&commits(2, 300 * 1024)), [1, 1]);
    }

    fn commits(count: usize, metadata_bytes: usize) -> Vec<OffsetCommit> {
        (0..count)
            .map(|index| OffsetCommit {
                partition: TopicPartition::new("orders", i32::try_from(index).unwrap()),
                offset: 0,
                leader_epoch: None,
                metadata: "x".repeat(metadata_bytes),
            })
            .collect()
    }
}
