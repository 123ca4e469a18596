//! Who may see and change what.
//!
//! | | no token is set | one is set |
//! |---|---|---|
//! | the page's files, `/api/session` | everybody | everybody |
//! | the rest of the API | everybody | who has a token, as a bearer or by a session |
//! | what changes something | everybody | who has `DASHBOARD_TOKEN` |
//!
//! `DASHBOARD_READ_ONLY` forbids all that changes something. Without any of the three the address is one of this machine.
//! A request is refused, in this order, for its host, for the page that a browser sends it for, for its token, for what the
//! token allows, and for its body.
//!
//! Reading order: `tokens`, `sessions`, `throttle`, `origin`, and this file, which puts them together.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, REFERRER_POLICY, RETRY_AFTER,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_server::{Connection, Hosts, read_body};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use service_runtime::LineLimit;
use tokio::time::Instant;

use self::origin::{Origin, Proxies, is_of_this_page, text};
use self::sessions::{SESSION_TIME_MAX, Sessions};
use self::throttle::{FORGOTTEN_AFTER, Throttle};
use self::tokens::{Rights, Token, Tokens, hash};
use super::App;
use super::api::Problem;
use crate::settings::DashboardSettings;

pub(super) use self::sessions::SessionKey;

mod origin;
mod sessions;
mod throttle;
mod tokens;

/// What all actions through a dashboard are done by.
const DASHBOARD: &str = "dashboard";
/// The largest body of a request: some thousand places of dead letters.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// The largest body of a request that needs no token.
const SIGN_IN_BYTES_MAX: usize = 4 * 1024;
/// Lines about wrong tokens in a second.
const WRONG_LINES_MAX: usize = 5;
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

/// Who is let in.
pub(super) struct Access {
    read_only: bool,
    tokens: Tokens,
    sessions: Sessions,
    throttle: Throttle,
    wrong_lines: LineLimit,
    proxies: Proxies,
    hosts: Hosts,
    /// Another one for each process: cookies do not tell the ports and paths of a host apart.
    cookie_name: String,
}

/// Who a request comes from, and what that one may do.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) origin: Origin,
    /// The session that the request belongs to.
    pub(super) session: Option<SessionKey>,
    token: Option<Token>,
    rights: Option<Rights>,
}

impl Visitor {
    /// Returns whether the visitor may change something.
    pub(super) fn may_change(&self) -> bool {
        self.rights == Some(Rights::Change)
    }

    /// Returns by whom something is done, for those who read it.
    pub(super) fn name(&self) -> String {
        let name = self.origin.user.as_deref().or(self.token.map(Token::name));
        name.map_or_else(|| DASHBOARD.to_owned(), |name| format!("{name}@{DASHBOARD}"))
    }
}

impl Access {
    /// Lets in whom the settings say.
    ///
    /// # Errors
    /// When the system gives no random number.
    pub(super) fn of(settings: &DashboardSettings) -> anyhow::Result<Self> {
        Ok(Self {
            read_only: settings.read_only,
            tokens: Tokens::of(settings),
            sessions: Sessions::default(),
            throttle: Throttle::default(),
            wrong_lines: LineLimit::new("wrong tokens", WRONG_LINES_MAX),
            proxies: Proxies::of(settings),
            hosts: Hosts::new(settings.hosts.iter().cloned()),
            cookie_name: format!("dashboard_session_{:016x}", SysRng.try_next_u64()?),
        })
    }

    /// Returns whether a visitor's session, where there is one, has not ended; this uses it.
    pub(super) fn is_alive(&self, visitor: &Visitor) -> bool {
        let now = Instant::now();
        visitor.session.is_none_or(|key| self.sessions.take(&key, now).is_some())
    }

