//! Why the broker does not do what a request asks for.

use kafka_protocol::error::ResponseError;

/// A Kafka error code with the sentence that goes into `error_message` where the response has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// The error code sent to the client.
    pub(crate) error: ResponseError,
    /// The sentence for people.
    pub(crate) message: String,
}

impl Refusal {
    /// Creates a refusal of a code and a sentence.
    pub(crate) fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

/// Returns the wire code of an outcome: 0 for success.
pub(crate) fn code_of(error: Option<ResponseError>) -> i16 {
    error.map_or(0, |error| error.code())
}
