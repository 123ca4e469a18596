//! `ApiVersions`: which APIs the broker serves, and in which versions.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    FetchRequest, FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::Request;

use crate::api::request::RequestContext;
use crate::state::State;

/// The versions of an API the broker serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SupportedApi {
    /// The key of the API.
    pub(crate) key: i16,
    /// The lowest version in `ApiVersions` responses.
    pub(crate) advertised_min: i16,
    pub(crate) min: i16,
    pub(crate) max: i16,
}

const fn api<R: Request>(min: i16, max: i16) -> SupportedApi {
    SupportedApi { key: R::KEY, advertised_min: min, min, max }
}

/// Every API of the broker.
pub(crate) const SUPPORTED: &[SupportedApi] = &[
    // librdkafka compresses only when `ApiVersions` lists Produce version 0 (KAFKA-18659).
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
    api::<ApiVersionsRequest>(0, 4),
    api::<CreateTopicsRequest>(2, 7),
    api::<DeleteTopicsRequest>(1, 6),
    api::<DeleteRecordsRequest>(0, 2),
    api::<InitProducerIdRequest>(0, 5),
    api::<OffsetForLeaderEpochRequest>(2, 4),
    api::<DescribeConfigsRequest>(1, 4),
    api::<CreatePartitionsRequest>(0, 3),
];

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

/// Returns the response to an `ApiVersions` request of an unknown version.
///
/// It has version 0, which every client understands, and lists the supported versions of `ApiVersions` (KIP-511).
pub(crate) fn api_versions_unsupported() -> ApiVersionsResponse {
    let this_api = SUPPORTED
        .iter()
        .filter(|api| api.key == ApiVersionsRequest::KEY)
        .map(|api| ApiVersion::default().with_api_key(api.key).with_max_version(api.max));
    ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(this_api.collect())
}
