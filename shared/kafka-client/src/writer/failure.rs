//! What rskafka's errors mean for the records.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "foreign enums that may grow: what is not named is an unknown outcome"
)]

use kafka_core::TopicPartition;
use kafka_protocol::ResponseError;
use rskafka::client::error::{Error, ProtocolError, RequestError};
use rskafka::{BackoffError, ConnectionError};

/// Why records were not acknowledged, by what the caller does about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The broker wrote none of the records and will not accept them: too large, invalid, not authorised.
    #[error("the broker refused records for {target}: {error:?}{}", explained(.message))]
    Refused {
        /// Where the records should have gone.
        target: TopicPartition,
        /// Kafka's error.
        error: ResponseError,
        /// The broker's error message; empty if it has none.
        message: String,
    },
    /// No broker to send the records to was reached: nothing was written; try again.
    #[error("no broker for {target}: {cause}")]
    NotSent {
        /// Where the records should have gone.
        target: TopicPartition,
        /// The error, as text.
        cause: String,
    },
    /// The records may or may not have been written: send the identical ones again.
    #[error("no acknowledgement from {target}: {cause}")]
    Unknown {
        /// Where the records should have gone.
        target: TopicPartition,
        /// The error, as text.
        cause: String,
    },
}

impl ProduceError {
    /// Returns a word for what the caller does about it, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::NotSent { .. } => "not_sent",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// Returns whether the broker may accept fewer or smaller records.
    pub fn is_too_large(&self) -> bool {
        use ResponseError::{MessageTooLarge, RecordListTooLarge};
        matches!(self, Self::Refused { error: MessageTooLarge | RecordListTooLarge, .. })
    }
}

