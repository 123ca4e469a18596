//! The offsets at the two ends of a partition's log.

use kafka_core::TopicPartition;
use kafka_protocol::messages;

use super::found::{Found, UNANSWERED, all_failed, by_topic, checked};
use super::leaders::{Asked, ask_leaders};
use crate::cluster::{Cluster, topic_name};
use crate::error::ClientError;

/// Isolation level of ListOffsets that ends at the last stable offset instead of the high watermark.
const READ_COMMITTED: i8 = 1;

/// An end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The log start offset: the first record that retention has left.
    Earliest,
    /// The last stable offset: the end for a reader of committed records.
    LastStable,
}

/// Returns an end of the log of each of `partitions`, from their leaders.
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
    ask_leaders(cluster, partitions.iter().collect(), |address, asked| async move {
        let response = cluster.call(&address, &list_request(&asked, at)).await?;
        Ok(read_offsets(&asked, response))
    })
    .await
}

/// Returns an end of the log of one partition, from its leader.
///
/// # Errors
/// As [`list_offsets`], or [`ClientError::Partition`] if its leader does not answer or refuses.
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

/// Returns the offsets of a response, which may leave partitions out.
fn read_offsets(partitions: &Asked<'_>, response: messages::ListOffsetsResponse) -> Found<i64> {
    let mut found = all_failed(partitions.keys().copied(), &UNANSWERED);
    for topic in response.topics {
        for partition in topic.partitions {
            let tp = TopicPartition::new(topic.name.0.as_str(), partition.partition_index);
            found.insert(tp, checked(partition.error_code).map(|()| partition.offset));
        }
    }
    found
}

fn list_request(partitions: &Asked<'_>, at: OffsetAt) -> messages::ListOffsetsRequest {
    // The timestamps that stand for the two ends.
    let timestamp = match at {
        OffsetAt::Earliest => -2,
        OffsetAt::LastStable => -1,
    };
    let topics = by_topic(partitions.iter().map(|(tp, epoch)| (*tp, (tp.partition, *epoch))))
        .into_iter()
        .map(|(topic, partitions)| {
            let partitions = partitions
                .into_iter()
                .map(|(index, epoch)| {
                    messages::list_offsets_request::ListOffsetsPartition::default()
                        .with_partition_index(index)
                        .with_current_leader_epoch(epoch)
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

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;

    use super::super::found::{check, partitions};
    use super::*;

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

            let asked = partitions(3);
            let asked: Asked<'_> = asked.iter().map(|tp| (tp, 0)).collect();
            let found = read_offsets(&asked, response);

            check(&found, &7, error);
        }
    }
}
