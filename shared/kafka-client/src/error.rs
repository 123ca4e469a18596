//! Errors of calls to a cluster.

use std::sync::Arc;

use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;

use crate::connection::ConnectionError;

/// The error of a call to a cluster; the variants differ in what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No broker could be reached, or the connection broke: call again later.
    #[error("no broker could be reached")]
    Unreachable(#[source] ConnectionError),
    /// The broker answered with an error code; see [`ClientError::is_retriable`].
    #[error("the broker refused to {what}: {error:?}")]
    Refused {
        /// The requested operation, as a verb with its object.
        what: String,
        /// Kafka's error code.
        error: ResponseError,
    },
    /// The request failed for one partition; it may have succeeded for others.
    #[error("partition {partition} is not available")]
    Partition {
        /// The partition.
        partition: TopicPartition,
        /// The error of the partition.
        source: PartitionError,
    },
    /// Broker and client have no API version in common; no retry helps.
    #[error("the broker cannot be used")]
    Incompatible(#[source] ConnectionError),
}

impl ClientError {
    /// Returns whether the same call may succeed later without a change of its arguments or rights.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { error, .. } => may_heal(*error),
            Self::Partition { source, .. } => match source {
                PartitionError::NoLeader | PartitionError::Unreachable { .. } => true,
                PartitionError::Refused(error) => may_heal(*error),
            },
            Self::Incompatible(_) => false,
        }
    }

    /// Returns whether a broker may have received a request of this API, or may still receive it, without an answer.
    pub fn may_have_acted(&self, api: ApiKey) -> bool {
        match self {
            Self::Unreachable(
                ConnectionError::Broken { api: used, .. }
                | ConnectionError::Deadline { api: used, .. }
                | ConnectionError::Malformed { api: used, .. },
            ) => *used == api,
            Self::Unreachable(
                ConnectionError::Connect { .. } | ConnectionError::Unsupported { .. },
            )
            | Self::Partition { .. }
            | Self::Refused { .. }
            | Self::Incompatible(_) => false,
        }
    }

    /// Returns the error of an operation that the broker answered with a code.
    pub(crate) fn refused(what: impl Into<String>, error: ResponseError) -> Self {
        Self::Refused { what: what.into(), error }
    }
}

/// The error of one partition of a request.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PartitionError {
    /// The partition has no leader at the moment.
    #[error("no leader")]
    NoLeader,
    /// Its leader does not answer.
    #[error("no answer from its leader, broker {leader}")]
    Unreachable {
        /// The leader's node id.
        leader: NodeId,
        /// The error of the connection.
        source: Arc<ConnectionError>,
    },
    /// The broker answered with an error code for it.
    #[error("the broker answers {0:?}")]
    Refused(ResponseError),
}

fn may_heal(error: ResponseError) -> bool {
    error.is_retriable()
        || matches!(error, ResponseError::UnknownServerError | ResponseError::Unknown(_))
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
