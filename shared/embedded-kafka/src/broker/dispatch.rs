//! Decodes requests, calls the API that each names, and encodes the responses.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_core::NodeId;
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest, FetchRequest,
    FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, ResponseHeader,
    SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use tokio::time::{Instant, sleep_until};

use crate::api::request::{RequestContext, owned};
use crate::api::{
    configs, create_topics, describe_groups, fetch, find_coordinator, group_membership,
    group_offsets, leader_epochs, list_offsets, metadata, produce, versions,
};
use crate::broker::owner::Owner;
use crate::groups::member::{JoinAnswer, Reply, SyncAnswer};
use crate::quotas::OverQuota;
use crate::refusal::Refusal;
use crate::state::State;

/// The shortest header: API key, version, correlation id.
const HEADER_BYTES_MIN: usize = 8;
/// The size in front of a response, in bytes.
const SIZE_BYTES: usize = 4;

/// Why the broker closes a connection instead of answering a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The bytes do not match the schema.
    #[error("malformed {what}")]
    Malformed {
        /// The part of the message.
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request ends before its header does.
    #[error("request of {bytes} bytes is too short")]
    TooShort {
        /// The size of the request.
        bytes: usize,
    },
    #[error("the broker does not serve API {key} in version {version}")]
    Unsupported { key: i16, version: i16 },
    /// A client that waits for no response learns of a refused record by the closed connection.
    #[error("the broker refused a produce request with acks=0")]
    Refused(#[source] Refusal),
    /// The broker dropped the waiting request.
    #[error("the broker dropped a waiting request")]
    Abandoned,
}

/// A request with its decoded header.
struct Call {
    context: RequestContext,
    correlation_id: i32,
    bytes: usize,
    body: Bytes,
}

/// What the broker does after a request.
pub(crate) struct Answer {
    /// The response, `None` when the client expects none.
    pub(crate) response: Option<Bytes>,
    /// How long the connection is muted after the response, because the client is over its quota.
    pub(crate) throttle: Duration,
}

impl From<Bytes> for Answer {
    fn from(response: Bytes) -> Self {
        Self { response: Some(response), throttle: Duration::ZERO }
    }
}

/// Handles one request.
///
/// # Errors
/// [`CallError`]; the caller closes the connection.
pub(crate) async fn dispatch(
    owner: &Owner,
    node: NodeId,
    client_host: &str,
    request: Bytes,
) -> Result<Answer, CallError> {
    if request.len() < HEADER_BYTES_MIN {
        return Err(CallError::TooShort { bytes: request.len() });
    }
    let mut front = request.slice(..HEADER_BYTES_MIN);
    let (key, version, correlation_id) = (front.get_i16(), front.get_i16(), front.get_i32());
    if !versions::is_supported(key, version) {
        if key == ApiVersionsRequest::KEY {
            return encode(correlation_id, 0, &versions::api_versions_unsupported())
                .map(Answer::from);
        }
        return Err(CallError::Unsupported { key, version });
    }
    let (bytes, mut body) = (request.len(), request);
    let header_version = ApiKey::try_from(key)
        .map_err(|()| CallError::Unsupported { key, version })?
        .request_header_version(version);
    let header = RequestHeader::decode(&mut body, header_version)
        .map_err(|error| malformed("request header", error))?;
    let context = RequestContext {
        now: Duration::ZERO,
        node,
        api_version: version,
        client_id: owned(header.client_id.as_ref()).unwrap_or_default(),
        client_host: client_host.to_owned(),
    };
    let call = Call { context, correlation_id, bytes, body };
    match key {
        ProduceRequest::KEY => produce(owner, call),
        FetchRequest::KEY => fetch(owner, call).await,
        JoinGroupRequest::KEY => join_group(owner, call).await.map(Answer::from),
        SyncGroupRequest::KEY => sync_group(owner, call).await.map(Answer::from),
        _ => answer_at_once(owner, key, call).map(Answer::from),
    }
}

/// Handles the requests that never wait.
fn answer_at_once(owner: &Owner, key: i16, call: Call) -> Result<Bytes, CallError> {
    match key {
        ApiVersionsRequest::KEY => answer(owner, call, versions::api_versions),
        MetadataRequest::KEY => answer(owner, call, metadata::metadata),
        CreateTopicsRequest::KEY => answer(owner, call, create_topics::create_topics),
        CreatePartitionsRequest::KEY => answer(owner, call, create_topics::create_partitions),
        DeleteTopicsRequest::KEY => answer(owner, call, create_topics::delete_topics),
        DescribeConfigsRequest::KEY => answer(owner, call, configs::describe_configs),
        InitProducerIdRequest::KEY => answer(owner, call, produce::init_producer_id),
        ListOffsetsRequest::KEY => answer(owner, call, list_offsets::list_offsets),
        OffsetForLeaderEpochRequest::KEY => {
            answer(owner, call, leader_epochs::offset_for_leader_epoch)
        }
        DeleteRecordsRequest::KEY => answer(owner, call, list_offsets::delete_records),
        FindCoordinatorRequest::KEY => answer(owner, call, find_coordinator::find_coordinator),
        HeartbeatRequest::KEY => answer(owner, call, group_membership::heartbeat),
        LeaveGroupRequest::KEY => answer(owner, call, group_membership::leave_group),
        OffsetCommitRequest::KEY => answer(owner, call, group_offsets::offset_commit),
        OffsetFetchRequest::KEY => answer(owner, call, group_offsets::offset_fetch),
        DescribeGroupsRequest::KEY => answer(owner, call, describe_groups::describe_groups),
        _ => Err(CallError::Unsupported { key, version: call.context.api_version }),
    }
}

fn answer<R: Request>(
    owner: &Owner,
    mut call: Call,
    handle: fn(&mut State, &RequestContext, &R) -> R::Response,
) -> Result<Bytes, CallError> {
    let request = call.decode::<R>()?;
    let context = &mut call.context;
    let response = owner.with_state(|state, now| {
        context.now = now;
        handle(state, context, &request)
    });
    encode(call.correlation_id, call.context.api_version, &response)
}

fn produce(owner: &Owner, mut call: Call) -> Result<Answer, CallError> {
    let request = call.decode::<ProduceRequest>()?;
    let (produced, throttle) = owner.with_state(|state, now| {
        let client = (call.context.node, call.context.client_id.as_str());
        let throttle = state.produce_quota.count(client, call.bytes, now, OverQuota::Counts);
        (produce::produce(state, &call.context, request), throttle)
    });
    let response = match produced {
        produce::Produced::Answer(mut response) => {
            response.throttle_time_ms = millis(throttle);
            Some(encode(call.correlation_id, call.context.api_version, &response)?)
        }
        produce::Produced::Silence => None,
        produce::Produced::Failure(refusal) => return Err(CallError::Refused(refusal)),
    };
    Ok(Answer { response, throttle })
}

/// Answers a fetch once it has `min_bytes`, at the latest after `max_wait_ms`.
async fn fetch(owner: &Owner, mut call: Call) -> Result<Answer, CallError> {
    let request = call.decode::<FetchRequest>()?;
    let max_wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let deadline = Instant::now() + Duration::from_millis(max_wait);
    let mut log_changes = owner.log_changes();
    let version = call.context.api_version;
    let plan = match owner.with_state(|state, _| fetch::begin(state, &call.context, &request)) {
        Ok(plan) => plan,
        Err(refused) => return encode(call.correlation_id, version, &refused).map(Answer::from),
    };
    loop {
        // Marked as seen before the read: a change during the read ends the wait at once.
        log_changes.borrow_and_update();
        let finished = owner.with_state(|state, now| {
            let fetched = fetch::read(state, &call.context, &request, &plan);
            let is_due =
                fetch::is_enough(state, &request, &fetched) || (deadline <= Instant::now());
            is_due.then(|| {
                let client = (call.context.node, call.context.client_id.as_str());
                fetch::finish(state, client, now, &plan, fetched)
            })
        });
        if let Some((mut response, throttle)) = finished {
            response.throttle_time_ms = millis(throttle);
            let response = encode(call.correlation_id, version, &response)?;
            return Ok(Answer { response: Some(response), throttle });
        }
        tokio::select! {
            () = sleep_until(deadline) => {}
            changed = log_changes.changed() => {
                if changed.is_err() {
                    return Err(CallError::Abandoned);
                }
            }
        }
    }
}

async fn join_group(owner: &Owner, mut call: Call) -> Result<Bytes, CallError> {
    let request = call.decode::<JoinGroupRequest>()?;
    let request = group_membership::join_request(&call.context, &request);
    let (reply, answer) = Reply::channel();
    owner.with_state(|state, now| {
        match state.check_coordinator(call.context.node, &request.group_id) {
            Ok(()) => state.groups.join(now, request, reply),
            Err(error) => reply.send(JoinAnswer::refused(error, request.member_id)),
        }
    });
    let answer = answer.await.map_err(|_| CallError::Abandoned)?;
    let response = group_membership::join_response(&call.context, answer);
    encode(call.correlation_id, call.context.api_version, &response)
}

async fn sync_group(owner: &Owner, mut call: Call) -> Result<Bytes, CallError> {
    let request = call.decode::<SyncGroupRequest>()?;
    let answer = match group_membership::sync_request(&call.context, &request) {
        Ok(request) => {
            let (reply, answer) = Reply::channel();
            owner.with_state(|state, now| {
                match state.check_coordinator(call.context.node, &request.group_id) {
                    Ok(()) => state.groups.sync(now, request, reply),
                    Err(error) => reply.send(SyncAnswer::refused(error)),
                }
            });
            answer.await.map_err(|_| CallError::Abandoned)?
        }
        Err(error) => SyncAnswer::refused(error),
    };
    let response = group_membership::sync_response(answer);
    encode(call.correlation_id, call.context.api_version, &response)
}

impl Call {
    fn decode<R: Request>(&mut self) -> Result<R, CallError> {
        R::decode(&mut self.body, self.context.api_version)
            .map_err(|error| malformed("request", error))
    }
}

fn millis(throttle: Duration) -> i32 {
    i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX)
}

/// Returns a response with its size and its header in front.
fn encode<R: Encodable + HeaderVersion>(
    correlation_id: i32,
    version: i16,
    response: &R,
) -> Result<Bytes, CallError> {
    let mut body = BytesMut::new();
    ResponseHeader::default()
        .with_correlation_id(correlation_id)
        .encode(&mut body, R::header_version(version))
        .map_err(|error| malformed("response header", error))?;
    response.encode(&mut body, version).map_err(|error| malformed("response", error))?;
    let mut frame = BytesMut::with_capacity(SIZE_BYTES + body.len());
    frame.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    frame.put(body);
    Ok(frame.freeze())
}

fn malformed(
    what: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> CallError {
    CallError::Malformed { what, source: source.into() }
}
