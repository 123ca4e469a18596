//! `OffsetForLeaderEpoch`: where the log of a leader epoch ended (KIP-320).

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::api::request::RequestContext;
use crate::log::epochs::EpochEnd;
use crate::state::State;

/// Answers `OffsetForLeaderEpoch`: epoch and offset are −1 for an epoch that the leader does not know.
pub(crate) fn offset_for_leader_epoch(
    state: &mut State,
    context: &RequestContext,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let find = |asked: &OffsetForLeaderPartition| {
            let answer = EpochEndOffset::default()
                .with_partition(asked.partition)
                .with_leader_epoch(-1)
                .with_end_offset(-1);
            match find(state, context.node, &topic.topic, asked) {
                Ok(Some(end)) => {
                    answer.with_leader_epoch(end.epoch).with_end_offset(end.end_offset)
                }
                Ok(None) => answer,
                Err(error) => answer.with_error_code(error.code()),
            }
        };
        let partitions = topic.partitions.iter().map(find).collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn find(
    state: &State,
    node: NodeId,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<EpochEnd>, ResponseError> {
    let topic = state.topics.get(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let partition = topic.partition(asked.partition)?;
    partition.check_leader(node, asked.current_leader_epoch)?;
    Ok(partition.log.end_of_epoch(asked.leader_epoch))
}
