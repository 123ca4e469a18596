use std::fmt::Debug;
use std::io::Cursor;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use fuzz::{Outcome, Target};
use kafka_client::api::Call;
use kafka_client::config::BrokerConfig;
use kafka_client::connection::{Connection, ConnectionError};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{self, ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::runtime::{Builder, Runtime};

/// The mark of inputs that are a whole frame with its size and its header.
const WHOLE_FRAME: u8 = 0x80;
/// The largest size of a frame.
const FRAME_BYTES_MAX: usize = 100 << 20;
const DEADLINE: Duration = Duration::from_secs(5);

/// Decodes these bytes as the response to a request in one of its versions.
type Ask = fn(&Runtime, u8, &[u8], bool) -> Result<Box<dyn Answer>, String>;

/// A response of any API.
trait Answer: Debug {
    /// Encodes the response and decodes it again.
    fn check(&self);
}

#[derive(Debug)]
struct Answered<T> {
    answer: T,
    version: i16,
    /// Whether the connection has given the answer the form of a newer version, which this one cannot encode.
    is_newer: bool,
}

#[test]
fn kafka_answer() {
    let turn = fuzz::turn();
    let (asks, seeds): (Vec<Ask>, Vec<Vec<u8>>) = kinds().into_iter().unzip();
    let whole = [WHOLE_FRAME | 2, 0, 0, 0, 0, 11, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    let seeds = (0_u8..).zip(seeds).map(|(number, seed)| [&[number][..], &seed].concat());
    let seeds = seeds.chain([whole.to_vec()]);
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let target = Target {
        name: "kafka_answer",
        executions: 10_000,
        seeds: seeds.collect(),
        memory: |input| {
            let frame = if is_whole_frame(input) { FRAME_BYTES_MAX } else { 0 };
            1024 * input.len() + (64 << 10) + frame
        },
        mend: None,
        decode: Box::new(move |input| {
            let (number, rest) = input.split_first().unwrap_or((&0, &[]));
            let (version, body) = rest.split_first().unwrap_or((&0, &[]));
            let ask = asks[usize::from(*number & !WHOLE_FRAME) % asks.len()];
            ask(&runtime, *version, body, is_whole_frame(input))
        }),
        check: |_, answer| match answer {
            Ok(answer) => {
                answer.check();
                Outcome::accepted(crate::kind(answer))
            }
            Err(words) => Outcome::refused(words),
        },
    };
    fuzz::run(&turn, target, crate::LEFT);
}

fn is_whole_frame(input: &[u8]) -> bool {
    input.first().is_some_and(|number| number & WHOLE_FRAME != 0)
}

fn ask<R>(
    runtime: &Runtime,
    version: u8,
    body: &[u8],
    is_whole_frame: bool,
) -> Result<Box<dyn Answer>, String>
where
    R: Call + Default,
    R::Response: Encodable + Debug + PartialEq + 'static,
{
    let version = version_of::<R>(version);
    let speaks = ApiVersion::default()
        .with_api_key(code(R::KEY))
        .with_min_version(version)
        .with_max_version(version);
    let versions = messages::ApiVersionsResponse::default().with_api_keys(vec![speaks]);
    let mut bytes = BytesMut::new();
    frame::<messages::ApiVersionsResponse>(1, 3, &encoded(&versions, 3), &mut bytes);
    if is_whole_frame {
        bytes.extend_from_slice(body);
    } else {
        frame::<R::Response>(2, version, body, &mut bytes);
    }
    let transport = tokio::io::join(Cursor::new(bytes.freeze()), tokio::io::sink());
    let asked = runtime.block_on(async {
        let config = BrokerConfig::new(Vec::new(), "fuzz");
        let mut connection =
            Connection::handshake(Box::new(transport), "broker:9092", &config).await?;
        connection.call(&R::default(), DEADLINE).await
    });
    match asked {
        Ok(answer) => {
            let is_newer = R::default().older(version).is_some();
            Ok(Box::new(Answered { answer, version, is_newer }))
        }
        Err(ConnectionError::Malformed { reason, api, .. }) => {
            Err(format!("{api:?} {}", crate::words(&reason)))
        }
        Err(ConnectionError::Broken { .. }) if is_whole_frame => Err("broken".to_owned()),
        Err(error) => panic!("the connection works: {error:?}"),
    }
}

fn version_of<R: Call>(version: u8) -> i16 {
    let all: Vec<i16> = R::VERSIONS.collect();
    all[usize::from(version) % all.len()]
}

#[expect(clippy::as_conversions, reason = "the numbers of the API keys are its discriminants")]
pub(crate) fn code(key: ApiKey) -> i16 {
    key as i16
}

pub(crate) fn frame<T: HeaderVersion>(
    correlation_id: i32,
    version: i16,
    body: &[u8],
    into: &mut BytesMut,
) {
    let mut header = BytesMut::new();
    ResponseHeader::default()
        .with_correlation_id(correlation_id)
        .encode(&mut header, T::header_version(version))
        .unwrap();
    into.put_u32(u32::try_from(header.len() + body.len()).unwrap());
    into.extend_from_slice(&header);
    into.extend_from_slice(body);
}

pub(crate) fn encoded<T: Encodable>(answer: &T, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

impl<T: Encodable + Decodable + Debug + PartialEq> Answer for Answered<T> {
    fn check(&self) {
        let Self { answer, version, is_newer } = self;
        if *is_newer {
            return;
        }
        let mut bytes = encoded(answer, *version);
        let again = T::decode(&mut bytes, *version).unwrap();
        assert_eq!((&again, bytes.len()), (answer, 0));
    }
}

/// Returns a response of this API in the newest version, after a byte for the version.
fn kind<R>(answer: &R::Response) -> (Ask, Vec<u8>)
where
    R: Call + Default,
    R::Response: Encodable + Debug + PartialEq + 'static,
{
    let newest = u8::try_from(R::VERSIONS.count() - 1).unwrap();
    let body = encoded(answer, version_of::<R>(newest));
    (ask::<R>, [&[newest][..], &body].concat())
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic(name: &'static str) -> messages::TopicName {
    text(name).into()
}

fn kinds() -> Vec<(Ask, Vec<u8>)> {
    let mut kinds = plain_kinds();
    kinds.extend(topic_kinds());
    kinds.extend(group_kinds());
    kinds
}

fn plain_kinds() -> Vec<(Ask, Vec<u8>)> {
    use kafka_protocol::messages::describe_configs_response as configs;
    let api = ApiVersion::default().with_api_key(3).with_max_version(12);
    let synonym = configs::DescribeConfigsSynonym::default()
        .with_name(text("log.retention.ms"))
        .with_value(Some(text("1")));
    let config = configs::DescribeConfigsResourceResult::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("604800000")))
        .with_synonyms(vec![synonym; 2]);
    let result = configs::DescribeConfigsResult::default()
        .with_resource_name(text("orders"))
        .with_configs(vec![config; 2]);
    vec![
        kind::<messages::ApiVersionsRequest>(
            &messages::ApiVersionsResponse::default().with_api_keys(vec![api; 3]),
        ),
        kind::<messages::DescribeConfigsRequest>(
            &messages::DescribeConfigsResponse::default().with_results(vec![result; 2]),
        ),
        kind::<messages::HeartbeatRequest>(&messages::HeartbeatResponse::default()),
        kind::<messages::FindCoordinatorRequest>(
            &messages::FindCoordinatorResponse::default().with_coordinators(vec![
                messages::find_coordinator_response::Coordinator::default()
                    .with_host(text("broker"))
                    .with_port(9092);
                2
            ]),
        ),
    ]
}

fn topic_kinds() -> Vec<(Ask, Vec<u8>)> {
    use kafka_protocol::messages::{
        create_topics_response as create, list_offsets_response as list,
        metadata_response as metadata, produce_response as produce,
    };
    let ids = || vec![messages::BrokerId(1), messages::BrokerId(2)];
    let partition = metadata::MetadataResponsePartition::default()
        .with_replica_nodes(ids())
        .with_isr_nodes(ids())
        .with_offline_replicas(ids());
    let broker =
        metadata::MetadataResponseBroker::default().with_host(text("broker")).with_port(9092);
    let described = metadata::MetadataResponseTopic::default()
        .with_name(Some(topic("orders")))
        .with_partitions(vec![partition; 2]);
    let listed = list::ListOffsetsPartitionResponse::default().with_offset(7);
    let listed = list::ListOffsetsTopicResponse::default()
        .with_name(topic("orders"))
        .with_partitions(vec![listed; 2]);
    let config = create::CreatableTopicConfigs::default()
        .with_name(text("retention.ms"))
        .with_value(Some(text("1")));
    let created = create::CreatableTopicResult::default()
        .with_name(topic("orders"))
        .with_configs(Some(vec![config; 2]));
    let error = produce::BatchIndexAndErrorMessage::default()
        .with_batch_index_error_message(Some(text("no")));
    let produced = produce::PartitionProduceResponse::default().with_record_errors(vec![error; 2]);
    let produced = produce::TopicProduceResponse::default()
        .with_name(topic("orders"))
        .with_partition_responses(vec![produced; 2]);
    vec![
        kind::<messages::MetadataRequest>(
            &messages::MetadataResponse::default()
                .with_brokers(vec![broker; 2])
                .with_topics(vec![described; 2]),
        ),
        kind::<messages::ListOffsetsRequest>(
            &messages::ListOffsetsResponse::default().with_topics(vec![listed; 2]),
        ),
        kind::<messages::CreateTopicsRequest>(
            &messages::CreateTopicsResponse::default().with_topics(vec![created; 2]),
        ),
        kind::<messages::ProduceRequest>(
            &messages::ProduceResponse::default().with_responses(vec![produced; 2]),
        ),
    ]
}

fn group_kinds() -> Vec<(Ask, Vec<u8>)> {
    use kafka_protocol::messages::{
        describe_groups_response as describe, join_group_response as join,
        leave_group_response as leave, offset_commit_response as commit,
        offset_fetch_response as fetch,
    };
    let joined = join::JoinGroupResponseMember::default()
        .with_member_id(text("m"))
        .with_metadata(Bytes::from_static(b"subscription"));
    let left = leave::MemberResponse::default().with_member_id(text("m"));
    let member = describe::DescribedGroupMember::default()
        .with_member_id(text("m"))
        .with_client_host(text("/127.0.0.1"))
        .with_member_assignment(Bytes::from_static(b"assignment"));
    let described = describe::DescribedGroup::default()
        .with_group_state(text("Stable"))
        .with_members(vec![member; 2]);
    let committed = commit::OffsetCommitResponseTopic::default()
        .with_name(topic("orders"))
        .with_partitions(vec![commit::OffsetCommitResponsePartition::default(); 2]);
    let offset = fetch::OffsetFetchResponsePartitions::default()
        .with_committed_offset(7)
        .with_metadata(Some(text("oc3:")));
    let fetched = fetch::OffsetFetchResponseTopics::default()
        .with_name(topic("orders"))
        .with_partitions(vec![offset; 2]);
    let fetched = fetch::OffsetFetchResponseGroup::default().with_topics(vec![fetched; 2]);
    vec![
        kind::<messages::JoinGroupRequest>(
            &messages::JoinGroupResponse::default()
                .with_protocol_name(Some(text("range")))
                .with_members(vec![joined; 2]),
        ),
        kind::<messages::SyncGroupRequest>(
            &messages::SyncGroupResponse::default()
                .with_protocol_type(Some(text("consumer")))
                .with_assignment(Bytes::from_static(b"assignment")),
        ),
        kind::<messages::LeaveGroupRequest>(
            &messages::LeaveGroupResponse::default().with_members(vec![left; 2]),
        ),
        kind::<messages::DescribeGroupsRequest>(
            &messages::DescribeGroupsResponse::default().with_groups(vec![described; 2]),
        ),
        kind::<messages::OffsetCommitRequest>(
            &messages::OffsetCommitResponse::default().with_topics(vec![committed; 2]),
        ),
        kind::<messages::OffsetFetchRequest>(
            &messages::OffsetFetchResponse::default().with_groups(vec![fetched; 2]),
        ),
    ]
}
