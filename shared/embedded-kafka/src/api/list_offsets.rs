//! `ListOffsets` and `DeleteRecords`: where logs begin and end.

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
};

use crate::api::request::RequestContext;
use crate::log::{PartitionLog, TimestampedOffset};
use crate::state::State;
use crate::topics::Topic;
use crate::topics::partition::Partition;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

const FIRST_LIST_WITH_EPOCH: i16 = 4;
const NONE: i64 = -1;
const NO_EPOCH: i32 = -1;
/// The offset with which `DeleteRecords` names the log end.
const UP_TO_THE_END: i64 = -1;

/// Answers `ListOffsets`.
pub(crate) fn list_offsets(
    state: &mut State,
    context: &RequestContext,
    request: &ListOffsetsRequest,
) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let found = state.topics.get(&topic.name);
        let list = |asked: &ListOffsetsPartition| {
            list_partition(partition(found, context.node, asked), asked, context.api_version)
        };
        let partitions = topic.partitions.iter().map(list).collect();
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Answers `DeleteRecords`.
pub(crate) fn delete_records(
    state: &mut State,
    context: &RequestContext,
    request: &DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| {
        let delete = |asked: &DeleteRecordsPartition| {
            let result =
                DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match delete_partition_records(state, context.node, &topic.name, asked) {
                Ok(low_watermark) => result.with_low_watermark(low_watermark),
                Err(error) => result.with_low_watermark(NONE).with_error_code(error.code()),
            }
        };
        let partitions = topic.partitions.iter().map(delete).collect();
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn partition<'a>(
    topic: Option<&'a Topic>,
    node: NodeId,
    asked: &ListOffsetsPartition,
) -> Result<&'a Partition, ResponseError> {
    let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
    let partition = topic.partition(asked.partition_index)?;
    partition.check_leader(node, asked.current_leader_epoch)?;
    Ok(partition)
}

fn list_partition(
    partition: Result<&Partition, ResponseError>,
    asked: &ListOffsetsPartition,
    api_version: i16,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default()
        .with_partition_index(asked.partition_index)
        .with_timestamp(NONE)
        .with_offset(NONE)
        .with_leader_epoch(NO_EPOCH);
    let found = partition.and_then(|partition| {
        let found = find(&partition.log, asked.timestamp, api_version)?;
        Ok(found.map(|found| (found, partition.log.epoch_at(found.offset).unwrap_or(NO_EPOCH))))
    });
    match found {
        Ok(Some((found, epoch))) => {
            let knows_epochs = FIRST_LIST_WITH_EPOCH <= api_version;
            response
                .with_offset(found.offset)
                .with_timestamp(found.timestamp)
                .with_leader_epoch(if knows_epochs { epoch } else { NO_EPOCH })
        }
        Ok(None) => response,
        Err(error) => response.with_error_code(error.code()),
    }
}

/// Finds the offset for a timestamp; which negative timestamps are valid depends on the version.
fn find(
    log: &PartitionLog,
    timestamp: i64,
    api_version: i16,
) -> Result<Option<TimestampedOffset>, ResponseError> {
    let at = |offset| Some(TimestampedOffset { offset, timestamp: NONE });
    match timestamp {
        LATEST => Ok(at(log.log_end_offset())),
        EARLIEST => Ok(at(log.log_start_offset())),
        MAX_TIMESTAMP if 7 <= api_version => Ok(log.largest_timestamp()),
        EARLIEST_LOCAL if 8 <= api_version => Ok(at(log.log_start_offset())),
        LATEST_TIERED if 9 <= api_version => Ok(None),
        timestamp if 0 <= timestamp => Ok(log.first_at_or_after(timestamp)),
        _ => Err(ResponseError::UnsupportedVersion),
    }
}

fn delete_partition_records(
    state: &mut State,
    node: NodeId,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<i64, ResponseError> {
    let topic = state.topic_to_change(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let allows_deletion = topic.config.allows_deletion();
    let partition = topic.partition_mut(asked.partition_index)?;
    partition.check_leader(node, NO_EPOCH)?;
    let log = &mut partition.log;
    if !allows_deletion {
        return Err(ResponseError::PolicyViolation);
    }
    let is_up_to_end = asked.offset == UP_TO_THE_END;
    log.delete_records_before(if is_up_to_end { log.log_end_offset() } else { asked.offset })?;
    Ok(log.log_start_offset())
}
