//! Sessions: a browser gets one for a token.
//!
//! ```text
//!  sign in ──► open ──┬─ SESSION_IDLE_MAX without a use, SESSION_TIME_MAX ──► gone
//!                     ├─ sign out ────────────────────────────────────────► gone
//!                     └─ more than SESSIONS_MAX: the one unused for longest ► gone
//! ```
//!
//! A session is a random number in a cookie. The server keeps its hash in memory, so a restart ends all sessions.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dead_letter::hex;
use rand::TryRng as _;
use rand::rngs::{SysError, SysRng};
use tokio::time::Instant;

use super::tokens::{Hash, Token, hash};

/// How long a session lives without being used.
const SESSION_IDLE_MAX: Duration = Duration::from_hours(1);
/// How long a session lives at most.
pub(crate) const SESSION_TIME_MAX: Duration = Duration::from_hours(12);
/// The most sessions at once.
const SESSIONS_MAX: usize = 1_024;

/// The hash of a session's cookie.
pub(crate) type SessionKey = Hash;

#[derive(Debug)]
struct Session {
    token: Token,
    began: Instant,
    used: Instant,
}

/// The sessions that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<BTreeMap<SessionKey, Session>>,
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        let (age, idle) = (now.duration_since(self.began), now.duration_since(self.used));
        age < SESSION_TIME_MAX && idle < SESSION_IDLE_MAX
    }
}

impl Sessions {
    /// Opens a session and returns the value of its cookie.
    pub(crate) fn open(&self, token: Token, now: Instant) -> Result<String, SysError> {
        let mut secret = [0; 32];
        SysRng.try_fill_bytes(&mut secret)?;
        let secret = hex(&secret);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| session.is_alive(now));
        if open.len() >= SESSIONS_MAX {
            let unused = open.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
            unused.and_then(|key| open.remove(&key));
        }
        open.insert(hash(&secret), Session { token, began: now, used: now });
        Ok(secret)
    }

    /// Uses a session, and returns the token that it was opened with while it is alive.
    pub(crate) fn take(&self, key: &SessionKey, now: Instant) -> Option<Token> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.get_mut(key).filter(|session| session.is_alive(now))?;
        session.used = now;
        Some(session.token)
    }

    /// Ends a session, and returns whether there was one.
    pub(crate) fn end(&self, key: &SessionKey) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_not_used_and_at_last_in_any_case() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let open = || hash(&sessions.open(Token::Full, start).unwrap());
        let (idle, used) = (open(), open());
        let almost = SESSION_IDLE_MAX.mul_f64(0.99);
        assert_eq!(sessions.take(&idle, start + almost), Some(Token::Full));
        assert_eq!(sessions.take(&idle, start + almost + SESSION_IDLE_MAX), None);

        let mut now = start;
        while now.duration_since(start) < SESSION_TIME_MAX {
            assert_eq!(sessions.take(&used, now), Some(Token::Full));
            now += almost;
        }
        assert_eq!(sessions.take(&used, now), None);
    }

    #[test]
    fn a_session_that_was_ended_is_gone_and_no_other() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let secrets = [Token::Full, Token::Read].map(|token| sessions.open(token, now).unwrap());
        let [full, read] = secrets.map(|secret| hash(&secret));
        assert!(sessions.end(&full));
        assert!(!sessions.end(&full));
        assert_eq!(
            (sessions.take(&full, now), sessions.take(&read, now)),
            (None, Some(Token::Read))
        );
    }

    #[test]
    fn there_are_no_more_than_the_most_and_the_one_unused_for_longest_makes_room() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let open = |at: u32| sessions.open(Token::Read, start + Duration::from_millis(at.into()));
        let keys: Vec<SessionKey> =
            (0..).take(SESSIONS_MAX).map(|at| hash(&open(at).unwrap())).collect();
        let later = start + Duration::from_secs(10);
        assert!(sessions.take(&keys[0], later).is_some());
        let last = hash(&open(20_000).unwrap());
        assert_eq!(sessions.open.lock().unwrap().len(), SESSIONS_MAX);
        assert!(sessions.take(&keys[1], later).is_none());
        assert!(sessions.take(&keys[0], later).is_some() && sessions.take(&last, later).is_some());
    }
}
