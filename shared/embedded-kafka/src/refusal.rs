//! Error codes with their messages.

use kafka_protocol::error::ResponseError;

/// A Kafka error code and its `error_message`, for responses that have one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) error: ResponseError,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

/// Returns the error code of a result: 0 for success.
pub(crate) fn code_of(error: Option<ResponseError>) -> i16 {
    error.map_or(0, |error| error.code())
}
