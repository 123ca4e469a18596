//! The requests of this crate and their supported versions.
//!
//! The lower bounds are those of Kafka 2.8 and of brokers that offer as little (Redpanda). The upper bounds are the newest that
//! `kafka-protocol` and the tests cover. The counts in answers of versions before KIP-482 are checked by `connection`.

mod older;

use std::ops::RangeInclusive;

use kafka_protocol::messages::{self, ApiKey};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use tokio::io::AsyncRead;

use crate::connection::fields::{Fields, ReadError};

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

    /// Returns the request as this version needs it, if that is not the newest form.
    fn older(&self, _version: i16) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// Returns the newest form of an answer of this version.
    fn newer(response: Self::Response, _version: i16) -> Self::Response {
        response
    }
}

/// A request whose response is decoded while it arrives.
pub(crate) trait StreamedCall: Encodable + HeaderVersion + Send + Sync {
    /// The API key.
    const KEY: ApiKey;
    /// The supported versions.
    const VERSIONS: RangeInclusive<i16>;
    /// The response.
    type Answer: Send;

    /// Returns whether the responses of a version have varints and tagged fields (KIP-482).
    fn is_flexible(version: i16) -> bool;

    /// Returns how long the broker wants no further request, in milliseconds.
    fn throttle_time_ms(answer: &Self::Answer) -> i32;

    /// Reads the body of a response.
    fn read<S: AsyncRead + Unpin + Send>(
        fields: &mut Fields<'_, S>,
        version: i16,
    ) -> impl Future<Output = Result<Self::Answer, ReadError>> + Send;
}

macro_rules! calls {
    ($($request:ident => $response:ident, $key:ident, $versions:expr $(, $since:literal: $older:expr, $newer:expr)?;)*) => {
        $(impl Call for messages::$request {
            const KEY: ApiKey = ApiKey::$key;
            const VERSIONS: RangeInclusive<i16> = $versions;
            type Response = messages::$response;

            fn throttle_time_ms(response: &Self::Response) -> i32 {
                response.throttle_time_ms
            }

            $(
                fn older(&self, version: i16) -> Option<Self> {
                    (version < $since).then(|| $older(self, version))
                }

                fn newer(response: Self::Response, version: i16) -> Self::Response {
                    if version < $since { $newer(response) } else { response }
                }
            )?
        })*
    };
}

calls! {
    ApiVersionsRequest => ApiVersionsResponse, ApiVersions, 3..=3;
    MetadataRequest => MetadataResponse, Metadata, 7..=12;
    CreateTopicsRequest => CreateTopicsResponse, CreateTopics, 2..=7;
    ProduceRequest => ProduceResponse, Produce, 5..=12;
    InitProducerIdRequest => InitProducerIdResponse, InitProducerId, 1..=4;
    DescribeConfigsRequest => DescribeConfigsResponse, DescribeConfigs, 4..=4;
    ListOffsetsRequest => ListOffsetsResponse, ListOffsets, 4..=8;
    FindCoordinatorRequest => FindCoordinatorResponse, FindCoordinator, 1..=5, 4: |request, _version| older::find_coordinator(request), older::coordinator;
    DescribeGroupsRequest => DescribeGroupsResponse, DescribeGroups, 4..=5;
    JoinGroupRequest => JoinGroupResponse, JoinGroup, 5..=9;
    SyncGroupRequest => SyncGroupResponse, SyncGroup, 3..=5;
    HeartbeatRequest => HeartbeatResponse, Heartbeat, 3..=4;
    LeaveGroupRequest => LeaveGroupResponse, LeaveGroup, 3..=5;
    OffsetCommitRequest => OffsetCommitResponse, OffsetCommit, 7..=9;
    OffsetFetchRequest => OffsetFetchResponse, OffsetFetch, 5..=9, 8: older::offset_fetch, older::offsets;
}
