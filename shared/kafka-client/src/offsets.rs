//! Offsets: what a group has committed, what a log holds.
//!
//! Commits have a connection of their own to the group's coordinator: the broker works on one request per connection
//! at a time, and a commit behind the member's own JoinGroup would be answered after the rebalance, as illegal.
//!
//! OffsetCommit: <https://kafka.apache.org/protocol#The_Messages_OffsetCommit>, OffsetFetch:
//! <https://kafka.apache.org/protocol#The_Messages_OffsetFetch>, ListOffsets:
//! <https://kafka.apache.org/protocol#The_Messages_ListOffsets>.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use kafka_core::member::CommitIdentity;
use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;

use crate::api::Call;
use crate::cluster::{Cluster, TopicMetadata, topic_name};
use crate::connection::Connection;
use crate::error::{ClientError, PartitionError};

/// Most partitions that one OffsetCommit carries.
const COMMIT_PARTITIONS_MAX: usize = 100;
/// Most bytes of metadata that one OffsetCommit carries: requests that make the coordinator's own record too large
/// fail whole, with an error that names nothing.
const COMMIT_METADATA_BYTES_MAX: usize = 256 * 1024;
/// Why nothing is known of a partition that an answer leaves out.
const UNANSWERED: PartitionError = PartitionError::Refused(ResponseError::UnknownTopicOrPartition);
/// Isolation level of ListOffsets that ends at the last stable offset instead of the high watermark.
const READ_COMMITTED: i8 = 1;

/// What was found out about each partition that was asked for.
pub type Found<T> = BTreeMap<TopicPartition, Result<T, PartitionError>>;

/// Returns what was found out about all partitions.
///
/// # Errors
/// [`ClientError::Partition`] of the first partition of which nothing is known.
pub fn all_of<T>(found: Found<T>) -> Result<BTreeMap<TopicPartition, T>, ClientError> {
    let known = |(partition, found): (TopicPartition, Result<T, PartitionError>)| match found {
        Ok(known) => Ok((partition, known)),
        Err(source) => Err(ClientError::Partition { partition, source }),
    };
    found.into_iter().map(known).collect()
}

/// An offset to commit for one partition, with what is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of the next record to process.
    pub offset: i64,
    /// Up to `offset.metadata.max.bytes` characters (the broker's default is 4096).
    pub metadata: String,
}

/// What a group has committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to process.
    pub offset: i64,
    /// What was committed beside it; empty where the committer kept nothing.
    pub metadata: String,
}

/// The committed offsets of one consumer group.
#[derive(Debug)]
pub struct GroupOffsets {
    cluster: Cluster,
    group_id: String,
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
    let committed = GroupOffsets::new(cluster.clone(), group).committed(&partitions).await?;
    Ok(committed.values().any(|committed| matches!(committed, Ok(Some(_)))))
}

impl GroupOffsets {
    /// Names the committed offsets of `group_id`; nothing is connected yet.
    pub fn new(cluster: Cluster, group_id: impl Into<String>) -> Self {
        Self { cluster, group_id: group_id.into(), connection: None }
    }

    /// Returns what the group has committed for each of `partitions`: nothing, if it was never committed.
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
            .with_group_id(StrBytes::from_string(self.group_id.clone()).into())
            .with_topics(Some(topics));
        let request = messages::OffsetFetchRequest::default()
            .with_groups(vec![group])
            .with_require_stable(true);
        let response = self.call(&request).await?;
        let group = response.groups.into_iter().next().unwrap_or_default();
        if let Some(error) = ResponseError::try_from_code(group.error_code) {
            self.connection = None;
            let what = format!("name the committed offsets of group {}", self.group_id);
            return Err(ClientError::refused(what, error));
        }
        Ok(read_committed(partitions, group))
    }

    /// Commits `commits` as `identity`, in as many requests as the coordinator's limits need, one after the other.
    ///
    /// Returns what became of each partition: `None` is committed. A partition that is absent from the result was
    /// not sent, because an earlier request failed whole.
    ///
    /// # Errors
    /// A [`ClientError`] where the first request got no answer: its outcome is unknown, commit again.
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
            let response = match self.call(&request).await {
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
                    if matches!(
                        error,
                        Some(
                            ResponseError::NotCoordinator | ResponseError::CoordinatorNotAvailable
                        )
                    ) {
                        self.connection = None;
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
            .with_group_id(StrBytes::from_string(self.group_id.clone()).into())
            .with_generation_id_or_member_epoch(identity.generation)
            .with_member_id(StrBytes::from_string(identity.member_id.clone()))
            .with_group_instance_id(instance_id.map(|id| StrBytes::from_string(id.to_owned())))
            .with_topics(topics)
    }

    /// Sends one request to the coordinator, looking it up first where no connection stands.
    async fn call<R: Call>(&mut self, request: &R) -> Result<R::Response, ClientError> {
        let open = self.connection.take().and_then(Connection::if_open);
        let mut connection = if let Some(connection) = open {
            connection
        } else {
            let coordinator = self.cluster.find_coordinator(&self.group_id).await?;
            self.cluster.connect(&coordinator).await?
        };
        let response = connection.call(request, self.cluster.config().request_timeout).await?;
        self.connection = Some(connection);
        Ok(response)
    }
}

