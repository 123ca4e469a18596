//! The APIs of the broker, one file per group of them, each a translation between messages and [`crate::state::State`].
//!
//! Message schemas: <https://kafka.apache.org/protocol>. [`SUPPORTED`] says which versions are served.

pub(crate) mod configs;
pub(crate) mod create_topics;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod group_admin;
pub(crate) mod group_membership;
pub(crate) mod group_offsets;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod produce;

use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, FetchRequest, FindCoordinatorRequest,
    HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};
use uuid::Uuid;

use crate::state::State;
use crate::topics::Topics;

/// The first versions of Produce and Fetch that name topics by id.
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

/// Where a request comes from, and when.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// The time since the broker started.
    pub(crate) now: Duration,
    /// The version of the request.
    pub(crate) api_version: i16,
    /// The client's id, empty when it has none.
    pub(crate) client_id: String,
    /// The client's address, written as Kafka does: `/127.0.0.1`.
    pub(crate) client_host: String,
}

/// The versions of an API the broker serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SupportedApi {
    /// The key of the API.
    pub(crate) key: i16,
    /// The lowest version told to clients.
    pub(crate) advertised_min: i16,
    /// The lowest version served.
    pub(crate) min: i16,
    /// The highest version served.
    pub(crate) max: i16,
}

const fn api<R: Request>(min: i16, max: i16) -> SupportedApi {
    SupportedApi { key: R::KEY, advertised_min: min, min, max }
}

/// Every API of the broker.
pub(crate) const SUPPORTED: &[SupportedApi] = &[
    // librdkafka compresses only when Produce version 0 is on offer (KAFKA-18659), so brokers go on offering it.
    SupportedApi { advertised_min: 0, ..api::<ProduceRequest>(3, 13) },
    api::<FetchRequest>(4, 18),
    api::<ListOffsetsRequest>(1, 10),
    api::<MetadataRequest>(0, 13),
    api::<OffsetCommitRequest>(2, 9),
    api::<OffsetFetchRequest>(1, 9),
    api::<FindCoordinatorRequest>(0, 6),
    api::<JoinGroupRequest>(0, 9),
    api::<HeartbeatRequest>(0, 4),
    api::<LeaveGroupRequest>(0, 5),
    api::<SyncGroupRequest>(0, 5),
    api::<DescribeGroupsRequest>(0, 6),
    api::<ListGroupsRequest>(0, 5),
    api::<ApiVersionsRequest>(0, 4),
    api::<CreateTopicsRequest>(2, 7),
    api::<DeleteTopicsRequest>(1, 6),
    api::<DeleteRecordsRequest>(0, 2),
    api::<InitProducerIdRequest>(0, 5),
    api::<OffsetForLeaderEpochRequest>(2, 4),
    api::<DescribeConfigsRequest>(1, 4),
    api::<CreatePartitionsRequest>(0, 3),
    api::<DeleteGroupsRequest>(0, 2),
    api::<IncrementalAlterConfigsRequest>(0, 1),
    api::<OffsetDeleteRequest>(0, 0),
    api::<DescribeClusterRequest>(0, 2),
];

/// Returns whether a version of an API is served.
pub(crate) fn is_supported(key: i16, version: i16) -> bool {
    SUPPORTED.iter().any(|api| (api.key == key) && (api.min..=api.max).contains(&version))
}

/// Answers `ApiVersions`.
pub(crate) fn api_versions(
    _state: &mut State,
    _context: &RequestContext,
    _request: &ApiVersionsRequest,
) -> ApiVersionsResponse {
    let version = |api: &SupportedApi| {
        ApiVersion::default()
            .with_api_key(api.key)
            .with_min_version(api.advertised_min)
            .with_max_version(api.max)
    };
    ApiVersionsResponse::default().with_api_keys(SUPPORTED.iter().map(version).collect())
}

/// Returns the answer to an `ApiVersions` request of an unknown version.
///
/// It is sent in version 0, which every client understands, and tells which versions of `ApiVersions` to try (KIP-511).
pub(crate) fn api_versions_unsupported() -> ApiVersionsResponse {
    let this_api = SUPPORTED
        .iter()
        .filter(|api| api.key == ApiVersionsRequest::KEY)
        .map(|api| ApiVersion::default().with_api_key(api.key).with_max_version(api.max));
    ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(this_api.collect())
}

/// How a request names a topic.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TopicReference<'a> {
    /// By name.
    Name(&'a str),
    /// By id.
    Id(Uuid),
}

impl<'a> TopicReference<'a> {
    /// Returns how a Produce request names a topic.
    pub(crate) fn of_produce(topic: &'a TopicProduceData, api_version: i16) -> Self {
        Self::new(&topic.name, topic.topic_id, api_version)
    }

    /// Returns how a Fetch request names a topic.
    pub(crate) fn of_fetch(topic: &'a FetchTopic, api_version: i16) -> Self {
        Self::new(&topic.topic, topic.topic_id, api_version)
    }

    /// Returns the name of the topic.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_ID`, `UNKNOWN_TOPIC_OR_PARTITION`.
    pub(crate) fn resolve(self, topics: &Topics) -> Result<String, ResponseError> {
        match self {
            Self::Name(name) if topics.get(name).is_some() => Ok(name.to_owned()),
            Self::Name(_) => Err(ResponseError::UnknownTopicOrPartition),
            Self::Id(id) => {
                topics.name_of(id).map(str::to_owned).ok_or(ResponseError::UnknownTopicId)
            }
        }
    }

    fn new(name: &'a TopicName, id: Uuid, api_version: i16) -> Self {
        if FIRST_VERSION_WITH_TOPIC_IDS <= api_version { Self::Id(id) } else { Self::Name(name) }
    }
}

/// Returns a string as messages hold it.
pub(crate) fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

/// Returns a topic name as messages hold it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Returns a string of a message that is kept, so that it does not keep the whole request.
pub(crate) fn owned(value: Option<&StrBytes>) -> Option<String> {
    value.map(ToString::to_string)
}
