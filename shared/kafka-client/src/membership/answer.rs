//! One request to the coordinator, and its answer.

use std::time::Duration;

use kafka_core::error_code::{Disposition, disposition};
use kafka_core::member::Request;
use kafka_protocol::ResponseError;
use kafka_protocol::messages;

use crate::connection::{Connection, ConnectionError};

/// The coordinator's response to a [`Request`].
pub(super) enum Answer {
    Join(messages::JoinGroupResponse),
    Sync(messages::SyncGroupResponse),
    Heartbeat(messages::HeartbeatResponse),
    Left,
}

impl Answer {
    /// Returns the error code, if it means that the coordinator cannot serve the member at present.
    pub(super) fn setback(&self) -> Option<ResponseError> {
        let error_code = match self {
            Self::Join(response) => response.error_code,
            Self::Sync(response) => response.error_code,
            Self::Heartbeat(response) => response.error_code,
            Self::Left => 0,
        };
        ResponseError::try_from_code(error_code).filter(|error| match disposition(*error) {
            Disposition::Retry | Disposition::FindCoordinator | Disposition::RetryBounded => true,
            // A rebalance, or the end of the membership, which is reported as such.
            Disposition::Rejoin
            | Disposition::Fenced
            | Disposition::MemberIdAssigned
            | Disposition::Fatal => false,
        })
    }
}

/// Sends `request` and waits for its answer: `patient` long for one that waits for other members, else `prompt`.
pub(super) async fn call(
    connection: &mut Connection,
    request: Request,
    patient: Duration,
    prompt: Duration,
) -> Result<Answer, ConnectionError> {
    Ok(match request {
        Request::Join(request) => Answer::Join(connection.call(&request, patient).await?),
        // The answer waits until the leader has assigned.
        Request::Sync(request) => Answer::Sync(connection.call(&request, patient).await?),
        Request::Heartbeat(request) => Answer::Heartbeat(connection.call(&request, prompt).await?),
        Request::Leave(request) => {
            connection.call(&request, prompt).await?;
            Answer::Left
        }
    })
}
