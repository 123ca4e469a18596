//! Readiness: named checks that the service sets and `/readyz` shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The checks of a service; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<Checks>>,
}

/// Why a check is not ready, by its name; `None` is ready.
type Checks = BTreeMap<&'static str, Option<String>>;

impl Health {
    /// Returns the check of this name, which is not ready until it is told so.
    pub fn check(&self, name: &'static str) -> Check {
        let check = Check { name, checks: Arc::clone(&self.checks) };
        check.not_ready("starting");
        check
    }

    /// Returns every check with the reason why it is not ready; the service is ready when there are checks and
    /// none has a reason.
    pub fn report(&self) -> BTreeMap<&'static str, Option<String>> {
        let checks = self.checks.lock();
        checks.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One check; the last call on any clone of it counts.
#[derive(Debug, Clone)]
pub struct Check {
    name: &'static str,
    checks: Arc<Mutex<Checks>>,
}

impl Check {
    /// Says that nothing is amiss.
    pub fn ready(&self) {
        self.set(None);
    }

    /// Says why the service cannot do its work, such as `joining the group`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, state: Option<String>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.insert(self.name, state);
    }
}
