//! The table of what a producer does about each error code of a Produce response.
//!
//! What counts is whether the batch may be in the log. The leader checks some things before it appends. Other errors it
//! also answers after the append, when it waits for the followers and loses its leadership, its log directory or its
//! time. Error codes: <https://kafka.apache.org/protocol#protocol_error_codes>.

use kafka_protocol::ResponseError;

/// What an error code of a Produce response says about the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Not written, and never will be: the leader refuses the batch as it is.
    Refused,
    /// Not written, and never will be while the producer lacks the permission.
    NotAuthorised,
    /// Not written. Send the same batch again after a backoff.
    NotWritten,
    /// It may be written. Send the same batch with the same sequence number again after a backoff.
    InDoubt,
    /// It may be written, and another broker may lead the partition. Refresh the metadata, then send the same batch with
    /// the same sequence number again.
    LeaderInDoubt,
    /// Written by an earlier attempt.
    Duplicate,
    /// Not written by this attempt: the sequence number does not follow the last one that the leader has.
    OutOfOrder,
    /// Not written by this attempt: the leader has no state of this producer.
    UnknownProducer,
    /// Not written by this attempt: the leader knows a newer epoch of this producer id, or the id no longer.
    Fenced,
}

impl ErrorClass {
    /// Returns the class of `error`. A code that is not known to be answered before the append is in doubt.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign enum of all of Kafka's codes: the rest may be answered after the append"
    )]
    pub fn of(error: ResponseError) -> Self {
        use ResponseError as E;
        match error {
            E::MessageTooLarge
            | E::RecordListTooLarge
            | E::InvalidRecord
            | E::InvalidTimestamp
            | E::InvalidTopicException
            | E::InvalidRequiredAcks
            | E::UnsupportedForMessageFormat
            | E::UnsupportedCompressionType
            | E::UnsupportedVersion
            | E::PolicyViolation
            | E::InvalidRequest
            | E::InvalidTxnState
            | E::SecurityDisabled => Self::Refused,
            E::TopicAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::TransactionalIdAuthorizationFailed
            | E::SaslAuthenticationFailed => Self::NotAuthorised,
            E::NotEnoughReplicas | E::CorruptMessage | E::ThrottlingQuotaExceeded => {
                Self::NotWritten
            }
            E::NotLeaderOrFollower
            | E::LeaderNotAvailable
            | E::ReplicaNotAvailable
            | E::UnknownTopicOrPartition
            | E::UnknownTopicId
            | E::InconsistentTopicId
            | E::FencedLeaderEpoch
            | E::UnknownLeaderEpoch
            | E::KafkaStorageError => Self::LeaderInDoubt,
            E::DuplicateSequenceNumber => Self::Duplicate,
            E::OutOfOrderSequenceNumber => Self::OutOfOrder,
            E::UnknownProducerId => Self::UnknownProducer,
            E::InvalidProducerEpoch | E::ProducerFenced | E::InvalidProducerIdMapping => {
                Self::Fenced
            }
            // Among them REQUEST_TIMED_OUT and NOT_ENOUGH_REPLICAS_AFTER_APPEND.
            _ => Self::InDoubt,
        }
    }

    /// Returns whether the batch may be in the log because of the attempt that was answered so.
    pub fn may_be_written(self) -> bool {
        match self {
            Self::InDoubt | Self::LeaderInDoubt | Self::Duplicate => true,
            Self::Refused
            | Self::NotAuthorised
            | Self::NotWritten
            | Self::OutOfOrder
            | Self::UnknownProducer
            | Self::Fenced => false,
        }
    }

    /// Returns whether `error`, which is of this class, is a refusal that may pass: the topic's configuration or the producer's
    /// permission may change, but a batch that is too large has to be made smaller.
    pub(super) fn may_pass(self, error: ResponseError) -> bool {
        use ResponseError::{MessageTooLarge, RecordListTooLarge};
        let is_too_large = matches!(error, MessageTooLarge | RecordListTooLarge);
        matches!(self, Self::Refused | Self::NotAuthorised) && !is_too_large
    }

    /// Returns whether to look for the partition's leader before the next attempt.
    pub fn needs_metadata(self) -> bool {
        self == Self::LeaderInDoubt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_also_follow_an_append_are_in_doubt() {
        use ResponseError as E;
        for error in [E::RequestTimedOut, E::NotEnoughReplicasAfterAppend, E::UnknownServerError] {
            assert_eq!(ErrorClass::of(error), ErrorClass::InDoubt, "{error}");
        }
        for error in [E::NotLeaderOrFollower, E::UnknownTopicOrPartition, E::KafkaStorageError] {
            assert_eq!(ErrorClass::of(error), ErrorClass::LeaderInDoubt, "{error}");
        }
        for code in [i16::MIN, -2, 999, i16::MAX] {
            assert_eq!(ErrorClass::of(E::Unknown(code)), ErrorClass::InDoubt, "{code}");
        }
    }

    #[test]
    fn only_codes_of_checks_before_the_append_say_that_nothing_was_written() {
        let certain: Vec<i16> = (-1..200)
            .filter(|code| {
                let error = ResponseError::try_from_code(*code);
                error.is_some_and(|error| !ErrorClass::of(error).may_be_written())
            })
            .collect();
        let listed = [
            2, 10, 17, 18, 19, 21, 29, 31, 32, 35, 42, 43, 44, 45, 47, 48, 49, 53, 54, 58, 59, 76,
            87, 89, 90,
        ];
        assert_eq!(certain, listed);
    }
}
