//! Errors of the API.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::dlq::query::InvalidRequest;
use crate::replay::Busy;

/// Why a request failed: the status and a sentence.
#[derive(Debug)]
pub(super) struct Problem(pub(super) StatusCode, pub(super) String);

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ProblemBody {
    /// A sentence for people.
    error: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(status, error) = self;
        (status, Json(ProblemBody { error })).into_response()
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        let status = if error.is::<InvalidRequest>() {
            StatusCode::BAD_REQUEST
        } else if error.is::<Busy>() {
            StatusCode::CONFLICT
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Self(status, format!("{error:#}"))
    }
}

macro_rules! from_rejections {
    ($($rejection:ty),*) => {
        $(impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                Self(rejection.status(), rejection.body_text())
            }
        })*
    };
}

from_rejections!(JsonRejection, QueryRejection, PathRejection);
