//! Fetch, with sessions and quotas.
//!
//! A fetch begins, reads until it has enough, and is finished.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};

use crate::api::request::{RequestContext, TopicReference, text};
use crate::cluster::Node;
use crate::fetch_sessions::{Answered, AskedPartition, FetchPlan};
use crate::log::epochs::EpochEnd;
use crate::log::{AtLeastOne, Batch, PartitionLog};
use crate::quotas::OverQuota;
use crate::state::State;

/// The first version that names the leader when the client's knowledge is old (KIP-951).
const FIRST_VERSION_WITH_HINTS: i16 = 16;

const NO_OFFSET: i64 = -1;
const READ_COMMITTED: i8 = 1;

/// What the logs hold for a fetch.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// In the order of the plan.
    partitions: Vec<PartitionData>,
    bytes: usize,
    /// Whether a partition has an error, or its log diverged from what the client has read.
    has_news: bool,
}

/// Begins a fetch: finds its session and its partitions.
///
/// # Errors
/// The response to a request with a wrong session.
pub(crate) fn begin(
    state: &mut State,
    context: &RequestContext,
    request: &FetchRequest,
) -> Result<FetchPlan, FetchResponse> {
    state.fetch_sessions.begin(context.node, context.api_version, request).map_err(refused)
}

/// Reads the batches that the logs hold for a fetch.
pub(crate) fn read(
    state: &State,
    context: &RequestContext,
    request: &FetchRequest,
    plan: &FetchPlan,
) -> Fetched {
    let mut fetched = Fetched::default();
    // There are no transactions.
    let aborted = (request.isolation_level == READ_COMMITTED).then(Vec::new);
    let mut budget = bytes_max(state, request);
    for asked in &plan.partitions {
        let data = PartitionData::default()
            .with_partition_index(asked.asked.partition)
            .with_aborted_transactions(aborted.clone());
        let topic = TopicReference::new(&asked.topic, asked.topic_id, context.api_version);
        let read = read_partition(state, context.node, topic, &asked.asked, budget, fetched.bytes);
        fetched.partitions.push(match read {
            Ok(read) => {
                fetched.has_news |= read.divergence.is_some();
                budget = budget.saturating_sub(read.records.len());
                fetched.bytes += read.records.len();
                data.with_high_watermark(read.log_end_offset)
                    .with_last_stable_offset(read.log_end_offset)
                    .with_log_start_offset(read.log_start_offset)
                    .with_diverging_epoch(read.divergence.map(diverging).unwrap_or_default())
                    .with_records(Some(read.records))
            }
            Err(error) => {
                fetched.has_news = true;
                data.with_error_code(error.code())
                    .with_current_leader(current_leader(state, context, topic, asked, error))
                    .with_high_watermark(NO_OFFSET)
                    .with_records(Some(Bytes::new()))
            }
        });
    }
    fetched
}

/// Returns whether the broker answers without further waiting.
pub(crate) fn is_enough(state: &State, request: &FetchRequest, fetched: &Fetched) -> bool {
    let bytes_min = limit(request.min_bytes).min(bytes_max(state, request));
    fetched.has_news || fetched.partitions.is_empty() || (bytes_min <= fetched.bytes)
}

/// Answers a fetch with what was read, or with nothing when the client is over its quota, and returns its throttle.
pub(crate) fn finish(
    state: &mut State,
    client: (NodeId, &str),
    now: Duration,
    plan: &FetchPlan,
    fetched: Fetched,
) -> (FetchResponse, Duration) {
    let (bytes, sessions) = (fetched.bytes, &mut state.fetch_sessions);
    let throttle = state.fetch_quota.count(client, bytes, now, OverQuota::Refused);
    let answered = if throttle.is_zero() {
        sessions.finish(plan, fetched.partitions)
    } else {
        sessions.finish_throttled(plan)
    };
    (answered.map_or_else(refused, |answered| respond(state, answered)), throttle)
}

fn refused(error: ResponseError) -> FetchResponse {
    FetchResponse::default().with_error_code(error.code())
}

