//! Why records were not acknowledged.

use kafka_core::TopicPartition;
use kafka_core::producer::{BrokerError, Delivery, Written};
use kafka_protocol::ResponseError;

use super::{Appended, Produced};

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
    /// Nothing was written before the deadline: no leader was reached, or none accepted the records.
    #[error("nothing was written to {target}: {cause}")]
    NotSent {
        /// Where the records should have gone.
        target: TopicPartition,
        /// The last failure, as text.
        cause: String,
    },
    /// The records may or may not have been written before the deadline.
    #[error("no acknowledgement from {target}: {cause}")]
    Unknown {
        /// Where the records should have gone.
        target: TopicPartition,
        /// The last failure, as text.
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

/// Returns the outcome of a batch for its caller. `cause` is the partition's last failure.
pub(super) fn produced(
    target: &TopicPartition,
    delivery: Delivery,
    cause: Option<&str>,
) -> Produced {
    let target = target.clone();
    let cause = |last_error: Option<BrokerError>| match (last_error, cause) {
        (_, Some(cause)) => cause.to_owned(),
        (Some(error), None) => format!("{:?}", error.error),
        (None, None) => "no answer before the deadline".to_owned(),
    };
    match delivery {
        Delivery::Delivered { base_offset, .. } => Ok(Appended { base_offset }),
        Delivery::Refused(BrokerError { error, message }) => {
            Err(ProduceError::Refused { target, error, message: message.unwrap_or_default() })
        }
        Delivery::Expired { written: Written::No, last_error } => {
            Err(ProduceError::NotSent { target, cause: cause(last_error) })
        }
        Delivery::Expired { written: Written::Unknown, last_error }
        | Delivery::InDoubt { last_error } => {
            Err(ProduceError::Unknown { target, cause: cause(last_error) })
        }
    }
}
