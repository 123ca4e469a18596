//! The refusals of the API, as its description has them.

use utoipa::IntoResponses;

use super::problem::ProblemBody;

/// Refusals that every request may get.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(super) enum Refusals {
    /// The token is missing or wrong.
    #[response(status = UNAUTHORIZED)]
    Unauthorized(ProblemBody),
    /// Kafka does not answer.
    #[response(status = SERVICE_UNAVAILABLE)]
    Unavailable(ProblemBody),
}

/// Refusals of requests with parameters or a body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(super) enum InvalidRefusals {
    /// The request is not understood.
    #[response(status = BAD_REQUEST)]
    Invalid(ProblemBody),
}

/// Refusals of requests that change something.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
pub(super) enum ChangeRefusals {
    /// The dashboard is read-only, the token only sees, the host is not one of its own, or the request comes from another
    /// origin.
    #[response(status = FORBIDDEN)]
    Forbidden(ProblemBody),
    /// The body is not application/json.
    #[response(status = UNSUPPORTED_MEDIA_TYPE)]
    NotJson(ProblemBody),
}