fn respond(state: &State, answered: Answered<'_>) -> FetchResponse {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    for (asked, data) in answered.partitions {
        match topics.last_mut() {
            Some(last) if (last.topic == asked.topic) && (last.topic_id == asked.topic_id) => {
                last.partitions.push(data);
            }
            _ => topics.push(
                FetchableTopicResponse::default()
                    .with_topic(asked.topic.clone())
                    .with_topic_id(asked.topic_id)
                    .with_partitions(vec![data]),
            ),
        }
    }
    let endpoints = node_endpoints(state, &topics);
    FetchResponse::default()
        .with_session_id(answered.session_id)
        .with_responses(topics)
        .with_node_endpoints(endpoints)
}

/// Returns the most bytes of an answer: those that the client, the broker and the quota allow.
fn bytes_max(state: &State, request: &FetchRequest) -> usize {
    let allowed = limit(request.max_bytes).min(state.settings.fetch_bytes_max);
    state.fetch_quota.bytes_max().map_or(allowed, |max| max.min(allowed))
}

fn limit(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

fn diverging(end: EpochEnd) -> EpochEndOffset {
    EpochEndOffset::default().with_epoch(end.epoch).with_end_offset(end.end_offset)
}

/// Returns the leader of a partition for a client that knows an old one, unknown for others.
fn current_leader(
    state: &State,
    context: &RequestContext,
    topic: TopicReference<'_>,
    asked: &AskedPartition,
    error: ResponseError,
) -> LeaderIdAndEpoch {
    let is_old =
        matches!(error, ResponseError::NotLeaderOrFollower | ResponseError::FencedLeaderEpoch);
    if !is_old || (context.api_version < FIRST_VERSION_WITH_HINTS) {
        return LeaderIdAndEpoch::default();
    }
    let topic = topic.resolve(&state.topics).ok();
    let leader = topic.and_then(|topic| state.current_leader(&topic, asked.asked.partition));
    leader.map_or_else(LeaderIdAndEpoch::default, |(leader, epoch)| {
        LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader)).with_leader_epoch(epoch)
    })
}

/// Returns the addresses of the leaders that the partitions name.
fn node_endpoints(state: &State, topics: &[FetchableTopicResponse]) -> Vec<NodeEndpoint> {
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    let nodes = state.cluster.named(partitions.map(|found| found.current_leader.leader_id.0));
    let endpoint = |node: &Node| {
        NodeEndpoint::default()
            .with_node_id(BrokerId(node.id))
            .with_host(text(node.host.as_str()))
            .with_port(i32::from(node.port))
    };
    nodes.map(endpoint).collect()
}

struct Read {
    log_start_offset: i64,
    log_end_offset: i64,
    divergence: Option<EpochEnd>,
    records: Bytes,
}

fn read_partition(
    state: &State,
    node: NodeId,
    topic: TopicReference<'_>,
    partition: &FetchPartition,
    budget: usize,
    bytes_before: usize,
) -> Result<Read, ResponseError> {
    let name = topic.resolve(&state.topics)?;
    let topic = state.topics.get(&name).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let led = topic.partition(partition.partition)?;
    led.check_leader(node, partition.current_leader_epoch)?;
    let log = &led.log;
    let divergence = divergence(log, partition)?;
    let read = |records| Read {
        log_start_offset: log.log_start_offset(),
        log_end_offset: log.log_end_offset(),
        divergence,
        records,
    };
    if divergence.is_some() {
        return Ok(read(Bytes::new()));
    }
    let bytes_max = limit(partition.partition_max_bytes).min(budget);
    let at_least_one = if bytes_before == 0 { AtLeastOne::Yes } else { AtLeastOne::No };
    let batches = log.read(partition.fetch_offset, bytes_max, at_least_one)?;
    let mut records = BytesMut::with_capacity(batches.iter().map(Batch::len).sum());
    for batch in &batches {
        batch.write_to(&mut records);
    }
    // As in Kafka, an answer ends where its limit is, inside a batch; only the first may be larger.
    records.truncate(bytes_max.max(batches.first().map_or(0, Batch::len)));
    Ok(read(records.freeze()))
}

