//! Who may see and change what.
//!
//! | | no token | `DASHBOARD_TOKEN` |
//! |---|---|---|
//! | the page's files, `/api/session` | everybody | everybody |
//! | the rest of the API | everybody | who has the token, as a bearer or in the session's cookie |
//! | what changes something | as above, from the page itself | as above, from the page itself |
//!
//! `DASHBOARD_READ_ONLY` forbids all that changes something. Without either, the address is one of this machine. Where
//! it is and there is no token, only requests that name it so are answered: a page of somebody else's may have its own
//! name lead here.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::App;
use super::api::Problem;
use crate::settings::DashboardSettings;
use crate::settings::dashboard::is_loopback;
use dead_letter::hex;

const COOKIE_NAME: &str = "dashboard_session";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// No script, style or picture but the page's own, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Who is let in.
pub(super) struct Access {
    pub(super) read_only: bool,
    secrets: Option<Secrets>,
    /// Only requests that name this machine as itself are answered.
    is_private: bool,
}

/// What a visitor has to show, hashed: hashes have one length, and tell nothing of how much of a guess is right.
struct Secrets {
    token: [u8; 32],
    /// The cookie that is given for the token, and the same hashed. It outlives restarts.
    cookie: String,
    cookie_hash: [u8; 32],
}

impl Access {
    pub(super) fn of(settings: &DashboardSettings) -> Self {
        let secrets = settings.token.as_ref().map(|token| {
            let cookie = hex(&hash(&format!("{COOKIE_NAME} {}", token.reveal())));
            let cookie_hash = hash(&cookie);
            Secrets { token: hash(token.reveal()), cookie, cookie_hash }
        });
        let is_local = settings.address.as_deref().is_none_or(is_loopback);
        let is_private = secrets.is_none() && is_local;
        Self { read_only: settings.read_only, secrets, is_private }
    }

    /// Returns whether a request has shown what it has to.
    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let Some(secrets) = &self.secrets else { return true };
        let bearer = text(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let is_bearer = bearer.is_some_and(|token| is_same(&hash(token), &secrets.token));
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = cookies.flat_map(|value| value.split(';')).map(str::trim);
        let is_session = cookies.any(|cookie| {
            let value = cookie.strip_prefix(COOKIE_NAME).and_then(|rest| rest.strip_prefix('='));
            value.is_some_and(|value| is_same(&hash(value), &secrets.cookie_hash))
        });
        is_bearer || is_session
    }

