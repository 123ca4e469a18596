//! Comparing positions with the logs of their leaders (KIP-320).
//!
//! A leader that was elected although it lacks records of the leader before it starts another history: the log is truncated,
//! and new records get the offsets of those that are gone. A reader notices by the leader epoch of the last record it
//! has read. The leader tells where that epoch ends in its log. If it ends before the reader's position, or the log has
//! only earlier epochs, the histories diverge. A leader that has no epochs at all cannot tell.
//!
//! Kafka also compares epochs in Fetch for a consumer that sends `last_fetched_epoch`, but answers an epoch that it cannot place with
//! `OFFSET_OUT_OF_RANGE`, which does not tell truncation from expiry. So the reader asks separately, as Kafka's own
//! consumer does, and fetches under the leader epoch for which the answer holds.
//!
//! `OffsetForLeaderEpoch`: <https://kafka.apache.org/protocol#The_Messages_OffsetForLeaderEpoch>.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_core::TopicPartition;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{ApiKey, OffsetForLeaderEpochRequest};
use tokio::io::AsyncRead;

use super::found::Found;
use super::leaders::ask_leaders;
use crate::api::StreamedCall;
use crate::cluster::{Cluster, topic_name};
use crate::connection::ConnectionError;
use crate::connection::fields::{Fields, ReadError};
use crate::error::{ClientError, PartitionError};
use crate::fetch::EpochEnd;

const FLEXIBLE_SINCE: i16 = 4;
/// The id of a requester that is no replica.
const CONSUMER: i32 = -1;
/// The fewest bytes of a topic and of a partition of any version.
const TOPIC_BYTES_MIN: usize = 3;
const PARTITION_BYTES_MIN: usize = 18;

/// A position to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: i64,
    /// The leader epoch of the last record before it.
    pub(crate) epoch: i32,
    /// The leader epoch in the metadata.
    pub(crate) leader_epoch: i32,
}

/// Whether a position is part of its leader's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is, as far as the leader can tell.
    Valid,
    /// The log has another history from an offset below the position on. The end of the largest epoch that is part of both
    /// histories.
    Diverges(EpochEnd),
}

impl Position {
    fn compare(&self, end: EpochEnd) -> Comparison {
        if end.is_known() && (end.epoch < self.epoch || end.end_offset < self.offset) {
            Comparison::Diverges(end)
        } else {
            Comparison::Valid
        }
    }
}

/// Compares positions with the logs of their leaders. A position is an offset, and the leader epoch of the last record
/// before it.
///
/// # Errors
/// [`ClientError::Unreachable`] while no broker answers.
///
/// # Cancel safety
/// Cancel safe.
pub async fn compare(
    cluster: &Cluster,
    positions: &BTreeMap<TopicPartition, (i64, i32)>,
) -> Result<Found<Comparison>, ClientError> {
    ask_leaders(cluster, positions.keys().collect(), |address, asked| async move {
        let asked = asked.into_iter().filter_map(|(tp, leader_epoch)| {
            let (offset, epoch) = *positions.get(tp)?;
            Some((tp.clone(), Position { offset, epoch, leader_epoch }))
        });
        compare_at(cluster, &address, &asked.collect()).await
    })
    .await
}

/// Compares positions with the log of their leader at `address`.
pub(crate) async fn compare_at(
    cluster: &Cluster,
    address: &str,
    positions: &BTreeMap<TopicPartition, Position>,
) -> Result<Found<Comparison>, ConnectionError> {
    let answer = match cluster.call_streamed(address, |_version| request(positions)).await {
        Ok(answer) => answer,
        // A broker that keeps no epochs cannot tell.
        Err(ConnectionError::Unsupported { .. }) => {
            return Ok(positions.keys().map(|tp| (tp.clone(), Ok(Comparison::Valid))).collect());
        }
        Err(error) => return Err(error),
    };
    let compared = positions.iter().map(|(tp, position)| {
        let end = answer.ends.get(tp).copied().unwrap_or(Err(ResponseError::UnknownServerError));
        let compared = end.map(|end| position.compare(end)).map_err(PartitionError::Refused);
        (tp.clone(), compared)
    });
    Ok(compared.collect())
}

fn request(positions: &BTreeMap<TopicPartition, Position>) -> OffsetForLeaderEpochRequest {
    let mut topics: Vec<(&Arc<str>, Vec<OffsetForLeaderPartition>)> = Vec::new();
    for (tp, position) in positions {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(tp.partition)
            .with_current_leader_epoch(position.leader_epoch)
            .with_leader_epoch(position.epoch);
        match topics.last_mut().filter(|(name, _)| *name == &tp.topic) {
            Some((_, partitions)) => partitions.push(partition),
            None => topics.push((&tp.topic, vec![partition])),
        }
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetForLeaderTopic::default().with_topic(topic_name(name)).with_partitions(partitions)
    });
    OffsetForLeaderEpochRequest::default()
        .with_replica_id(CONSUMER.into())
        .with_topics(topics.collect())
}