/// Returns where the log diverged from what the client has read, if it names the epoch of the last record.
///
/// # Errors
/// `OFFSET_OUT_OF_RANGE` when the leader does not know the epoch, or has deleted the records.
fn divergence(
    log: &PartitionLog,
    asked: &FetchPartition,
) -> Result<Option<EpochEnd>, ResponseError> {
    let last_fetched_epoch = asked.last_fetched_epoch;
    if last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = log.end_of_epoch(last_fetched_epoch).ok_or(ResponseError::OffsetOutOfRange)?;
    if asked.fetch_offset < log.log_start_offset() {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let has_diverged = (end.epoch < last_fetched_epoch) || (end.end_offset < asked.fetch_offset);
    Ok(has_diverged.then_some(end))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_request::FetchTopic;
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;
    use crate::api::request::topic_name;
    use crate::cluster::Cluster;
    use crate::groups::GroupSettings;
    use crate::log::tests::batch_of;
    use crate::state::Settings;

    const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

    #[test]
    fn the_codec_reads_what_is_fetched_in_every_version() {
        let mut state = with_two_batches();
        let id = state.topics.get("orders").unwrap().id;
        let partition = |offset| {
            let partition = FetchPartition::default().with_fetch_offset(offset);
            partition.with_partition_max_bytes(1 << 20)
        };
        let topic = FetchTopic::default()
            .with_topic(topic_name("orders"))
            .with_topic_id(id)
            .with_partitions(vec![partition(0), partition(9)]);
        for version in 4..=18 {
            let context = context_of(version);
            for isolation in [0, READ_COMMITTED] {
                let request = FetchRequest::default()
                    .with_max_bytes(1 << 20)
                    .with_isolation_level(isolation)
                    .with_topics(vec![topic.clone()]);
                let mut body = BytesMut::new();
                let plan = begin(&mut state, &context, &request).unwrap();
                let fetched = read(&state, &context, &request, &plan);
                let response = finish(&mut state, (1, "client"), Duration::ZERO, &plan, fetched).0;
                response.encode(&mut body, version).unwrap();
                let mut body = body.freeze();
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
                assert_eq!(aborted, (isolation == READ_COMMITTED).then_some(0), "{version}");
                assert_eq!((present.partition_index, present.high_watermark), (0, 3));
                let records = present.records.as_ref().unwrap();
                let sent = [batch_of(&[b"small"]), batch_of(&[&[7; 5000], b"x"])];
                assert_eq!(records.len(), sent.concat().len());
                assert_eq!(records[records.len() - 1], 0, "the last batch ends as it came");
                assert_eq!(failed.error_code, ResponseError::OffsetOutOfRange.code());
                assert_eq!(failed.records.as_ref().map(Bytes::len), Some(0));
            }
        }
    }

    fn context_of(api_version: i16) -> RequestContext {
        RequestContext {
            now: Duration::ZERO,
            node: 1,
            api_version,
            client_id: String::new(),
            client_host: String::new(),
        }
    }

    fn with_two_batches() -> State {
        let settings = Settings {
            auto_create_topics: false,
            default_partitions: 1,
            retention_bytes: None,
            idle_max: None,
            fetch_bytes_max: usize::MAX,
            min_insync_replicas: 1,
            groups: GroupSettings { min_session_timeout: Duration::ZERO },
        };
        let mut state = State::new(settings, Cluster::new([("localhost".to_owned(), 9092)]));
        let config = state.default_config();
        state.create_topic("orders", 1, config).unwrap();
        let topic = state.topic_to_change("orders").unwrap();
        let (limits, partition) = (topic.limits, topic.partition_mut(0).unwrap());
        partition.log.append(batch_of(&[b"small"]), &limits).unwrap();
        partition.log.append(batch_of(&[&[7; 5000], b"x"]), &limits).unwrap();
        state
    }
}
