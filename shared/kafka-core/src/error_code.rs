//! The table of what a group member does about each error code of the group coordinator.
//!
//! Error codes: <https://kafka.apache.org/protocol#protocol_error_codes>.

use kafka_protocol::ResponseError;

/// What to do about an error code that the group coordinator answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Send the request again after a backoff.
    Retry,
    /// Look up the group's coordinator, then retry.
    FindCoordinator,
    /// The group is rebalancing: join it again. The member keeps its partitions until its next assignment.
    Rejoin,
    /// The coordinator does not know this member in this generation: all its partitions are lost, and it must not
    /// commit.
    Fenced,
    /// Join again with the member id of the response (KIP-394).
    MemberIdAssigned,
    /// Retry for a limited time, then end the membership: the code is unknown, or the broker failed unexpectedly.
    RetryBounded,
    /// End the membership: no retry helps against wrong configuration, missing authorisation or another process with
    /// the same `group.instance.id`.
    Fatal,
}

/// Returns what a member does about `error`, for every request it sends to the group coordinator.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign enum of all of Kafka's codes: the rest is treated alike"
)]
pub fn disposition(error: ResponseError) -> Disposition {
    use ResponseError as E;
    match error {
        E::CoordinatorLoadInProgress
        | E::RequestTimedOut
        | E::NetworkException
        | E::UnstableOffsetCommit
        | E::UnknownTopicOrPartition
        | E::UnknownTopicId
        | E::LeaderNotAvailable
        | E::NotLeaderOrFollower
        | E::NotEnoughReplicas
        | E::NotEnoughReplicasAfterAppend
        | E::ThrottlingQuotaExceeded
        | E::ReplicaNotAvailable
        | E::KafkaStorageError
        | E::StaleMemberEpoch => Disposition::Retry,
        E::NotCoordinator | E::CoordinatorNotAvailable => Disposition::FindCoordinator,
        E::RebalanceInProgress => Disposition::Rejoin,
        E::UnknownMemberId | E::IllegalGeneration | E::FencedMemberEpoch => Disposition::Fenced,
        E::MemberIdRequired => Disposition::MemberIdAssigned,
        E::FencedInstanceId
        | E::UnreleasedInstanceId
        | E::InconsistentGroupProtocol
        | E::InvalidGroupId
        | E::InvalidSessionTimeout
        | E::GroupAuthorizationFailed
        | E::TopicAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::SaslAuthenticationFailed
        | E::UnsupportedSaslMechanism
        | E::IllegalSaslState
        | E::GroupMaxSizeReached
        | E::UnsupportedVersion
        | E::UnsupportedAssignor
        | E::InvalidRequest
        | E::InvalidCommitOffsetSize
        | E::OffsetMetadataTooLarge
        | E::PolicyViolation
        | E::SecurityDisabled => Disposition::Fatal,
        _ => Disposition::RetryBounded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_disposition_and_unknown_ones_are_bounded() {
        for code in -1..200 {
            if let Some(error) = ResponseError::try_from_code(code) {
                disposition(error);
            }
        }
        assert_eq!(disposition(ResponseError::Unknown(-1)), Disposition::RetryBounded);
        assert_eq!(disposition(ResponseError::Unknown(999)), Disposition::RetryBounded);
    }
}
