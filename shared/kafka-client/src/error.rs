//! What can go wrong between this crate and a cluster.

use kafka_protocol::ResponseError;

use crate::connection::ConnectionError;

/// Why a cluster did not do what it was asked, by what the caller does about it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No broker could be reached, or the one that was reached broke off: try again later.
    #[error("no broker could be reached")]
    Unreachable(#[source] ConnectionError),
    /// The broker answered with an error code; [`ClientError::is_retriable`] tells whether time may heal it.
    #[error("the broker refused to {what}: {error:?}")]
    Refused {
        /// What was asked for, as a verb with its object.
        what: String,
        /// Kafka's error code.
        error: ResponseError,
    },
    /// Broker and client cannot work together; no retry helps.
    #[error("the broker cannot be used")]
    Incompatible(#[source] ConnectionError),
}

impl ClientError {
    /// Returns whether the same call may succeed later without anybody changing anything.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { error, .. } => {
                error.is_retriable()
                    || matches!(
                        error,
                        ResponseError::UnknownServerError | ResponseError::Unknown(_)
                    )
            }
            Self::Incompatible(_) => false,
        }
    }

    /// Names the code that the broker answered while asked to do `what`.
    pub(crate) fn refused(what: impl Into<String>, error: ResponseError) -> Self {
        Self::Refused { what: what.into(), error }
    }
}

impl From<ConnectionError> for ClientError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Unsupported { .. } => Self::Incompatible(error),
            ConnectionError::Connect { .. }
            | ConnectionError::Broken { .. }
            | ConnectionError::Deadline { .. }
            | ConnectionError::Malformed { .. } => Self::Unreachable(error),
        }
    }
}

/// Writes an error and its causes on one line, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