/// Where in a log an offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The first record that is still there: the log start offset.
    Earliest,
    /// The end of what a reader of committed records sees: the last stable offset.
    LastStable,
}

/// Returns an offset of each of `partitions`, asked of their leaders.
///
/// # Errors
/// [`ClientError::Unreachable`] while no broker answers.
///
/// # Cancel safety
/// Cancel safe.
pub async fn list_offsets(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    at: OffsetAt,
) -> Result<Found<i64>, ClientError> {
    let mut topics: Vec<&str> = partitions.iter().map(|tp| tp.topic.as_ref()).collect();
    topics.sort_unstable();
    topics.dedup();
    let topics = cluster.describe(&topics).await?;
    let mut found = Found::new();
    let mut by_leader: BTreeMap<NodeId, Vec<&TopicPartition>> = BTreeMap::new();
    for tp in partitions {
        match leader(&topics, tp) {
            Ok(leader) => by_leader.entry(leader).or_default().push(tp),
            Err(error) => drop(found.insert(tp.clone(), Err(error))),
        }
    }
    let answers = by_leader.into_iter().map(|(leader, partitions)| async move {
        let Some(address) = cluster.address(leader) else {
            return all_failed(&partitions, &PartitionError::NoLeader);
        };
        match cluster.call(&address, &list_request(&partitions, at)).await {
            Ok(response) => read_offsets(&partitions, response),
            Err(source) => {
                let source = Arc::new(source);
                all_failed(&partitions, &PartitionError::Unreachable { leader, source })
            }
        }
    });
    found.extend(join_all(answers).await.into_iter().flatten());
    Ok(found)
}

/// Returns an offset of one partition, asked of its leader.
///
/// # Errors
/// As [`list_offsets`], or [`ClientError::Partition`] where the leader does not tell.
///
/// # Cancel safety
/// Cancel safe.
pub async fn list_offset(
    cluster: &Cluster,
    tp: &TopicPartition,
    at: OffsetAt,
) -> Result<i64, ClientError> {
    let mut found = list_offsets(cluster, std::slice::from_ref(tp), at).await?;
    let offset = found.remove(tp).unwrap_or(Err(UNANSWERED));
    offset.map_err(|source| ClientError::Partition { partition: tp.clone(), source })
}

fn leader(
    described: &BTreeMap<String, Result<TopicMetadata, ResponseError>>,
    tp: &TopicPartition,
) -> Result<NodeId, PartitionError> {
    let topic = described.get(tp.topic.as_ref()).ok_or(UNANSWERED)?;
    let topic = topic.as_ref().map_err(|error| PartitionError::Refused(*error))?;
    let leader = topic.leaders.get(&tp.partition).ok_or(UNANSWERED)?;
    leader.ok_or(PartitionError::NoLeader)
}

fn all_failed<T>(partitions: &[&TopicPartition], error: &PartitionError) -> Found<T> {
    partitions.iter().map(|tp| ((*tp).clone(), Err(error.clone()))).collect()
}

/// Reads the offsets out of an answer that may leave some of them out.
fn read_offsets(
    partitions: &[&TopicPartition],
    response: messages::ListOffsetsResponse,
) -> Found<i64> {
    let mut found = all_failed(partitions, &UNANSWERED);
    for topic in response.topics {
        for partition in topic.partitions {
            let tp = TopicPartition::new(topic.name.0.as_str(), partition.partition_index);
            found.insert(tp, checked(partition.error_code).map(|()| partition.offset));
        }
    }
    found
}

