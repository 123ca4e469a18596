//! The requests this crate sends, and the versions of each that it speaks.
//!
//! The lower bounds are those of Kafka 3.0, and flexible (KIP-482) wherever an answer holds an array, so that
//! `connection` can bound what it allocates. The upper ones are the newest that `kafka-protocol` and the tests cover.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{self, ApiKey};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

/// A request with its response, API key and the versions that may be spoken.
pub trait Call: Encodable + HeaderVersion + Send + Sync {
    /// The API this request belongs to.
    const KEY: ApiKey;
    /// The versions this crate speaks.
    const VERSIONS: RangeInclusive<i16>;
    /// What the broker answers.
    type Response: Decodable + HeaderVersion + Send;
}

macro_rules! calls {
    ($($request:ident => $response:ident, $key:ident, $versions:expr;)*) => {
        $(impl Call for messages::$request {
            const KEY: ApiKey = ApiKey::$key;
            const VERSIONS: RangeInclusive<i16> = $versions;
            type Response = messages::$response;
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
