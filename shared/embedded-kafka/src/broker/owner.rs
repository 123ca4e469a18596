//! The owner of the broker's state, and the waits for its changes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::state::State;

/// Owns the state and gives one caller at a time access to it.
#[derive(Debug)]
pub(crate) struct Owner {
    state: Mutex<State>,
    started: Instant,
    log_changes: watch::Sender<u64>,
    next_deadline: watch::Sender<Option<Duration>>,
}

impl Owner {
    /// Owns a state; the broker's time begins with this call.
    pub(crate) fn new(state: State) -> Self {
        Self {
            log_changes: watch::Sender::new(state.log_changes()),
            next_deadline: watch::Sender::new(state.groups.next_deadline()),
            state: Mutex::new(state),
            started: Instant::now(),
        }
    }

    /// Runs `act` on the state at the current time, then wakes the fetches and the timers that wait for its changes.
    pub(crate) fn with_state<T>(&self, act: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changes_before = state.log_changes();
        let result = act(&mut state, self.started.elapsed());
        let changes = state.log_changes();
        let deadline = state.groups.next_deadline();
        drop(state);
        if changes != changes_before {
            self.log_changes.send_replace(changes);
        }
        self.next_deadline.send_if_modified(|current| {
            let is_new = *current != deadline;
            *current = deadline;
            is_new
        });
        result
    }

    /// Returns a receiver that changes whenever a waiting fetch should read again.
    pub(crate) fn log_changes(&self) -> watch::Receiver<u64> {
        self.log_changes.subscribe()
    }

    /// Runs the groups' timers.
    ///
    /// # Cancel safety
    /// Cancel safe: every change of the state is complete at an await.
    pub(crate) async fn run_timers(&self) {
        let mut deadlines = self.next_deadline.subscribe();
        loop {
            let deadline = *deadlines.borrow_and_update();
            let due = async {
                match deadline {
                    Some(at) => sleep_until(self.started + at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.with_state(|state, now| state.groups.expire(now)),
                changed = deadlines.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
