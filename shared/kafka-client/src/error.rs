//! What can go wrong between this crate and a cluster.

use std::sync::Arc;

use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;

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
    /// One partition does not have what was asked for; others may.
    #[error("partition {partition} is not available")]
    Partition {
        /// The partition.
        partition: TopicPartition,
        /// Why not.
        source: PartitionError,
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
            Self::Refused { error, .. } => may_heal(*error),
            Self::Partition { source, .. } => match source {
                PartitionError::NoLeader | PartitionError::Unreachable { .. } => true,
                PartitionError::Refused(error) => may_heal(*error),
            },
            Self::Incompatible(_) => false,
        }
    }

    /// Returns whether a broker may have got a request of this API, or may get it yet, although it gave no answer.
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

    /// Names the code that the broker answered while asked to do `what`.
    pub(crate) fn refused(what: impl Into<String>, error: ResponseError) -> Self {
        Self::Refused { what: what.into(), error }
    }
}

/// Why nothing is known of one partition of several that were asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PartitionError {
    /// None of its replicas leads it at the moment.
    #[error("no leader")]
    NoLeader,
    /// Its leader does not answer.
    #[error("no answer from its leader, broker {leader}")]
    Unreachable {
        /// The leader's node id.
        leader: NodeId,
        /// What the connection says.
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
