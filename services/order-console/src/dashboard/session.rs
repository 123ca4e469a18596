//! The middleware that admits requests, and the sessions of browsers.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_server::{Connection, read_body};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::App;
use super::access::{FORGOTTEN_AFTER, SESSION_TIME_MAX, Visitor, is_api, is_session};
use super::problem::{Problem, ProblemBody};
use super::responses::{ChangeRefusals, InvalidRefusals};

/// The largest body of a request: some thousand places of dead letters.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// The largest body of a request that needs no token.
const SIGN_IN_BYTES_MAX: usize = 4 * 1024;
/// No script, style or picture but the page's own, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Headers of all answers: nothing of them is read, framed or opened by another site.
const PROTECTION: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Answers requests that are admitted, and refuses the others.
pub(super) async fn guard(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    let (mut head, body) = request.into_parts();
    let is_api = is_api(head.uri.path());
    let bytes_max = if is_session(head.uri.path()) { SIGN_IN_BYTES_MAX } else { BODY_BYTES_MAX };
    let admitted = app.access.admit(&head, connection, Instant::now());
    let mut response = match admitted {
        Ok(visitor) => match read_body(body, bytes_max).await {
            Ok(bytes) => {
                head.extensions.insert(visitor);
                next.run(Request::from_parts(head, Body::from(bytes))).await
            }
            Err(error) => Problem(error.status(), error.to_string()).into_response(),
        },
        Err(problem) => problem.into_response(),
    };
    let is_throttled = response.status() == StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    for (name, value) in PROTECTION {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_api {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if is_throttled {
        headers.insert(RETRY_AFTER, HeaderValue::from(FORGOTTEN_AFTER.as_secs()));
    }
    response
}

/// The requirements of the dashboard, and the rights of this visitor.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "answers to different questions")]
pub(super) struct Session {
    /// Whether a token is needed.
    token_required: bool,
    /// Whether this request carried it, or none is needed.
    authorized: bool,
    /// Whether it belongs to a session.
    signed_in: bool,
    /// Whether this visitor can change nothing.
    read_only: bool,
    version: &'static str,
}

/// The requirements of the dashboard, and the rights of this visitor; always answered.
#[utoipa::path(
    get,
    path = "/api/session",
    security(()),
    responses((status = OK, body = Session))
)]
pub(super) async fn session(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
) -> Json<Session> {
    Json(Session {
        token_required: app.access.tokens.are_set(),
        authorized: visitor.may_read,
        signed_in: visitor.session.is_some(),
        read_only: !visitor.may_change,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// A token.
#[derive(Deserialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct SignIn {
    token: String,
}

/// Hands in a token for a cookie: a session, which ends an hour after its last use, or after 12 hours.
#[utoipa::path(
    post,
    path = "/api/session",
    security(()),
    request_body = SignIn,
    responses(
        (
            status = NO_CONTENT,
            description = "The token is right.",
            headers(("Set-Cookie" = String, description = "The session."))
        ),
        (status = UNAUTHORIZED, description = "The token is wrong.", body = ProblemBody),
        (status = PAYLOAD_TOO_LARGE, description = "The body is too long.", body = ProblemBody),
        (
            status = TOO_MANY_REQUESTS,
            description = "This client has sent too many wrong tokens.",
            body = ProblemBody,
            headers(("Retry-After" = u64, description = "Seconds."))
        ),
        InvalidRefusals,
        ChangeRefusals,
    )
)]
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    sign_in: Result<Json<SignIn>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(SignIn { token }) = sign_in?;
    let access = &app.access;
    if !access.tokens.are_set() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let now = Instant::now();
    let Some(token) = access.check(&token, &visitor.origin, now)? else {
        return Err(Problem(StatusCode::UNAUTHORIZED, "this is no token".to_owned()));
    };
    if let Some(earlier) = visitor.session {
        access.sessions.end(&earlier);
    }
    let secret = access.sessions.open(token, now).map_err(anyhow::Error::new)?;
    let visitor = Visitor { token: Some(token), ..visitor };
    tracing::info!(by = visitor.name(), peer = %visitor.origin.peer, "signed in");
    let cookie = access.cookie(&secret, SESSION_TIME_MAX.as_secs(), &visitor.origin);
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
}

/// Ends the session.
#[utoipa::path(
    delete,
    path = "/api/session",
    security(()),
    responses(
        (
            status = NO_CONTENT,
            description = "The session has ended.",
            headers(("Set-Cookie" = String, description = "Deletes the cookie."))
        ),
        ChangeRefusals,
    )
)]
pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
) -> Response {
    if visitor.session.is_some_and(|session| app.access.sessions.end(&session)) {
        tracing::info!(by = visitor.name(), peer = %visitor.origin.peer, "signed out");
    }
    let cookie = app.access.cookie("", 0, &visitor.origin);
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}