fn explained(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

/// What went wrong in one attempt.
#[derive(Debug)]
pub(super) enum Failure {
    /// The broker answered that these records are not acceptable.
    Refused(ResponseError),
    /// The broker answered; its connection and its place as the leader are not in doubt.
    Postponed(String),
    /// Connection, leader or answer are in doubt.
    Doubtful(String),
}

impl Failure {
    pub(super) fn doubtful(cause: impl Into<String>) -> Self {
        Self::Doubtful(cause.into())
    }

    /// Returns whether the next attempt needs new connections.
    pub(super) fn is_session_doubtful(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Postponed(_) => false,
            Self::Doubtful(_) => true,
        }
    }

    /// Returns what it means before the records were handed to rskafka.
    pub(super) fn before_sending(self, target: &TopicPartition) -> ProduceError {
        let target = target.clone();
        match self {
            Self::Refused(error) => ProduceError::Refused { target, error, message: String::new() },
            Self::Postponed(cause) | Self::Doubtful(cause) => {
                ProduceError::NotSent { target, cause }
            }
        }
    }

    /// Returns what it means once the records were handed to rskafka.
    pub(super) fn after_sending(self, target: &TopicPartition) -> ProduceError {
        let target = target.clone();
        match self {
            Self::Refused(error) => ProduceError::Refused { target, error, message: String::new() },
            Self::Postponed(cause) | Self::Doubtful(cause) => {
                ProduceError::Unknown { target, cause }
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::ServerError { protocol_error, .. } => classify(protocol_error),
            Error::RetryFailed(BackoffError::DeadlineExceded { source, .. }) => {
                match source.downcast::<Error>() {
                    Ok(error) => Self::from(*error),
                    Err(other) => Self::Doubtful(other.to_string()),
                }
            }
            Error::Connection(error) => Self::Doubtful(connection_cause(&error)),
            Error::Request(error) => Self::Doubtful(request_cause(&error)),
            other => Self::Doubtful(other.to_string()),
        }
    }
}

/// Returns what a broker's answer to a produce request, or to the metadata request before it, means.
fn classify(error: ProtocolError) -> Failure {
    use ProtocolError as E;
    match error {
        E::MessageTooLarge => Failure::Refused(ResponseError::MessageTooLarge),
        E::RecordListTooLarge => Failure::Refused(ResponseError::RecordListTooLarge),
        E::InvalidRecord => Failure::Refused(ResponseError::InvalidRecord),
        E::InvalidTimestamp => Failure::Refused(ResponseError::InvalidTimestamp),
        E::InvalidTopicException => Failure::Refused(ResponseError::InvalidTopicException),
        E::TopicAuthorizationFailed => Failure::Refused(ResponseError::TopicAuthorizationFailed),
        E::ClusterAuthorizationFailed => {
            Failure::Refused(ResponseError::ClusterAuthorizationFailed)
        }
        E::PolicyViolation => Failure::Refused(ResponseError::PolicyViolation),
        E::UnsupportedForMessageFormat => {
            Failure::Refused(ResponseError::UnsupportedForMessageFormat)
        }
        E::UnsupportedCompressionType => {
            Failure::Refused(ResponseError::UnsupportedCompressionType)
        }
        E::NotEnoughReplicas
        | E::NotEnoughReplicasAfterAppend
        | E::RequestTimedOut
        | E::ThrottlingQuotaExceeded => Failure::Postponed(format!("{error:?}")),
        other => Failure::Doubtful(format!("{other:?}")),
    }
}

/// Returns what is behind a connection error, without the wrappings.
fn connection_cause(error: &ConnectionError) -> String {
    match error {
        ConnectionError::Metadata(error) => request_cause(error),
        ConnectionError::Transport { broker, error } => format!("{broker}: {error}"),
        ConnectionError::RetryFailed(BackoffError::DeadlineExceded { source, .. }) => {
            source.to_string()
        }
        other => other.to_string(),
    }
}

fn request_cause(error: &RequestError) -> String {
    match error {
        RequestError::Poisoned(inner) => request_cause(inner),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rskafka::client::error::RequestContext;

    use super::*;

    #[test]
    fn what_cannot_be_accepted_is_refused_with_kafkas_error() {
        for (answer, error) in [
            (ProtocolError::MessageTooLarge, ResponseError::MessageTooLarge),
            (ProtocolError::RecordListTooLarge, ResponseError::RecordListTooLarge),
            (ProtocolError::InvalidRecord, ResponseError::InvalidRecord),
            (ProtocolError::InvalidTimestamp, ResponseError::InvalidTimestamp),
            (ProtocolError::TopicAuthorizationFailed, ResponseError::TopicAuthorizationFailed),
            (ProtocolError::PolicyViolation, ResponseError::PolicyViolation),
        ] {
            let message = String::new();
            let expected = ProduceError::Refused { target: target(), error, message };
            assert_eq!(Failure::from(answered(answer)).after_sending(&target()), expected);
            assert_eq!(Failure::from(answered(answer)).before_sending(&target()), expected);
        }
    }

    #[test]
    fn an_answer_that_may_pass_is_unknown_and_keeps_the_connection() {
        for answer in
            [ProtocolError::NotEnoughReplicas, ProtocolError::NotEnoughReplicasAfterAppend]
        {
            let failure = Failure::from(answered(answer));

            assert!(!failure.is_session_doubtful(), "{failure:?}");
            let error = failure.after_sending(&target());
            assert!(matches!(error, ProduceError::Unknown { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_moved_leader_and_unknown_errors_need_new_connections() {
        for answer in [
            ProtocolError::NotLeaderOrFollower,
            ProtocolError::LeaderNotAvailable,
            ProtocolError::UnknownTopicOrPartition,
            ProtocolError::KafkaStorageError,
            ProtocolError::CorruptMessage,
            ProtocolError::Unknown(-7),
        ] {
            let failure = Failure::from(answered(answer));

            assert!(failure.is_session_doubtful(), "{failure:?}");
            let error = failure.after_sending(&target());
            assert!(matches!(error, ProduceError::Unknown { .. }), "{error:?}");
        }
    }

    #[test]
    fn only_a_code_that_precedes_the_append_says_that_nothing_was_written() {
        let refused = [10, 18, 17, 29, 31, 32, 43, 44, 76, 87];
        for code in (-1..140).filter(|code| *code != 0) {
            let Some(error) = ProtocolError::new(code) else { continue };
            let outcome = Failure::from(answered(error)).after_sending(&target());
            match outcome {
                ProduceError::Refused { .. } => assert!(refused.contains(&code), "{error:?}"),
                ProduceError::Unknown { .. } => assert!(!refused.contains(&code), "{error:?}"),
                ProduceError::NotSent { .. } => panic!("{error:?} can follow the append"),
            }
        }
    }

    #[test]
    fn the_error_behind_exhausted_retries_decides() {
        let retried = Error::RetryFailed(BackoffError::DeadlineExceded {
            deadline: std::time::Duration::ZERO,
            source: Box::new(answered(ProtocolError::NotLeaderOrFollower)),
        });

        let error = Failure::from(retried).after_sending(&target());

        assert_eq!(error.to_string(), "no acknowledgement from orders-0: NotLeaderOrFollower");
    }

    #[test]
    fn only_sizes_are_too_large() {
        let is_too_large =
            |answer| Failure::from(answered(answer)).after_sending(&target()).is_too_large();

        assert!(is_too_large(ProtocolError::MessageTooLarge));
        assert!(is_too_large(ProtocolError::RecordListTooLarge));
        assert!(!is_too_large(ProtocolError::InvalidRecord));
        assert!(!is_too_large(ProtocolError::NotEnoughReplicas));
    }

    fn answered(protocol_error: ProtocolError) -> Error {
        Error::ServerError {
            protocol_error,
            error_message: None,
            request: RequestContext::Partition("orders".to_owned(), 0),
            response: None,
            is_virtual: false,
        }
    }

    fn target() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }
}
