//! Notices work that runs on and on although its time is over, which no timer of the work's own runtime can.
//!
//! A call that waits is dropped at its deadline. What is left is a call that never returns to its runtime: it blocks its
//! thread, and with it the worker, or every task there is. So the watch is kept by a thread that needs no runtime. It
//! looks at two things:
//!
//! - *calls* that have been waited for at least once, and produce requests: each is entered with its limit;
//! - *activities*: a worker counts up before and after the first poll of every attempt, for attempts that end at once
//!   are too many to be entered one by one. An odd count that stays the same is a poll that has not returned.
//!
//! Time in which the whole process stood still does not count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use service_runtime::Health;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::flow::pause_reasons::Pauses;

/// Work is stuck when it runs for so many times its own deadline.
const DEADLINES: u32 = 3;
/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What is being watched.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    calls: BTreeMap<u64, (&'static str, Duration)>,
    activities: BTreeMap<u64, (Weak<Activity>, Duration)>,
}

/// A call that is being watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    watch: &'a Watch,
    number: u64,
}

/// Counts the beginnings and ends of a worker's first polls.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    count: AtomicU64,
}

/// Looks at a watch again and again.
#[derive(Debug, Default)]
struct Watcher {
    /// How long it has been looking.
    clock: Duration,
    /// What each call or activity counted, and since when.
    seen: BTreeMap<u64, (u64, Duration)>,
}

impl Watch {
    /// Enters a call that has to end within `deadline` by itself.
    pub(crate) fn begin(&self, what: &'static str, deadline: Duration) -> Call<'_> {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.calls.insert(number, (what, deadline * DEADLINES));
        Call { watch: self, number }
    }

    /// Enters a worker, each of whose attempts has to end within `deadline` by itself.
    pub(crate) fn activity(&self, deadline: Duration) -> Arc<Activity> {
        let activity = Arc::new(Activity::default());
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.activities.retain(|_, (activity, _)| activity.strong_count() > 0);
        state.activities.insert(number, (Arc::downgrade(&activity), deadline * DEADLINES));
        activity
    }

    /// Starts the thread that keeps watch for as long as `watch` is used. What is stuck is a pause that lasts, is the end of
    /// the process's health, and is told
    /// to the receiver; if the process is still there after `grace`, the thread ends it with exit code 1.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn keep(
        watch: &Arc<Self>,
        health: Health,
        pauses: Pauses,
        grace: Duration,
    ) -> std::io::Result<mpsc::Receiver<String>> {
        let (stuck_tx, stuck) = mpsc::channel(1);
        let watch = Arc::downgrade(watch);
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || look_again_and_again(&watch, &stuck_tx, &health, &pauses, grace))?;
        Ok(stuck)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Activity {
    /// Notes that a poll begins, or that it has ended.
    #[inline]
    pub(crate) fn turn(&self) {
        // Only one worker counts, so nothing is lost between load and store.
        self.count.store(self.count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

impl Watcher {
    /// Returns what is stuck, if anything is; `passed` is the time since the last look.
    fn look(&mut self, watch: &Watch, passed: Duration) -> Option<String> {
        // More than that, and this thread stood still too.
        self.clock += passed.min(LOOK_INTERVAL * 2);
        let state = watch.state();
        self.seen.retain(|number, _| {
            state.calls.contains_key(number) || state.activities.contains_key(number)
        });
        for (number, (what, limit)) in &state.calls {
            if self.unchanged(*number, 0) >= *limit {
                return Some(format!("{what} has not ended for {DEADLINES} times its deadline"));
            }
        }
        for (number, (activity, limit)) in &state.activities {
            let Some(activity) = activity.upgrade() else { continue };
            let count = activity.count.load(Ordering::Relaxed);
            if self.unchanged(*number, count) >= *limit && count % 2 == 1 {
                return Some(format!(
                    "the handler has blocked its thread for {DEADLINES} times HANDLER_TIMEOUT_MS"
                ));
            }
        }
        None
    }

    /// Returns for how long the count of a call or an activity has been the same.
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
        self.watch.state().calls.remove(&self.number);
    }
}

fn look_again_and_again(
    watch: &Weak<Watch>,
    stuck: &mpsc::Sender<String>,
    health: &Health,
    pauses: &Pauses,
    grace: Duration,
) {
    let mut watcher = Watcher::default();
    let mut looked = Instant::now();
    let what = loop {
        std::thread::sleep(LOOK_INTERVAL);
        let Some(watch) = watch.upgrade() else { return };
        let passed = std::mem::replace(&mut looked, Instant::now()).elapsed();
        if let Some(what) = watcher.look(&watch, passed) {
            break what;
        }
    };
    tracing::error!(what, "stuck: leaving the group and ending");
    health.stuck(what.clone());
    let _pause = pauses.begin(format!("stuck: {what}"));
    if stuck.try_send(what).is_err() {
        tracing::debug!("the service is ending already");
    }
    std::thread::sleep(grace);
    if watch.strong_count() > 0 {
        tracing::error!("still stuck: ending without leaving the group");
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Looks as often as the thread does, until something is stuck or the time has passed.
    fn watch_for(watcher: &mut Watcher, watch: &Watch, time: Duration) -> Option<String> {
        let until = watcher.clock + time;
        while watcher.clock < until {
            if let Some(stuck) = watcher.look(watch, LOOK_INTERVAL) {
                return Some(stuck);
            }
        }
        None
    }

    #[test]
    fn a_call_is_stuck_at_three_times_its_deadline_unless_it_has_ended() {
        let (watch, mut watcher) = (Watch::default(), Watcher::default());
        let call = watch.begin("a produce request", DEADLINE);
        assert_eq!(watch_for(&mut watcher, &watch, DEADLINE * 3), None);
        let stuck = watch_for(&mut watcher, &watch, DEADLINE).unwrap();
        assert!(stuck.starts_with("a produce request"), "{stuck}");
        drop(call);
        assert_eq!(watch_for(&mut watcher, &watch, DEADLINE * 10), None);
    }

    #[test]
    fn a_poll_that_does_not_return_is_stuck_and_many_that_do_are_not() {
        let (watch, mut watcher) = (Watch::default(), Watcher::default());
        let activity = watch.activity(DEADLINE);
        // Every look sees a poll under way, each time another one.
        for _ in 0..1_000 {
            activity.turn();
            assert_eq!(watcher.look(&watch, LOOK_INTERVAL), None);
            activity.turn();
        }
        assert_eq!(watch_for(&mut watcher, &watch, DEADLINE * 10), None, "it has nothing to do");
        activity.turn();
        assert_eq!(watch_for(&mut watcher, &watch, DEADLINE * 3), None);
        assert!(watch_for(&mut watcher, &watch, DEADLINE).is_some());
        drop(activity);
        assert_eq!(watch_for(&mut watcher, &watch, DEADLINE * 10), None);
    }

    #[test]
    fn time_in_which_the_process_stood_still_does_not_count() {
        let (watch, mut watcher) = (Watch::default(), Watcher::default());
        let _call = watch.begin("a produce request", DEADLINE);
        assert_eq!(watcher.look(&watch, LOOK_INTERVAL), None);
        assert_eq!(watcher.look(&watch, DEADLINE * 100), None);
    }
}
