//! FindCoordinator: a node for groups, none for transactions.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::api::request::{RequestContext, text};
use crate::refusal::Refusal;
use crate::state::State;

const GROUP_KEY: i8 = 0;
const TRANSACTION_KEY: i8 = 1;
/// The first version with several keys.
const FIRST_BATCHED_VERSION: i16 = 4;

/// Answers `FindCoordinator`.
pub(crate) fn find_coordinator(
    state: &mut State,
    context: &RequestContext,
    request: &FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    if FIRST_BATCHED_VERSION <= context.api_version {
        let find = |key: &StrBytes| find(state, request.key_type, key);
        let coordinators = request.coordinator_keys.iter().map(find).collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = find(state, request.key_type, &request.key);
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn find(state: &mut State, key_type: i8, key: &StrBytes) -> Coordinator {
    let found = check_key_type(key_type).and_then(|()| {
        let none = || Refusal::new(ResponseError::CoordinatorNotAvailable, "no node runs");
        state.cluster.coordinator(key).ok_or_else(none)
    });
    match found {
        Ok(node) => Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(node.id))
            .with_host(text(node.host.as_str()))
            .with_port(i32::from(node.port)),
        Err(refusal) => Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(refusal.error.code())
            .with_error_message(Some(text(refusal.message))),
    }
}

fn check_key_type(key_type: i8) -> Result<(), Refusal> {
    match key_type {
        GROUP_KEY => Ok(()),
        // Clients give up at once on this error; they retry on others.
        TRANSACTION_KEY => Err(Refusal::new(
            ResponseError::TransactionalIdAuthorizationFailed,
            "this broker does not support transactions",
        )),
        unknown => Err(Refusal::new(
            ResponseError::InvalidRequest,
            format!("there is no coordinator of type {unknown}"),
        )),
    }
}
