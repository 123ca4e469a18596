//! Notices work that exceeds its deadline and blocks its runtime, which no timer of that runtime can.
//!
//! A call that waits is dropped at its deadline. A call that never returns to its runtime blocks its thread, and with it the
//! worker or all tasks. So the watchdog is a thread without a runtime. It checks two things:
//!
//! - *calls* that were pending at least once, and produce requests: each is entered with its limit;
//! - *heartbeats*: a worker beats before and after the first poll of every attempt, because attempts that end at once are too
//!   many to be entered one by one. An odd count that stays the same is a poll that has not returned.
//!
//! Time in which the whole process stood still does not count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use service_runtime::Health;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::flow::pause_reasons::PauseReasons;

/// Work is stuck when it runs for so many times its own deadline.
const DEADLINES: u32 = 3;
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The calls and heartbeats that the watchdog checks.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    calls: BTreeMap<u64, (&'static str, Duration)>,
    heartbeats: BTreeMap<u64, (Weak<Heartbeat>, Duration)>,
}

/// A call that is checked until this is dropped.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    watchdog: &'a Watchdog,
    number: u64,
}

/// Counts the beginnings and ends of a worker's first polls.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    count: AtomicU64,
}

/// The thread's view of the watchdog.
#[derive(Debug, Default)]
struct Inspector {
    /// For how long it has checked.
    clock: Duration,
    /// What each call or heartbeat counted, and since when.
    seen: BTreeMap<u64, (u64, Duration)>,
}