/// The ends of the requested epochs.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    throttle_time_ms: i32,
    ends: BTreeMap<TopicPartition, Result<EpochEnd, ResponseError>>,
}

impl StreamedCall for OffsetForLeaderEpochRequest {
    const KEY: ApiKey = ApiKey::OffsetForLeaderEpoch;
    const VERSIONS: RangeInclusive<i16> = 2..=4;
    type Answer = Answer;

    fn is_flexible(version: i16) -> bool {
        FLEXIBLE_SINCE <= version
    }

    fn throttle_time_ms(answer: &Answer) -> i32 {
        answer.throttle_time_ms
    }

    async fn read<S: AsyncRead + Unpin + Send>(
        fields: &mut Fields<'_, S>,
        _version: i16,
    ) -> Result<Answer, ReadError> {
        let mut answer = Answer { throttle_time_ms: fields.i32().await?, ..Answer::default() };
        for _ in 0..fields.count(TOPIC_BYTES_MIN).await? {
            let topic: Arc<str> = fields.text().await?.into();
            for _ in 0..fields.count(PARTITION_BYTES_MIN).await? {
                let error = ResponseError::try_from_code(fields.i16().await?);
                let tp = TopicPartition::new(Arc::clone(&topic), fields.i32().await?);
                let (epoch, end_offset) = (fields.i32().await?, fields.i64().await?);
                fields.skip_tags().await?;
                let end = error.map_or(Ok(EpochEnd { epoch, end_offset }), Err);
                answer.ends.insert(tp, end);
            }
            fields.skip_tags().await?;
        }
        fields.skip_tags().await?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::OffsetForLeaderEpochResponse;
    use kafka_protocol::messages::offset_for_leader_epoch_response::{
        EpochEndOffset, OffsetForLeaderTopicResult,
    };
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::connection::fields::FieldBuffer;

    #[test]
    fn a_position_diverges_if_its_epoch_ends_before_it_or_is_not_in_the_log_unless_the_leader_cannot_tell()
     {
        let position = Position { offset: 100, epoch: 3, leader_epoch: 5 };
        let end = |epoch, end_offset| EpochEnd { epoch, end_offset };
        for (end, expected) in [
            (end(3, 100), Comparison::Valid),
            (end(3, 250), Comparison::Valid),
            (end(3, 99), Comparison::Diverges(end(3, 99))),
            (end(2, 250), Comparison::Diverges(end(2, 250))),
            (end(0, 0), Comparison::Diverges(end(0, 0))),
            (end(-1, -1), Comparison::Valid),
        ] {
            assert_eq!(position.compare(end), expected, "{end:?}");
        }
    }

    #[tokio::test]
    async fn every_version_of_an_answer_is_read_as_the_encoder_wrote_it() {
        let end = |partition, epoch, offset| {
            let end = EpochEndOffset::default().with_partition(partition);
            end.with_leader_epoch(epoch).with_end_offset(offset)
        };
        let refused = end(1, -1, -1).with_error_code(ResponseError::FencedLeaderEpoch.code());
        let topic = OffsetForLeaderTopicResult::default()
            .with_topic(topic_name("orders"))
            .with_partitions(vec![end(0, 3, 77), refused]);
        let response = OffsetForLeaderEpochResponse::default()
            .with_throttle_time_ms(5)
            .with_topics(vec![topic]);
        for version in OffsetForLeaderEpochRequest::VERSIONS {
            let is_flexible = OffsetForLeaderEpochRequest::is_flexible(version);
            let mut bytes = BytesMut::from(&[0, 0, 0, 8, 0][..4 + usize::from(is_flexible)]);
            response.encode(&mut bytes, version).unwrap();
            let (mut stream, mut buffer) = (&bytes[..], FieldBuffer::default());
            let mut fields = Fields::new(&mut stream, &mut buffer, bytes.len());
            assert_eq!(fields.header(is_flexible).await.unwrap(), 8);
            let answer = OffsetForLeaderEpochRequest::read(&mut fields, version).await.unwrap();
            fields.finish().unwrap();
            assert_eq!(answer.throttle_time_ms, 5);
            let ends: Vec<_> = answer.ends.into_iter().collect();
            let expected = [
                (TopicPartition::new("orders", 0), Ok(EpochEnd { epoch: 3, end_offset: 77 })),
                (TopicPartition::new("orders", 1), Err(ResponseError::FencedLeaderEpoch)),
            ];
            assert_eq!(ends, expected);
        }
    }
}
