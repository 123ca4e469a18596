//! The rights of each request.
//!
//! | | no token is set | one is set |
//! |---|---|---|
//! | the page's files, `/api/session` | every client | every client |
//! | the rest of the API | every client | clients with a token, as a bearer or by a session |
//! | changes | every client | clients with `DASHBOARD_TOKEN` |
//!
//! `DASHBOARD_READ_ONLY` forbids changes. Without any of the three settings the address is one of this machine. A request
//! is refused, in this order, for its host, for the page that a browser sends it for, for its token, for the rights of the
//! token, and for its body.
//!
//! Reading order: `tokens`, `sessions`, `throttle`, `origin`, and this file, which puts them together.

use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use http_server::{Connection, Hosts};
use rand::TryRng as _;
use rand::rngs::SysRng;
use service_runtime::LineLimit;
use tokio::time::Instant;

use self::origin::{Origin, Proxies, is_of_this_page, text};
use self::sessions::Sessions;
use self::throttle::Throttle;
use self::tokens::{Token, Tokens, hash};
use super::problem::Problem;
use crate::settings::DashboardSettings;

pub(super) use self::sessions::{SESSION_TIME_MAX, SessionKey};
pub(super) use self::throttle::FORGOTTEN_AFTER;

mod origin;
mod sessions;
mod throttle;
mod tokens;

/// The author of changes by a client without a name.
const DASHBOARD: &str = "dashboard";
/// Lines about wrong tokens in a second.
const WRONG_LINES_MAX: usize = 5;
/// The tokens, sessions and rules by which requests are admitted.
pub(super) struct Access {
    read_only: bool,
    pub(super) tokens: Tokens,
    pub(super) sessions: Sessions,
    throttle: Throttle,
    wrong_lines: LineLimit,
    proxies: Proxies,
    hosts: Hosts,
    /// Unique for each process: cookies do not distinguish the ports and paths of a host.
    cookie_name: String,
}

/// The sender of a request, and its rights.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) origin: Origin,
    /// The session that the request belongs to.
    pub(super) session: Option<SessionKey>,
    pub(super) token: Option<Token>,
    pub(super) may_read: bool,
    pub(super) may_change: bool,
}

impl Visitor {
    /// Returns the visitor's name, for the record of what was done.
    pub(super) fn name(&self) -> String {
        let name = self.origin.user.as_deref().or(self.token.map(Token::name));
        name.map_or_else(|| DASHBOARD.to_owned(), |name| format!("{name}@{DASHBOARD}"))
    }
}

impl Access {
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

    /// Returns whether a visitor's session, if there is one, has not ended. This counts as a use of the session.
    pub(super) fn is_alive(&self, visitor: &Visitor) -> bool {
        let now = Instant::now();
        visitor.session.is_none_or(|key| self.sessions.take(&key, now).is_some())
    }

    /// Returns the sender of a request, or why it is refused.
    pub(super) fn admit(
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
        if !is_open && !visitor.may_read {
            let words = "a token is needed".to_owned();
            return Err(Problem(StatusCode::UNAUTHORIZED, words));
        }
        let is_change = !matches!(*method, Method::GET | Method::HEAD);
        if !is_open && is_change && !visitor.may_change {
            let words = if self.read_only {
                "this dashboard is read-only: DASHBOARD_READ_ONLY is set"
            } else {
                "this token may only read: DASHBOARD_TOKEN is needed to change something"
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
        let may_change = !self.read_only;
        let (session, token) = (None, None);
        let mut visitor = Visitor { origin, session, token, may_read: true, may_change };
        if !self.tokens.are_set() {
            return Ok(visitor);
        }
        let bearer = text(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        if let Some(bearer) = bearer {
            visitor.token = self.check(bearer, &visitor.origin, now)?;
        } else if let Some((key, token)) = self.session(headers, now) {
            (visitor.session, visitor.token) = (Some(key), Some(token));
        }
        visitor.may_read = visitor.token.is_some();
        visitor.may_change = may_change && visitor.token == Some(Token::Full);
        Ok(visitor)
    }

    /// Returns the token that `text` is, unless its sender has guessed too often.
    pub(super) fn check(
        &self,
        text: &str,
        origin: &Origin,
        now: Instant,
    ) -> Result<Option<Token>, Problem> {
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
    pub(super) fn cookie(&self, value: &str, seconds: u64, origin: &Origin) -> String {
        let secure = if origin.is_encrypted { "; Secure" } else { "" };
        let name = &self.cookie_name;
        format!("{name}={value}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
    }
}

pub(super) fn is_api(path: &str) -> bool {
    path.starts_with("/api/")
}

pub(super) fn is_session(path: &str) -> bool {
    path == "/api/session"
}

#[cfg(test)]
mod tests;