    /// Returns who sends a request, or why it is refused.
    fn admit(
        &self,
        head: &Parts,
        connection: Connection,
        now: Instant,
    ) -> Result<Visitor, Problem> {
        let Parts { method, uri, headers, .. } = head;
        self.hosts.check(uri, headers, connection.local.ip()).map_err(|error| {
            let words = format!("{error}; DASHBOARD_HOSTS names those to add");
            Problem(StatusCode::FORBIDDEN, words)
        })?;
        let is_api = is_api(uri.path());
        if is_api && !is_of_this_page(headers) {
            let words = "the API is for the dashboard's own page, and not for other sites";
            return Err(Problem(StatusCode::FORBIDDEN, words.to_owned()));
        }
        let visitor = self.identify(self.proxies.origin(connection, headers), headers, now)?;
        let is_open = !is_api || is_session(uri.path());
        if !is_open && visitor.rights.is_none() {
            let words = "a token is needed".to_owned();
            return Err(Problem(StatusCode::UNAUTHORIZED, words));
        }
        let is_change = !matches!(*method, Method::GET | Method::HEAD);
        if !is_open && is_change && !visitor.may_change() {
            let words = if self.read_only {
                "this dashboard only shows: DASHBOARD_READ_ONLY is set"
            } else {
                "this token only sees: DASHBOARD_TOKEN is needed to change something"
            };
            return Err(Problem(StatusCode::FORBIDDEN, words.to_owned()));
        }
        Ok(visitor)
    }

    fn identify(
        &self,
        origin: Origin,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<Visitor, Problem> {
        let mut visitor = Visitor { origin, session: None, token: None, rights: None };
        let rights_max = if self.read_only { Rights::See } else { Rights::Change };
        if !self.tokens.are_set() {
            visitor.rights = Some(rights_max);
            return Ok(visitor);
        }
        let bearer = text(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        if let Some(bearer) = bearer {
            visitor.token = self.check(bearer, &visitor.origin, now)?;
        } else if let Some((key, token)) = self.session(headers, now) {
            (visitor.session, visitor.token) = (Some(key), Some(token));
        }
        visitor.rights = visitor.token.map(|token| token.rights().min(rights_max));
        Ok(visitor)
    }

    /// Returns which token `text` is, unless its sender has guessed too often.
    fn check(&self, text: &str, origin: &Origin, now: Instant) -> Result<Option<Token>, Problem> {
        let Origin { peer, client, .. } = *origin;
        if !self.throttle.admits(client, now) {
            let words = "too many wrong tokens: try again later".to_owned();
            return Err(Problem(StatusCode::TOO_MANY_REQUESTS, words));
        }
        let token = self.tokens.find(text);
        if token.is_none() {
            self.throttle.note_wrong(client, now);
            if self.wrong_lines.admit(1) > 0 {
                tracing::warn!(%peer, %client, "refused a wrong token");
            }
        }
        Ok(token)
    }

    /// Returns the session that a request's cookies belong to.
    fn session(&self, headers: &HeaderMap, now: Instant) -> Option<(SessionKey, Token)> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = cookies.flat_map(|value| value.split(';')).map(str::trim);
        cookies.find_map(|cookie| {
            let (name, value) = cookie.split_once('=')?;
            let key = (name == self.cookie_name).then(|| hash(value))?;
            self.sessions.take(&key, now).map(|token| (key, token))
        })
    }

    /// Returns a cookie for the paths below that of `/api/session`, wherever a proxy has put it.
    fn cookie(&self, value: &str, seconds: u64, origin: &Origin) -> String {
        let secure = if origin.is_encrypted { "; Secure" } else { "" };
        let name = &self.cookie_name;
        format!("{name}={value}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
    }
}

/// Answers requests that are let in, and refuses the others.
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

fn is_api(path: &str) -> bool {
    path.starts_with("/api/")
}

fn is_session(path: &str) -> bool {
    path == "/api/session"
}

/// The body of `GET /api/session`.
#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "answers to different questions")]
pub(super) struct Session {
    token_required: bool,
    authorized: bool,
    signed_in: bool,
    read_only: bool,
    version: &'static str,
}

/// Tells a visitor what is needed, and what is possible.
pub(super) async fn session(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
) -> Json<Session> {
    Json(Session {
        token_required: app.access.tokens.are_set(),
        authorized: visitor.rights.is_some(),
        signed_in: visitor.session.is_some(),
        read_only: !visitor.may_change(),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The body of `POST /api/session`.
#[derive(Deserialize)]
pub(super) struct SignIn {
    token: String,
}

/// Opens a session for a token.
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

/// Ends the session that the request belongs to.
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

#[cfg(test)]
mod tests;
