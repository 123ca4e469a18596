//! Fetch.
//!
//! The codec would copy every batch. This module writes the fields of
//! <https://kafka.apache.org/protocol#The_Messages_Fetch> itself, around batches that it shares with the log.
//! It answers session id 0, which means that there are no fetch sessions and clients send full requests.

use bytes::BufMut;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::{FetchRequest, TopicName};
use uuid::Uuid;

use crate::api::request::TopicReference;
use crate::frame::{FrameWriter, Lengths};
use crate::log::{AtLeastOne, Batch, check_leader_epoch};
use crate::refusal::code_of;
use crate::state::State;

const FIRST_VERSION_WITH_LOG_START: i16 = 5;
const FIRST_VERSION_WITH_SESSIONS: i16 = 7;
const FIRST_VERSION_WITH_PREFERRED_REPLICA: i16 = 11;
const FIRST_FLEXIBLE_VERSION: i16 = 12;
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

const NO_OFFSET: i64 = -1;
const NO_REPLICA: i32 = -1;
const READ_COMMITTED: i8 = 1;

#[derive(Debug)]
pub(crate) struct Fetched {
    error: Option<ResponseError>,
    topics: Vec<FetchedTopic>,
    isolation: Isolation,
    bytes: usize,
    has_error: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

#[derive(Debug)]
struct FetchedTopic {
    name: TopicName,
    id: Uuid,
    partitions: Vec<FetchedPartition>,
}

#[derive(Debug)]
struct FetchedPartition {
    index: i32,
    error: Option<ResponseError>,
    log_start_offset: i64,
    high_watermark: i64,
    batches: Vec<Batch>,
}

impl Fetched {
    /// Returns whether the broker answers a client that asks for `min_bytes` without further waiting.
    pub(crate) fn is_enough(&self, min_bytes: i32) -> bool {
        let min_bytes = usize::try_from(min_bytes).unwrap_or(0);
        self.has_error || self.topics.is_empty() || (min_bytes <= self.bytes)
    }
}

/// Reads the batches that the logs hold for a fetch.
pub(crate) fn fetch(state: &State, api_version: i16, request: &FetchRequest) -> Fetched {
    let mut fetched = Fetched {
        error: (request.session_id != 0).then_some(ResponseError::FetchSessionIdNotFound),
        topics: Vec::with_capacity(request.topics.len()),
        isolation: if request.isolation_level == READ_COMMITTED {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        },
        bytes: 0,
        has_error: request.session_id != 0,
    };
    if fetched.has_error {
        return fetched;
    }
    let mut budget = usize::try_from(request.max_bytes).unwrap_or(0);
    for topic in &request.topics {
        let reference = TopicReference::of_fetch(topic, api_version);
        let read = |partition| {
            let read = read_partition(state, reference, partition, budget, fetched.bytes);
            let bytes: usize = read.batches.iter().map(Batch::len).sum();
            budget = budget.saturating_sub(bytes);
            fetched.bytes += bytes;
            fetched.has_error |= read.error.is_some();
            read
        };
        let partitions = topic.partitions.iter().map(read).collect();
        fetched.topics.push(FetchedTopic {
            name: topic.topic.clone(),
            id: topic.topic_id,
            partitions,
        });
    }
    fetched
}

fn read_partition(
    state: &State,
    topic: TopicReference<'_>,
    partition: &FetchPartition,
    budget: usize,
    bytes_before: usize,
) -> FetchedPartition {
    let index = partition.partition;
    let mut read = FetchedPartition {
        index,
        error: None,
        log_start_offset: NO_OFFSET,
        high_watermark: NO_OFFSET,
        batches: Vec::new(),
    };
    let log = topic.resolve(&state.topics).and_then(|name| {
        let topic = state.topics.get(&name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        check_leader_epoch(partition.current_leader_epoch).and(topic.partition(index))
    });
    let log = match log {
        Ok(log) => log,
        Err(error) => return FetchedPartition { error: Some(error), ..read },
    };
    let partition_max = usize::try_from(partition.partition_max_bytes).unwrap_or(0);
    let at_least_one = if bytes_before == 0 { AtLeastOne::Yes } else { AtLeastOne::No };
    match log.read(partition.fetch_offset, partition_max.min(budget), at_least_one) {
        Ok(batches) => {
            read.log_start_offset = log.log_start_offset();
            read.high_watermark = log.log_end_offset();
            read.batches = batches;
        }
        Err(error) => read.error = Some(error),
    }
    read
}

/// Returns the encoding of lengths in a version of Fetch.
pub(crate) fn lengths(api_version: i16) -> Lengths {
    if FIRST_FLEXIBLE_VERSION <= api_version { Lengths::Compact } else { Lengths::Fixed }
}

/// Writes the body of a fetch response, with the [`lengths`] of its version.
pub(crate) fn write(fetched: Fetched, api_version: i16, frame: &mut FrameWriter) {
    frame.meta().put_i32(0); // throttle_time_ms
    if FIRST_VERSION_WITH_SESSIONS <= api_version {
        frame.meta().put_i16(code_of(fetched.error));
        frame.meta().put_i32(0); // session_id
    }
    frame.put_length(fetched.topics.len());
    for topic in fetched.topics {
        if FIRST_VERSION_WITH_TOPIC_IDS <= api_version {
            frame.meta().put_slice(topic.id.as_bytes());
        } else {
            frame.put_string(&topic.name);
        }
        frame.put_length(topic.partitions.len());
        for partition in topic.partitions {
            write_partition(partition, fetched.isolation, api_version, frame);
        }
        frame.put_no_tagged_fields();
    }
    frame.put_no_tagged_fields();
}

fn write_partition(
    partition: FetchedPartition,
    isolation: Isolation,
    api_version: i16,
    frame: &mut FrameWriter,
) {
    let meta = frame.meta();
    meta.put_i32(partition.index);
    meta.put_i16(code_of(partition.error));
    meta.put_i64(partition.high_watermark);
    meta.put_i64(partition.high_watermark); // last_stable_offset: there are no transactions
    if FIRST_VERSION_WITH_LOG_START <= api_version {
        meta.put_i64(partition.log_start_offset);
    }
    match isolation {
        Isolation::ReadCommitted => frame.put_length(0), // aborted_transactions
        Isolation::ReadUncommitted => frame.put_null_array(),
    }
    if FIRST_VERSION_WITH_PREFERRED_REPLICA <= api_version {
        frame.meta().put_i32(NO_REPLICA);
    }
    frame.put_length(partition.batches.iter().map(Batch::len).sum());
    for batch in partition.batches {
        let (front, rest) = batch.rewritten();
        frame.meta().put_slice(&front);
        frame.put_shared(rest);
    }
    frame.put_no_tagged_fields();
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::protocol::Decodable;

    use super::*;
    use crate::log::PartitionLog;
    use crate::log::limits::LogLimits;
    use crate::log::tests::batch_of;

    fn two_batches() -> Vec<Batch> {
        let mut log = PartitionLog::default();
        let limits =
            LogLimits { batch_bytes_max: 1 << 20, retention_bytes: None, compacted: false };
        log.append(batch_of(&[b"small"]), &limits).unwrap();
        log.append(batch_of(&[&[7; 5000], b"x"]), &limits).unwrap();
        log.read(0, usize::MAX, AtLeastOne::No).unwrap()
    }

    #[test]
    fn the_codec_reads_what_is_written_in_every_version() {
        for version in 4..=18 {
            for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
                let batches = two_batches();
                let bytes: usize = batches.iter().map(Batch::len).sum();
                let present = FetchedPartition {
                    index: 2,
                    error: None,
                    log_start_offset: 1,
                    high_watermark: 3,
                    batches,
                };
                let failed = FetchedPartition {
                    index: 3,
                    error: Some(ResponseError::OffsetOutOfRange),
                    log_start_offset: NO_OFFSET,
                    high_watermark: NO_OFFSET,
                    batches: Vec::new(),
                };
                let id = Uuid::from_u128(77);
                let topic = FetchedTopic {
                    name: crate::api::request::topic_name("orders"),
                    id,
                    partitions: vec![present, failed],
                };
                let fetched = Fetched {
                    error: None,
                    topics: vec![topic],
                    isolation,
                    bytes: 0,
                    has_error: false,
                };
                let mut frame = FrameWriter::new(lengths(version));
                write(fetched, version, &mut frame);
                let mut body = frame.finish().without_size();
                let response = FetchResponse::decode(&mut body, version).unwrap();
                assert!(body.is_empty(), "version {version} leaves bytes");
                let topic = &response.responses[0];
                if version < FIRST_VERSION_WITH_TOPIC_IDS {
                    assert_eq!(topic.topic.as_str(), "orders");
                } else {
                    assert_eq!(topic.topic_id, id);
                }
                let [present, failed] = &topic.partitions[..] else { panic!("{response:?}") };
                let aborted = present.aborted_transactions.as_ref().map(Vec::len);
                let expected = (isolation == Isolation::ReadCommitted).then_some(0);
                assert_eq!(aborted, expected, "version {version}");
                assert_eq!((present.partition_index, present.high_watermark), (2, 3));
                let records = present.records.as_ref().unwrap();
                assert_eq!(records.len(), bytes);
                assert_eq!(records[records.len() - 1], 0, "the last batch ends as it came");
                assert_eq!(failed.error_code, ResponseError::OffsetOutOfRange.code());
                assert_eq!(failed.records.as_ref().map(Bytes::len), Some(0));
            }
        }
    }
}
