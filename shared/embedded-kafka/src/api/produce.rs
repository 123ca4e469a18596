//! Produce and `InitProducerId`.
//!
//! With a single replica, acks=1 and acks=all are the same.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
};

use crate::api::request::{RequestContext, TopicReference, text};
use crate::log::PartitionLog;
use crate::refusal::Refusal;
use crate::state::State;

const NO_OFFSET: i64 = -1;

/// The outcome of a Produce request.
#[derive(Debug)]
pub(crate) enum Produced {
    /// The client waits for a response.
    Answer(ProduceResponse),
    /// The client waits for no response (acks=0), and the request succeeded.
    Silence,
    /// The client waits for no response (acks=0); the broker reports the error by closing the connection.
    Failure(Refusal),
}

pub(crate) fn produce(
    state: &mut State,
    context: &RequestContext,
    request: ProduceRequest,
) -> Produced {
    let acks = request.acks;
    let may_be_written = check_request(&request);
    let mut first_refusal = None;
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let name = may_be_written.clone().and_then(|()| {
            let reference = TopicReference::of_produce(&topic, context.api_version);
            reference.resolve(&state.topics).map_err(|error| Refusal::new(error, error.to_string()))
        });
        let append = |partition: PartitionProduceData| {
            let index = partition.index;
            let appended = name.clone().and_then(|name| append(state, &name, partition));
            let response = PartitionProduceResponse::default().with_index(index);
            match appended {
                Ok(Appended { base_offset, log_start_offset }) => {
                    response.with_base_offset(base_offset).with_log_start_offset(log_start_offset)
                }
                Err(refusal) => {
                    first_refusal.get_or_insert_with(|| refusal.clone());
                    response
                        .with_base_offset(NO_OFFSET)
                        .with_error_code(refusal.error.code())
                        .with_error_message(Some(text(refusal.message)))
                }
            }
        };
        let partitions = topic.partition_data.into_iter().map(append).collect();
        responses.push(
            TopicProduceResponse::default()
                .with_name(topic.name)
                .with_topic_id(topic.topic_id)
                .with_partition_responses(partitions),
        );
    }
    match (acks, first_refusal) {
        (0, Some(refusal)) => Produced::Failure(refusal),
        (0, None) => Produced::Silence,
        _ => Produced::Answer(ProduceResponse::default().with_responses(responses)),
    }
}

/// Answers `InitProducerId`: idempotent producers get an id, transactional producers an error.
pub(crate) fn init_producer_id(
    state: &mut State,
    _context: &RequestContext,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    if request.transactional_id.is_some() {
        return InitProducerIdResponse::default()
            .with_error_code(ResponseError::TransactionalIdAuthorizationFailed.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
    }
    InitProducerIdResponse::default()
        .with_producer_id(ProducerId(state.new_producer_id()))
        .with_producer_epoch(0)
}

struct Appended {
    base_offset: i64,
    log_start_offset: i64,
}

fn append(
    state: &mut State,
    topic: &str,
    partition: PartitionProduceData,
) -> Result<Appended, Refusal> {
    let topic = state.topic_to_change(topic).ok_or_else(unknown_topic)?;
    let index = partition.index;
    let Some(records) = partition.records.filter(|records| !records.is_empty()) else {
        return Err(Refusal::new(
            ResponseError::InvalidRecord,
            "a produce request must contain exactly one record batch per partition",
        ));
    };
    let base_offset = topic.append(index, records)?;
    let log_start_offset = topic.partition(index).map_or(NO_OFFSET, PartitionLog::log_start_offset);
    Ok(Appended { base_offset, log_start_offset })
}

fn check_request(request: &ProduceRequest) -> Result<(), Refusal> {
    if !(-1..=1).contains(&request.acks) {
        return Err(Refusal::new(
            ResponseError::InvalidRequiredAcks,
            format!("acks can be -1, 0 or 1, not {}", request.acks),
        ));
    }
    if request.transactional_id.is_some() {
        return Err(Refusal::new(
            ResponseError::TransactionalIdAuthorizationFailed,
            "this broker does not support transactions",
        ));
    }
    Ok(())
}

fn unknown_topic() -> Refusal {
    let error = ResponseError::UnknownTopicOrPartition;
    Refusal::new(error, "This server does not host this topic-partition.")
}
