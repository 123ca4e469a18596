//! The requests of this crate and their supported versions.
//!
//! The lower bounds are those of Kafka 3.0, and flexible (KIP-482) if a response holds an array, so that
//! `connection` can bound its allocations. The upper bounds are the newest that `kafka-protocol` and the tests cover.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{self, ApiKey};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

/// A request with its response, API key and supported versions.
pub trait Call: Encodable + HeaderVersion + Send + Sync {
    /// The API key.
    const KEY: ApiKey;
    /// The supported versions.
    const VERSIONS: RangeInclusive<i16>;
    /// The response.
    type Response: Decodable + HeaderVersion + Send;

    /// Returns how long the broker wants no further request, in milliseconds: a quota is exceeded (KIP-219).
    fn throttle_time_ms(response: &Self::Response) -> i32;
}

macro_rules! calls {
    ($($request:ident => $response:ident, $key:ident, $versions:expr;)*) => {
        $(impl Call for messages::$request {
            const KEY: ApiKey = ApiKey::$key;
            const VERSIONS: RangeInclusive<i16> = $versions;
            type Response = messages::$response;

            fn throttle_time_ms(response: &Self::Response) -> i32 {
                response.throttle_time_ms
            }
        })*
    };
}

calls! {
    ApiVersionsRequest => ApiVersionsResponse, ApiVersions, 3..=3;
    MetadataRequest => MetadataResponse, Metadata, 10..=12;
    CreateTopicsRequest => CreateTopicsResponse, CreateTopics, 5..=7;
    ProduceRequest => ProduceResponse, Produce, 9..=12;
    DescribeConfigsRequest => DescribeConfigsResponse, DescribeConfigs, 4..=4;
    FetchRequest => FetchResponse, Fetch, 12..=16;
    ListOffsetsRequest => ListOffsetsResponse, ListOffsets, 6..=8;
    FindCoordinatorRequest => FindCoordinatorResponse, FindCoordinator, 4..=5;
    DescribeGroupsRequest => DescribeGroupsResponse, DescribeGroups, 5..=5;
    JoinGroupRequest => JoinGroupResponse, JoinGroup, 6..=9;
    SyncGroupRequest => SyncGroupResponse, SyncGroup, 4..=5;
    HeartbeatRequest => HeartbeatResponse, Heartbeat, 3..=4;
    LeaveGroupRequest => LeaveGroupResponse, LeaveGroup, 4..=5;
    OffsetCommitRequest => OffsetCommitResponse, OffsetCommit, 8..=9;
    OffsetFetchRequest => OffsetFetchResponse, OffsetFetch, 8..=9;
}
