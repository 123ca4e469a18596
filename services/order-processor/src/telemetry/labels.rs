//! The values of labels named `error_type`: closed sets.

use kafka_client::error::ClientError;
use kafka_protocol::ResponseError;

use crate::handler::{AttemptResult, NoAnswer, Outcome, SimulatedFailure};

pub(super) const UNREACHABLE: &str = "unreachable";
const OTHER: &str = "other";

/// The coordinator's errors for a fenced member.
pub(super) const FENCED: [&str; 3] =
    ["unknown_member_id", "illegal_generation", "fenced_instance_id"];

/// The coordinator's errors with a value of their own; Kafka has more codes than a label should have.
const COMMIT_ERRORS: [(ResponseError, &str); 8] = [
    (ResponseError::UnknownMemberId, FENCED[0]),
    (ResponseError::IllegalGeneration, FENCED[1]),
    (ResponseError::FencedInstanceId, FENCED[2]),
    (ResponseError::RebalanceInProgress, "rebalance_in_progress"),
    (ResponseError::NotCoordinator, "not_coordinator"),
    (ResponseError::CoordinatorNotAvailable, "coordinator_not_available"),
    (ResponseError::CoordinatorLoadInProgress, "coordinator_load_in_progress"),
    (ResponseError::OffsetMetadataTooLarge, "offset_metadata_too_large"),
];

/// Why an order is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryCause {
    /// The handler answered with a transient failure.
    Transient,
    Timeout,
    Simulated,
}

impl RetryCause {
    pub(crate) const ALL: [Self; 3] = [Self::Transient, Self::Timeout, Self::Simulated];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Timeout => "timeout",
            Self::Simulated => "simulated",
        }
    }
}

/// Returns the label of an attempt that failed.
pub(crate) fn of_attempt(outcome: &AttemptResult) -> Option<&'static str> {
    Some(match outcome {
        Ok(Outcome::Done) => return None,
        Ok(Outcome::Transient { .. }) => RetryCause::Transient.as_str(),
        Ok(Outcome::Permanent { .. }) => "rejected",
        Ok(Outcome::DependencyDown { .. }) => "dependency-down",
        Ok(Outcome::Simulated(SimulatedFailure::Transient(_) | SimulatedFailure::Permanent(_))) => {
            RetryCause::Simulated.as_str()
        }
        Err(NoAnswer::Panic(_)) => "panic",
        Err(NoAnswer::Timeout(_)) => RetryCause::Timeout.as_str(),
    })
}

pub(super) fn of_client_error(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unreachable(_) => UNREACHABLE,
        ClientError::Refused { .. } | ClientError::Partition { .. } => "refused",
        ClientError::Incompatible(_) => "incompatible",
    }
}

pub(super) fn of_commit_error(error: ResponseError) -> &'static str {
    let known = COMMIT_ERRORS.iter().find(|(known, _)| *known == error);
    known.map_or(OTHER, |(_, word)| *word)
}

/// Returns the labels of all failures of a commit.
pub(super) fn commit_failures() -> impl Iterator<Item = &'static str> {
    COMMIT_ERRORS.iter().map(|(_, word)| *word).chain([UNREACHABLE, OTHER])
}
