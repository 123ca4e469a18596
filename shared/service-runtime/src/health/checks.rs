//! Health: named checks that the service sets and `/readyz` shows, and whether it should be killed, for `/healthz`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The checks of a service; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<Checks>>,
    stuck: Arc<OnceLock<String>>,
}

type Checks = BTreeMap<&'static str, State>;

/// The state of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The service can work; a note may explain its state.
    Ready { note: Option<String> },
    /// The service cannot work.
    NotReady { reason: String },
}

impl Health {
    /// Returns the check of this name. It is not ready until [`Check::ready`].
    pub fn check(&self, name: &'static str) -> Check {
        let check = Check { name, checks: Arc::clone(&self.checks) };
        check.not_ready("starting");
        check
    }

    /// Returns every check with the reason why it is not ready; the service is ready when there are checks and
    /// none has a reason.
    pub fn report(&self) -> BTreeMap<&'static str, Option<String>> {
        let reason = |state: &State| match state {
            State::Ready { .. } => None,
            State::NotReady { reason } => Some(reason.clone()),
        };
        self.checks().iter().map(|(name, state)| (*name, reason(state))).collect()
    }

    /// Returns what there is to know of checks that are ready, by their names.
    pub fn notes(&self) -> BTreeMap<&'static str, String> {
        let note = |state: &State| match state {
            State::Ready { note } => note.clone(),
            State::NotReady { .. } => None,
        };
        let checks = self.checks();
        checks.iter().filter_map(|(name, state)| Some((*name, note(state)?))).collect()
    }

    fn checks(&self) -> MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares that the process cannot recover and should be killed, and why. It cannot be taken back.
    pub fn stuck(&self, reason: impl Into<String>) {
        // The first reason is the cause.
        self.stuck.get_or_init(|| reason.into());
    }

    /// Returns why the process should be killed, if it should.
    pub fn why_stuck(&self) -> Option<&str> {
        self.stuck.get().map(String::as_str)
    }
}

/// One check; the last call on any clone of it counts.
#[derive(Debug, Clone)]
pub struct Check {
    name: &'static str,
    checks: Arc<Mutex<Checks>>,
}

impl Check {
    /// Sets the check to ready.
    pub fn ready(&self) {
        self.set(State::Ready { note: None });
    }

    /// Sets the check to ready, with a note such as `paused by kim`.
    pub fn ready_with(&self, note: impl Into<String>) {
        self.set(State::Ready { note: Some(note.into()) });
    }

    /// Sets the check to not ready, with a reason such as `joining the group`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(State::NotReady { reason: reason.into() });
    }

    fn set(&self, state: State) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.insert(self.name, state);
    }
}