    /// Returns why a request is refused, if it is.
    fn refusal(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Problem> {
        let host = text(headers, &HOST).unwrap_or_default();
        if self.is_private && !is_loopback(&with_port(host)) {
            let words = format!("this dashboard is not known as {host}");
            return Some(Problem(StatusCode::MISDIRECTED_REQUEST, words));
        }
        let is_session = path == "/api/session";
        let is_change = !matches!(*method, Method::GET | Method::HEAD);
        if is_change && !is_of_this_page(headers, host) {
            let words = "only the dashboard's own page may change something".to_owned();
            return Some(Problem(StatusCode::FORBIDDEN, words));
        }
        if path.starts_with("/api/") && !is_session && !self.is_authorized(headers) {
            let words = "the token is needed".to_owned();
            return Some(Problem(StatusCode::UNAUTHORIZED, words));
        }
        if is_change && !is_session && self.read_only {
            let words = "this dashboard only shows: DASHBOARD_READ_ONLY is set".to_owned();
            return Some(Problem(StatusCode::FORBIDDEN, words));
        }
        None
    }
}

/// Answers requests that are let in, and refuses the others.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let refusal = app.access.refusal(request.method(), request.uri().path(), request.headers());
    let mut response = match refusal {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if is_api {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Returns whether a browser says that the request comes from a page of the same origin; other programs say nothing.
fn is_of_this_page(headers: &HeaderMap, host: &str) -> bool {
    // Proxies pass this on as it is, and rewrite Host. Browsers leave it out where there is no TLS.
    if let Some(site) = text(headers, &SEC_FETCH_SITE) {
        return matches!(site, "same-origin" | "none");
    }
    let is_same_origin = |origin: &str| {
        let authority = origin.split_once("://").map(|(_scheme, authority)| authority);
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    text(headers, &ORIGIN).is_none_or(is_same_origin)
}

/// The body of `GET /api/session`.
#[derive(Serialize)]
pub(super) struct Session {
    token_required: bool,
    authorized: bool,
    read_only: bool,
    version: &'static str,
}

/// Tells a visitor what is needed, and what is possible.
pub(super) async fn session(State(app): State<Arc<App>>, headers: HeaderMap) -> Json<Session> {
    Json(Session {
        token_required: app.access.secrets.is_some(),
        authorized: app.access.is_authorized(&headers),
        read_only: app.access.read_only,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The body of `POST /api/session`.
#[derive(Deserialize)]
pub(super) struct SignIn {
    token: String,
}

/// Gives whoever knows the token a cookie.
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    sign_in: Result<Json<SignIn>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(SignIn { token }) = sign_in?;
    let Some(secrets) = &app.access.secrets else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    if !is_same(&hash(&token), &secrets.token) {
        tracing::warn!("somebody has tried to sign in with a wrong token");
        return Err(Problem(StatusCode::UNAUTHORIZED, "this is not the token".to_owned()));
    }
    let cookie = format!("{COOKIE_NAME}={}; HttpOnly; SameSite=Strict; Path=/", secrets.cookie);
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns a Host header as `host:port`.
fn with_port(host: &str) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:80") }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Compares in a time that does not depend on where the difference is.
fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use service_runtime::settings::{Environment, load};

    use super::*;
    use crate::settings::ProcessorSettings;

    const TOKEN: &str = "correct horse battery";

    fn access(variables: &[(&str, &str)]) -> Access {
        let environment: Environment =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Access::of(&load::<ProcessorSettings>(&environment).unwrap().dashboard)
    }

    fn status(access: &Access, method: &Method, path: &str, headers: &[(&str, &str)]) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        access.refusal(method, path, &headers).map_or(200, |Problem(status, _)| status.as_u16())
    }

    #[test]
    fn without_a_token_only_this_machine_is_answered_by_its_own_name() {
        let access = access(&[]);
        for (host, expected) in [
            ("127.0.0.1:8000", 200),
            ("localhost:8000", 200),
            ("localhost", 200),
            ("[::1]:8000", 200),
            ("evil.example", 421),
            ("evil.example:8000", 421),
            ("127.0.0.1.evil.example:8000", 421),
            ("", 421),
        ] {
            assert_eq!(
                status(&access, &Method::GET, "/api/stats", &[("host", host)]),
                expected,
                "{host}"
            );
        }
    }

    #[test]
    fn what_everybody_may_see_is_still_not_shown_by_other_names_on_this_machine() {
        let local = access(&[("DASHBOARD_READ_ONLY", "true")]);
        let public = access(&[("DASHBOARD_READ_ONLY", "true"), ("DASHBOARD_ADDR", "0.0.0.0:8000")]);
        let headers = [("host", "evil.example:8000")];
        assert_eq!(status(&local, &Method::GET, "/api/dlq", &headers), 421);
        assert_eq!(status(&public, &Method::GET, "/api/dlq", &headers), 200);
    }

    #[test]
    fn with_a_token_the_api_wants_it_and_the_page_does_not() {
        let access = access(&[("DASHBOARD_TOKEN", TOKEN), ("DASHBOARD_ADDR", "0.0.0.0:8000")]);
        let get = |path, headers: &[(&str, &str)]| status(&access, &Method::GET, path, headers);
        assert_eq!((get("/", &[]), get("/api/session", &[])), (200, 200));
        assert_eq!((get("/api/stats", &[]), get("/api/events", &[])), (401, 401));
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(get("/api/stats", &[("authorization", &bearer)]), 200);
        assert_eq!(get("/api/stats", &[("authorization", &bearer[..bearer.len() - 1])]), 401);
        assert_eq!(get("/api/stats", &[("authorization", TOKEN)]), 401);
        let cookie = &access.secrets.as_ref().unwrap().cookie;
        let session = format!("other=1; {COOKIE_NAME}={cookie}");
        assert_eq!(get("/api/stats", &[("cookie", &session)]), 200);
        assert_eq!(get("/api/stats", &[("cookie", &format!("{COOKIE_NAME}={TOKEN}"))]), 401);
        assert_eq!(get("/api/stats", &[("cookie", COOKIE_NAME)]), 401);
    }

    #[test]
    fn only_its_own_page_changes_something() {
        let access = access(&[]);
        let post = |headers: &[(&str, &str)]| {
            let all = [&[("host", "localhost:8000")], headers].concat();
            status(&access, &Method::POST, "/api/control", &all)
        };
        assert_eq!(post(&[]), 200, "a program that is no browser");
        let own = ("origin", "http://localhost:8000");
        assert_eq!(post(&[own, ("sec-fetch-site", "same-origin")]), 200);
        assert_eq!(post(&[("origin", "http://localhost:9000")]), 403);
        assert_eq!(post(&[("origin", "http://evil.example")]), 403);
        assert_eq!(post(&[("origin", "null")]), 403);
        assert_eq!(post(&[own, ("sec-fetch-site", "same-site")]), 403);
        let proxied = ("origin", "https://orders.example");
        assert_eq!(post(&[proxied, ("sec-fetch-site", "same-origin")]), 200);
        assert_eq!(post(&[("sec-fetch-site", "cross-site")]), 403);
    }

    #[test]
    fn read_only_shows_and_changes_nothing() {
        let access = access(&[("DASHBOARD_READ_ONLY", "true"), ("DASHBOARD_ADDR", "0.0.0.0:8000")]);
        assert_eq!(status(&access, &Method::GET, "/api/stats", &[("host", "any")]), 200);
        for path in ["/api/control", "/api/dlq/replay", "/api/dlq/dismiss"] {
            assert_eq!(status(&access, &Method::POST, path, &[("host", "any")]), 403, "{path}");
        }
    }

    #[test]
    fn beyond_this_machine_it_is_guarded_or_not_there_and_tokens_are_not_printed() {
        let violations = |variables: &[(&str, &str)]| {
            let environment: Environment =
                variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            load::<ProcessorSettings>(&environment).err().map(|error| error.to_string())
        };
        let open = violations(&[("DASHBOARD_ADDR", "0.0.0.0:8000")]).unwrap();
        assert!(open.contains("DASHBOARD_TOKEN or DASHBOARD_READ_ONLY"), "{open}");
        let short = violations(&[("DASHBOARD_TOKEN", "hunter2")]).unwrap();
        assert!(short.contains("at least 16") && !short.contains("hunter2"), "{short}");
        assert_eq!(violations(&[("DASHBOARD_TOKEN", TOKEN)]), None);
    }
}
