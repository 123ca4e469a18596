//! Bodies of requests, read within bounds.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use http_body_util::LengthLimitError;
use tokio::time::timeout;

/// How long the body of a request may take.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// Why the body of a request was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than are read.
    #[error("the request's body is too long: {0} bytes are read")]
    TooLong(usize),
    /// It did not end in [`BODY_TIME`].
    #[error("the request's body did not come within {} s", BODY_TIME.as_secs())]
    TooSlow,
    /// The connection broke, or the body is not encoded as its head says.
    #[error("the request's body is broken")]
    Broken,
}

impl BodyError {
    /// Returns the HTTP status of this error.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads the body of a request, of at most `bytes_max` bytes, within [`BODY_TIME`].
///
/// # Errors
/// [`BodyError`]. The rest of the body is not read, and the connection is closed after the answer.
///
/// # Cancel safety
/// What was read so far is lost.
pub async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, BodyError> {
    let read = timeout(BODY_TIME, to_bytes(body, bytes_max)).await;
    read.map_err(|_elapsed| BodyError::TooSlow)?.map_err(|error| {
        let is_too_long = error.source().is_some_and(<dyn Error>::is::<LengthLimitError>);
        if is_too_long { BodyError::TooLong(bytes_max) } else { BodyError::Broken }
    })
}