impl Watchdog {
    /// Enters a call that has to end within `deadline` by itself.
    pub(crate) fn begin(&self, what: &'static str, deadline: Duration) -> Call<'_> {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.calls.insert(number, (what, deadline * DEADLINES));
        Call { watchdog: self, number }
    }

    /// Enters a worker, each of whose attempts has to end within `deadline` by itself.
    pub(crate) fn heartbeat(&self, deadline: Duration) -> Arc<Heartbeat> {
        let heartbeat = Arc::new(Heartbeat::default());
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.heartbeats.retain(|_, (heartbeat, _)| heartbeat.strong_count() > 0);
        state.heartbeats.insert(number, (Arc::downgrade(&heartbeat), deadline * DEADLINES));
        heartbeat
    }

    /// Starts the thread, which runs while `watchdog` is used. Stuck work pauses the process, ends its health, and is sent to
    /// the receiver. If the process still runs after `grace`, the thread ends it with exit code 1.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(
        watchdog: &Arc<Self>,
        health: Health,
        pause_reasons: PauseReasons,
        grace: Duration,
    ) -> std::io::Result<mpsc::Receiver<String>> {
        let (stuck_tx, stuck) = mpsc::channel(1);
        let watchdog = Arc::downgrade(watchdog);
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || check_forever(&watchdog, &stuck_tx, &health, &pause_reasons, grace))?;
        Ok(stuck)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heartbeat {
    /// Notes that a poll begins, or that it has ended.
    #[inline]
    pub(crate) fn beat(&self) {
        // Only one worker counts, so nothing is lost between load and store.
        self.count.store(self.count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

impl Inspector {
    /// Returns what is stuck, if anything is; `passed` is the time since the last look.
    fn look(&mut self, watchdog: &Watchdog, passed: Duration) -> Option<String> {
        // More than that, and this thread stood still too.
        self.clock += passed.min(LOOK_INTERVAL * 2);
        let state = watchdog.state();
        self.seen.retain(|number, _| {
            state.calls.contains_key(number) || state.heartbeats.contains_key(number)
        });
        for (number, (what, limit)) in &state.calls {
            if self.unchanged(*number, 0) >= *limit {
                return Some(format!("{what} has not ended for {DEADLINES} times its deadline"));
            }
        }
        for (number, (heartbeat, limit)) in &state.heartbeats {
            let Some(heartbeat) = heartbeat.upgrade() else { continue };
            let count = heartbeat.count.load(Ordering::Relaxed);
            if self.unchanged(*number, count) >= *limit && count % 2 == 1 {
                return Some(format!(
                    "the handler has blocked its thread for {DEADLINES} times HANDLER_TIMEOUT_MS"
                ));
            }
        }
        None
    }

    /// Returns for how long the count of a call or an heartbeat has been the same.
    fn unchanged(&mut self, number: u64, count: u64) -> Duration {
        let clock = self.clock;
        let (seen, since) = self.seen.entry(number).or_insert((count, clock));
        if *seen != count {
            (*seen, *since) = (count, clock);
        }
        clock.saturating_sub(*since)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.watchdog.state().calls.remove(&self.number);
    }
}

fn check_forever(
    watchdog: &Weak<Watchdog>,
    stuck: &mpsc::Sender<String>,
    health: &Health,
    pause_reasons: &PauseReasons,
    grace: Duration,
) {
    let mut inspector = Inspector::default();
    let mut looked = Instant::now();
    let what = loop {
        std::thread::sleep(LOOK_INTERVAL);
        let Some(watchdog) = watchdog.upgrade() else { return };
        let passed = std::mem::replace(&mut looked, Instant::now()).elapsed();
        if let Some(what) = inspector.look(&watchdog, passed) {
            break what;
        }
    };
    tracing::error!(what, "stuck: leaving the group and ending");
    health.stuck(what.clone());
    let _pause = pause_reasons.begin(format!("stuck: {what}"));
    if stuck.try_send(what).is_err() {
        tracing::debug!("the service is ending already");
    }
    std::thread::sleep(grace);
    if watchdog.strong_count() > 0 {
        tracing::error!("still stuck: ending without leaving the group");
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Looks as often as the thread does, until something is stuck or the time has passed.
    fn watch_for(inspector: &mut Inspector, watchdog: &Watchdog, time: Duration) -> Option<String> {
        let until = inspector.clock + time;
        while inspector.clock < until {
            if let Some(stuck) = inspector.look(watchdog, LOOK_INTERVAL) {
                return Some(stuck);
            }
        }
        None
    }

    #[test]
    fn a_call_is_stuck_at_three_times_its_deadline_unless_it_has_ended() {
        let (watchdog, mut inspector) = (Watchdog::default(), Inspector::default());
        let call = watchdog.begin("a produce request", DEADLINE);
        assert_eq!(watch_for(&mut inspector, &watchdog, DEADLINE * 3), None);
        let stuck = watch_for(&mut inspector, &watchdog, DEADLINE).unwrap();
        assert!(stuck.starts_with("a produce request"), "{stuck}");
        drop(call);
        assert_eq!(watch_for(&mut inspector, &watchdog, DEADLINE * 10), None);
    }

    #[test]
    fn a_poll_that_does_not_return_is_stuck_and_many_that_do_are_not() {
        let (watchdog, mut inspector) = (Watchdog::default(), Inspector::default());
        let heartbeat = watchdog.heartbeat(DEADLINE);
        // Every check sees a poll in flight, each time another one.
        for _ in 0..1_000 {
            heartbeat.beat();
            assert_eq!(inspector.look(&watchdog, LOOK_INTERVAL), None);
            heartbeat.beat();
        }
        assert_eq!(
            watch_for(&mut inspector, &watchdog, DEADLINE * 10),
            None,
            "it has nothing to do"
        );
        heartbeat.beat();
        assert_eq!(watch_for(&mut inspector, &watchdog, DEADLINE * 3), None);
        assert!(watch_for(&mut inspector, &watchdog, DEADLINE).is_some());
        drop(heartbeat);
        assert_eq!(watch_for(&mut inspector, &watchdog, DEADLINE * 10), None);
    }

    #[test]
    fn time_in_which_the_process_stood_still_does_not_count() {
        let (watchdog, mut inspector) = (Watchdog::default(), Inspector::default());
        let _call = watchdog.begin("a produce request", DEADLINE);
        assert_eq!(inspector.look(&watchdog, LOOK_INTERVAL), None);
        assert_eq!(inspector.look(&watchdog, DEADLINE * 100), None);
    }
}
