//! `DescribeGroups`.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use crate::api::request::{RequestContext, text};
use crate::groups::group::{Group, GroupState};
use crate::groups::member::Member;
use crate::state::State;

/// The state of a group that does not exist.
const DEAD: &str = "Dead";
/// The first version with an error for a group that does not exist.
const FIRST_DESCRIBE_WITH_NOT_FOUND: i16 = 6;
/// The operations that the broker allows on a group, as bits of `AclOperation`: read, delete, describe.
const GROUP_OPERATIONS: i32 = (1 << 3) | (1 << 6) | (1 << 8);

/// Answers `DescribeGroups`.
pub(crate) fn describe_groups(
    state: &mut State,
    context: &RequestContext,
    request: &DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    state.groups.expire(context.now);
    let describe = |group_id: &GroupId| {
        if let Err(error) = state.check_coordinator(context.node, group_id) {
            let refused = DescribedGroup::default().with_group_id(group_id.clone());
            return refused.with_error_code(error.code());
        }
        let mut described = match state.groups.get(group_id) {
            Some(group) => describe(group),
            None => describe_unknown(group_id, context.api_version),
        };
        if request.include_authorized_operations && (described.error_code == 0) {
            described.authorized_operations = GROUP_OPERATIONS;
        }
        described.with_group_id(group_id.clone())
    };
    DescribeGroupsResponse::default().with_groups(request.groups.iter().map(describe).collect())
}

fn describe(group: &Group) -> DescribedGroup {
    // Members have metadata for a protocol only once the group has selected one.
    let stable_protocol = match group.state() {
        GroupState::Stable => group.protocol_name(),
        GroupState::Empty | GroupState::PreparingRebalance | GroupState::CompletingRebalance => {
            None
        }
    };
    let member = |(member_id, member): (&str, &Member)| {
        let metadata = stable_protocol.map_or_else(Bytes::new, |name| member.metadata(name));
        DescribedGroupMember::default()
            .with_member_id(text(member_id))
            .with_group_instance_id(member.stored.group_instance_id.as_deref().map(text))
            .with_client_id(text(member.stored.client_id.as_str()))
            .with_client_host(text(member.stored.client_host.as_str()))
            .with_member_metadata(metadata)
            .with_member_assignment(member.stored.assignment.clone())
    };
    DescribedGroup::default()
        .with_group_state(text(group.state().name()))
        .with_protocol_type(text(group.protocol_type().unwrap_or_default()))
        .with_protocol_data(text(stable_protocol.unwrap_or_default()))
        .with_members(group.members().map(member).collect())
}

fn describe_unknown(group_id: &str, api_version: i16) -> DescribedGroup {
    let described = DescribedGroup::default().with_group_state(text(DEAD));
    if api_version < FIRST_DESCRIBE_WITH_NOT_FOUND {
        return described;
    }
    described
        .with_error_code(ResponseError::GroupIdNotFound.code())
        .with_error_message(Some(text(format!("Group {group_id} not found."))))
}
