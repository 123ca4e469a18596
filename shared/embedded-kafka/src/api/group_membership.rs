//! `JoinGroup`, `SyncGroup`, Heartbeat and `LeaveGroup`.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::api::request::{RequestContext, owned, text};
use crate::groups::Leaving;
use crate::groups::member::{
    Claim, JoinAbilities, JoinAnswer, JoinRequest, JoinedMember, Protocol, SyncAnswer, SyncRequest,
};
use crate::refusal::code_of;
use crate::state::State;

const FIRST_JOIN_WITH_REBALANCE_TIMEOUT: i16 = 1;
const FIRST_JOIN_WITH_GIVEN_ID: i16 = 4;
const FIRST_JOIN_WITH_NULLABLE_PROTOCOL: i16 = 7;
const FIRST_JOIN_WITH_SKIPPED_ASSIGNMENT: i16 = 9;
const FIRST_SYNC_WITH_PROTOCOL: i16 = 5;
const FIRST_LEAVE_WITH_MEMBERS: i16 = 3;

/// Translates a `JoinGroup` request.
pub(crate) fn join_request(context: &RequestContext, request: &JoinGroupRequest) -> JoinRequest {
    let version = context.api_version;
    let session_timeout = millis(request.session_timeout_ms);
    let has_rebalance_timeout = FIRST_JOIN_WITH_REBALANCE_TIMEOUT <= version;
    let protocol = |protocol: &JoinGroupRequestProtocol| Protocol {
        name: protocol.name.to_string(),
        metadata: detached(&protocol.metadata),
    };
    JoinRequest {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: owned(request.group_instance_id.as_ref()),
        client_id: context.client_id.clone(),
        client_host: context.client_host.clone(),
        session_timeout,
        rebalance_timeout: if has_rebalance_timeout {
            millis(request.rebalance_timeout_ms)
        } else {
            session_timeout
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.iter().map(protocol).collect(),
        fresh_id: Uuid::new_v4(),
        abilities: JoinAbilities {
            joins_with_given_id: FIRST_JOIN_WITH_GIVEN_ID <= version,
            skips_assignment: FIRST_JOIN_WITH_SKIPPED_ASSIGNMENT <= version,
        },
    }
}

/// Translates the answer to a `JoinGroup` request.
pub(crate) fn join_response(context: &RequestContext, answer: JoinAnswer) -> JoinGroupResponse {
    let is_nullable = FIRST_JOIN_WITH_NULLABLE_PROTOCOL <= context.api_version;
    let no_protocol = (!is_nullable).then(StrBytes::new);
    let member = |member: JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.group_instance_id.map(text))
            .with_metadata(member.metadata)
    };
    JoinGroupResponse::default()
        .with_error_code(code_of(answer.error))
        .with_generation_id(answer.generation_id)
        .with_protocol_type(answer.protocol_type.map(text))
        .with_protocol_name(answer.protocol_name.map(text).or(no_protocol))
        .with_leader(text(answer.leader))
        .with_skip_assignment(answer.skip_assignment)
        .with_member_id(text(answer.member_id))
        .with_members(answer.members.into_iter().map(member).collect())
}

/// Translates a `SyncGroup` request.
///
/// # Errors
/// `INCONSISTENT_GROUP_PROTOCOL` when a request of a version with a protocol names none.
pub(crate) fn sync_request(
    context: &RequestContext,
    request: &SyncGroupRequest,
) -> Result<SyncRequest, ResponseError> {
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if (FIRST_SYNC_WITH_PROTOCOL <= context.api_version) && !names_protocol {
        return Err(ResponseError::InconsistentGroupProtocol);
    }
    let assignments = request
        .assignments
        .iter()
        .map(|member| (member.member_id.to_string(), detached(&member.assignment)));
    Ok(SyncRequest {
        group_id: request.group_id.to_string(),
        claim: Claim {
            member_id: request.member_id.to_string(),
            group_instance_id: owned(request.group_instance_id.as_ref()),
            generation_id: request.generation_id,
        },
        protocol_type: owned(request.protocol_type.as_ref()),
        protocol_name: owned(request.protocol_name.as_ref()),
        assignments: assignments.collect(),
    })
}

/// Translates the answer to a `SyncGroup` request.
pub(crate) fn sync_response(answer: SyncAnswer) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_error_code(code_of(answer.error))
        .with_protocol_type(answer.protocol_type.map(text))
        .with_protocol_name(answer.protocol_name.map(text))
        .with_assignment(answer.assignment)
}

pub(crate) fn heartbeat(
    state: &mut State,
    context: &RequestContext,
    request: &HeartbeatRequest,
) -> HeartbeatResponse {
    let claim = Claim {
        member_id: request.member_id.to_string(),
        group_instance_id: owned(request.group_instance_id.as_ref()),
        generation_id: request.generation_id,
    };
    let heard = state
        .check_coordinator(context.node, &request.group_id)
        .and_then(|()| state.groups.heartbeat(context.now, &request.group_id, &claim));
    HeartbeatResponse::default().with_error_code(code_of(heard.err()))
}

/// Answers `LeaveGroup`, for one member or, from version 3, for several.
pub(crate) fn leave_group(
    state: &mut State,
    context: &RequestContext,
    request: &LeaveGroupRequest,
) -> LeaveGroupResponse {
    let has_members = FIRST_LEAVE_WITH_MEMBERS <= context.api_version;
    let leaving: Vec<Leaving> = if has_members {
        let member = |member: &MemberIdentity| Leaving {
            member_id: member.member_id.to_string(),
            group_instance_id: owned(member.group_instance_id.as_ref()),
        };
        request.members.iter().map(member).collect()
    } else {
        vec![Leaving { member_id: request.member_id.to_string(), group_instance_id: None }]
    };
    let left = state
        .check_coordinator(context.node, &request.group_id)
        .and_then(|()| state.groups.leave(context.now, &request.group_id, &leaving));
    let results = match left {
        Ok(results) => results,
        Err(error) => return LeaveGroupResponse::default().with_error_code(error.code()),
    };
    if !has_members {
        let error = results.into_iter().flatten().next();
        return LeaveGroupResponse::default().with_error_code(code_of(error));
    }
    let member = |(member, error): (Leaving, Option<ResponseError>)| {
        MemberResponse::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.group_instance_id.map(text))
            .with_error_code(code_of(error))
    };
    let members = leaving.into_iter().zip(results).map(member).collect();
    LeaveGroupResponse::default().with_members(members)
}

/// Copies bytes that outlive the request, so that they do not keep its buffer.
fn detached(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn millis(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
