//! The reasons why this process pauses work; `/readyz` lists them until they end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use service_runtime::Check;

/// The reasons of the present pauses. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct PauseReasons {
    check: Check,
    lasting: Arc<Mutex<Lasting>>,
}

#[derive(Debug, Default)]
struct Lasting {
    next: u64,
    reasons: BTreeMap<u64, String>,
}

/// A reason to pause, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Pause {
    pause_reasons: PauseReasons,
    number: u64,
}

impl PauseReasons {
    /// Returns an empty list, which `check` shows.
    pub(crate) fn new(check: Check) -> Self {
        check.ready();
        Self { check, lasting: Arc::default() }
    }

    pub(crate) fn begin(&self, reason: impl Into<String>) -> Pause {
        let number = self.change(|lasting| {
            lasting.next += 1;
            lasting.reasons.insert(lasting.next, reason.into());
            lasting.next
        });
        Pause { pause_reasons: self.clone(), number }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Lasting) -> T) -> T {
        let mut lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        let output = change(&mut lasting);
        let reasons: Vec<&str> = lasting.reasons.values().map(String::as_str).collect();
        if reasons.is_empty() {
            self.check.ready();
        } else {
            self.check.not_ready(reasons.join("; "));
        }
        output
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.pause_reasons.change(|lasting| lasting.reasons.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use service_runtime::Health;

    use super::*;

    #[test]
    fn the_check_names_every_pause_until_it_ends() {
        let health = Health::default();
        let pause_reasons = PauseReasons::new(health.check("work"));
        let reason = || health.report()["work"].clone();
        assert_eq!(reason(), None);
        let first = pause_reasons.begin("the webhook is down");
        let second = pause_reasons.begin("orders 0: waits for the registry");
        assert_eq!(reason().unwrap(), "the webhook is down; orders 0: waits for the registry");
        drop(first);
        assert_eq!(reason().unwrap(), "orders 0: waits for the registry");
        drop(second);
        assert_eq!(reason(), None);
    }
}