/// Reads the committed offsets out of an answer that may leave some of them out.
fn read_committed(
    partitions: &[TopicPartition],
    group: messages::offset_fetch_response::OffsetFetchResponseGroup,
) -> Found<Option<CommittedOffset>> {
    let mut found = all_failed(&partitions.iter().collect::<Vec<_>>(), &UNANSWERED);
    for topic in group.topics {
        for partition in topic.partitions {
            let tp = TopicPartition::new(topic.name.0.as_str(), partition.partition_index);
            let committed = checked(partition.error_code).map(|()| {
                let metadata = partition.metadata.map(|text| text.to_string()).unwrap_or_default();
                let committed = CommittedOffset { offset: partition.committed_offset, metadata };
                Some(committed).filter(|committed| committed.offset >= 0)
            });
            found.insert(tp, committed);
        }
    }
    found
}

fn checked(error_code: i16) -> Result<(), PartitionError> {
    match ResponseError::try_from_code(error_code) {
        None => Ok(()),
        Some(error) => Err(PartitionError::Refused(error)),
    }
}

fn list_request(partitions: &[&TopicPartition], at: OffsetAt) -> messages::ListOffsetsRequest {
    // The protocol's names for the two ends of a log.
    let timestamp = match at {
        OffsetAt::Earliest => -2,
        OffsetAt::LastStable => -1,
    };
    let topics = by_topic(partitions.iter().map(|tp| (*tp, tp.partition)))
        .into_iter()
        .map(|(topic, indexes)| {
            let partitions = indexes
                .into_iter()
                .map(|index| {
                    messages::list_offsets_request::ListOffsetsPartition::default()
                        .with_partition_index(index)
                        .with_current_leader_epoch(-1)
                        .with_timestamp(timestamp)
                })
                .collect();
            messages::list_offsets_request::ListOffsetsTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions)
        })
        .collect();
    messages::ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_isolation_level(READ_COMMITTED)
        .with_topics(topics)
}

/// Groups items by their partition's topic, in order.
fn by_topic<'a, T>(
    items: impl Iterator<Item = (&'a TopicPartition, T)>,
) -> BTreeMap<&'a str, Vec<T>> {
    let mut topics: BTreeMap<&str, Vec<T>> = BTreeMap::new();
    for (tp, item) in items {
        topics.entry(&tp.topic).or_default().push(item);
    }
    topics
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
    use super::*;

    fn commits(count: usize, metadata_bytes: usize) -> Vec<OffsetCommit> {
        (0..count)
            .map(|index| OffsetCommit {
                partition: TopicPartition::new("orders", i32::try_from(index).unwrap()),
                offset: 0,
                metadata: "x".repeat(metadata_bytes),
            })
            .collect()
    }

    #[test]
    fn an_error_about_one_partition_hides_no_offset_of_the_others() {
        use messages::list_offsets_response::{
            ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
        };
        for error in [
            ResponseError::NotLeaderOrFollower,
            ResponseError::LeaderNotAvailable,
            ResponseError::UnknownTopicOrPartition,
            ResponseError::TopicAuthorizationFailed,
        ] {
            let of = |index, offset| {
                let partition = ListOffsetsPartitionResponse::default();
                partition.with_partition_index(index).with_offset(offset)
            };
            let topic = ListOffsetsTopicResponse::default().with_name(topic_name("orders"));
            let topic =
                topic.with_partitions(vec![of(0, 7), of(1, -1).with_error_code(error.code())]);
            let response = messages::ListOffsetsResponse::default().with_topics(vec![topic]);

            let found = read_offsets(&partitions(3).iter().collect::<Vec<_>>(), response);

            check(&found, &7, error);
        }
    }

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

    /// Checks that the first partition is known, that the second has an error, and that the third was left out.
    fn check<T: Clone + std::fmt::Debug + PartialEq>(
        found: &Found<T>,
        first: &T,
        error: ResponseError,
    ) {
        let found: Vec<_> = found.values().collect();
        let [Ok(known), Err(PartitionError::Refused(refused)), Err(_left_out)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!((known, refused), (first, &error));
    }

    fn partitions(count: i32) -> Vec<TopicPartition> {
        (0..count).map(|index| TopicPartition::new("orders", index)).collect()
    }
}
