//! Produce and `InitProducerId`.
//!
//! Replicas share one log, so acks=1 and acks=all differ only in `min.insync.replicas`.

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{
    BrokerId, InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse,
    ProducerId,
};

use crate::api::request::{RequestContext, TopicReference, text};
use crate::cluster::Node;
use crate::refusal::Refusal;
use crate::state::State;

/// The first version that names the leader with `NOT_LEADER_OR_FOLLOWER` (KIP-951).
const FIRST_VERSION_WITH_HINTS: i16 = 10;
const ACKS_ALL: i16 = -1;
const NO_OFFSET: i64 = -1;
const NO_EPOCH: i32 = -1;

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
    let hints = FIRST_VERSION_WITH_HINTS <= context.api_version;
    let mut first_refusal = None;
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let name = may_be_written.clone().and_then(|()| {
            let reference = TopicReference::of_produce(&topic, context.api_version);
            reference.resolve(&state.topics).map_err(|error| Refusal::new(error, error.to_string()))
        });
        let append = |partition: PartitionProduceData| {
            let index = partition.index;
            let appended =
                name.clone().and_then(|name| append(state, context.node, acks, &name, partition));
            let response = PartitionProduceResponse::default().with_index(index);
            match appended {
                Ok(Appended { base_offset, log_start_offset }) => {
                    response.with_base_offset(base_offset).with_log_start_offset(log_start_offset)
                }
                Err(refusal) => {
                    first_refusal.get_or_insert_with(|| refusal.clone());
                    let is_elsewhere = refusal.error == ResponseError::NotLeaderOrFollower;
                    let hint = name.as_ref().ok().filter(|_| hints && is_elsewhere);
                    response
                        .with_current_leader(current_leader(state, hint, index))
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
        _ => {
            let endpoints = node_endpoints(state, &responses);
            let response = ProduceResponse::default().with_responses(responses);
            Produced::Answer(response.with_node_endpoints(endpoints))
        }
    }
}

/// Returns the leader of a partition, unknown without a topic.
fn current_leader(state: &State, topic: Option<&String>, index: i32) -> LeaderIdAndEpoch {
    let leader = topic.and_then(|topic| state.current_leader(topic, index));
    leader.map_or_else(LeaderIdAndEpoch::default, |(leader, epoch)| {
        LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader)).with_leader_epoch(epoch)
    })
}

/// Returns the addresses of the leaders that the partitions name.
fn node_endpoints(state: &State, responses: &[TopicProduceResponse]) -> Vec<NodeEndpoint> {
    let partitions = responses.iter().flat_map(|topic| &topic.partition_responses);
    let nodes = state.cluster.named(partitions.map(|found| found.current_leader.leader_id.0));
    let endpoint = |node: &Node| {
        NodeEndpoint::default()
            .with_node_id(BrokerId(node.id))
            .with_host(text(node.host.as_str()))
            .with_port(i32::from(node.port))
    };
    nodes.map(endpoint).collect()
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
    node: NodeId,
    acks: i16,
    topic: &str,
    partition: PartitionProduceData,
) -> Result<Appended, Refusal> {
    let min_insync_default = state.settings.min_insync_replicas;
    let (topic, cluster) = state.topic_and_cluster(topic);
    let topic = topic.ok_or_else(unknown_topic)?;
    let index = partition.index;
    let Some(records) = partition.records.filter(|records| !records.is_empty()) else {
        return Err(Refusal::new(
            ResponseError::InvalidRecord,
            "a produce request must contain exactly one record batch per partition",
        ));
    };
    let refused = |error: ResponseError| Refusal::new(error, error.to_string());
    let limits = topic.limits;
    let min_insync = topic.config.min_insync_replicas().unwrap_or(min_insync_default);
    let partition = topic.partition_mut(index).map_err(refused)?;
    partition.check_leader(node, NO_EPOCH).map_err(refused)?;
    if (acks == ACKS_ALL) && (partition.in_sync_count(cluster) < min_insync) {
        return Err(refused(ResponseError::NotEnoughReplicas));
    }
    let base_offset = partition.log.append(records, &limits)?;
    Ok(Appended { base_offset, log_start_offset: partition.log.log_start_offset() })
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
