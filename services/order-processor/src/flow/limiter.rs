//! Bounds the attempts of a process. While the handler's dependency is down, only a probe may begin.
//!
//! An attempt needs a [`Permit`]. Workers queue for permits, so a partition with a backlog does not starve another. While
//! the dependency is down, the limiter withholds permits that come back, and [`Limiter::keep`] gives one out when a probe is
//! due. An answer gives all of them back. So does the last worker with an order to probe with, when it has none left or is
//! paused: without a probe, the outage would last forever.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service_runtime::LineLimit;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::PollSemaphore;

use crate::flow::circuit_breaker::{Circuit, Fault, Probe, TransientFailure};
use crate::flow::pause_reasons::{Pause, PauseReasons};
use crate::flow::retry::RETRY_AFTER_MAX;

/// Lines a second about outages that begin or end.
const LINES: usize = 2;
/// How often an outage that lasts is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Bounds the attempts of a process.
#[derive(Debug)]
pub(crate) struct Limiter {
    permits: Arc<Semaphore>,
    /// Whether the circuit is open: a copy for workers, which read it at every record.
    is_down: AtomicBool,
    /// Whether attempts have failed since the last answer: another copy.
    is_suspect: AtomicBool,
    /// The number of workers with an order to probe with.
    probers: AtomicUsize,
    state: Mutex<State>,
    /// Notified when the time of the next probe changes.
    changed: Notify,
    pause_reasons: PauseReasons,
    lines: LineLimit,
    started: Instant,
}

#[derive(Debug)]
struct State {
    circuit: Circuit,
    /// Permits that are withheld while the dependency is down.
    withheld: usize,
    pause: Option<Pause>,
    reported: Option<Instant>,
    /// The length of all outages that have ended.
    down: Duration,
}

/// The right to begin an attempt. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit {
    limiter: Arc<Limiter>,
    inner: Option<OwnedSemaphorePermit>,
    /// The probe that it is for; other permits serve one attempt after the other.
    probe: Option<Probe>,
}

impl Limiter {
    /// Returns a limiter of `attempts_max` attempts at once; `down_after` different orders that fail in a row open its circuit.
    pub(crate) fn new(
        attempts_max: usize,
        down_after: usize,
        pause_reasons: PauseReasons,
    ) -> Arc<Self> {
        let state = State {
            circuit: Circuit::new(down_after),
            withheld: 0,
            pause: None,
            reported: None,
            down: Duration::ZERO,
        };
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(attempts_max)),
            is_down: AtomicBool::new(false),
            is_suspect: AtomicBool::new(false),
            probers: AtomicUsize::new(0),
            state: Mutex::new(state),
            changed: Notify::new(),
            pause_reasons,
            lines: LineLimit::new("outages of what the handler needs", LINES),
            started: Instant::now(),
        })
    }

    /// Gives out probes while the dependency is down, for as long as the limiter lives.
    pub(crate) async fn keep(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            let probe_at = self.state().circuit.probe_at();
            match probe_at {
                None => changed.await,
                Some(probe_at) if Instant::now() < probe_at => tokio::select! {
                    () = changed => {}
                    () = sleep_until(probe_at) => {}
                },
                // All permits are with attempts that began before the outage: one will come back.
                Some(_) if !self.begin_probe() => changed.await,
                Some(_) => {}
            }
        }
    }

    fn begin_probe(&self) -> bool {
        let mut state = self.state();
        let can_probe = state.circuit.probe_at().is_some() && state.withheld > 0;
        if can_probe {
            state.circuit.begin_probe();
            state.withheld -= 1;
            self.permits.add_permits(1);
        }
        can_probe
    }

    /// Returns a permit if one is free.
    pub(crate) fn try_permit(self: &Arc<Self>) -> Option<Permit> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(self.permit(permit))
    }

    /// Returns a place in the queue for permits.
    pub(crate) fn queue(&self) -> PollSemaphore {
        PollSemaphore::new(Arc::clone(&self.permits))
    }

    /// Makes a permit of one from the queue.
    pub(crate) fn permit(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Permit {
        // Only probes are given out while the dependency is down.
        let probe = if self.is_down() { self.state().circuit.probe() } else { None };
        Permit { limiter: Arc::clone(self), inner: Some(permit), probe }
    }

    /// Returns whether the dependency is down.
    #[inline]
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Counts an answer: an attempt that is done or rejected for good.
    #[inline]
    pub(crate) fn answered(&self) {
        if self.is_suspect.load(Ordering::Relaxed) {
            self.end_streak();
        }
    }

    fn end_streak(&self) {
        let mut state = self.state();
        if let Some(since) = state.circuit.answered() {
            self.open(&mut state, since, "resumed: the handler's dependency answers again");
        }
        self.note(&state);
    }

    /// Counts a worker with an order to probe with.
    pub(crate) fn add_prober(&self) {
        self.probers.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a worker less with an order to probe with.
    pub(crate) fn remove_prober(&self) {
        if self.probers.fetch_sub(1, Ordering::Relaxed) > 1 || !self.is_down() {
            return;
        }
        let mut state = self.state();
        // A worker that has one since then may come too late: it then finds the outage again.
        let is_left = self.probers.load(Ordering::Relaxed) == 0;
        if let Some(since) = is_left.then(|| state.circuit.leave()).flatten() {
            self.open(
                &mut state,
                since,
                "left: no order here waits for the handler's dependency, which is down",
            );
        }
        self.note(&state);
    }

    /// Lets attempts begin again after an outage.
    fn open(&self, state: &mut State, since: Instant, why: &str) {
        self.permits.add_permits(std::mem::take(&mut state.withheld));
        state.down += since.elapsed();
        state.pause = None;
        if self.lines.admit(1) > 0 {
            let paused_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(paused_ms, "{why}");
        }
    }

    /// Counts a transient failure, and returns whose fault it is.
    pub(crate) fn failed(&self, failure: &TransientFailure, reason: &str) -> Fault {
        let mut state = self.state();
        let fault = state.circuit.failed(failure, Instant::now());
        match fault {
            Fault::Order(_) => self.note(&state),
            Fault::Dependency => self.close(&mut state, reason),
        }
        fault
    }

    /// Opens the circuit because the handler says that the dependency is down.
    pub(crate) fn down(&self, reason: &str, retry_after: Option<Duration>) {
        let mut state = self.state();
        let retry_after = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        state.circuit.down(retry_after, Instant::now());
        self.close(&mut state, reason);
    }

    fn close(&self, state: &mut State, reason: &str) {
        let is_new = state.pause.is_none();
        state.withheld += self.permits.forget_permits(usize::MAX);
        if is_new {
            state.pause = Some(
                self.pause_reasons.begin(format!("the handler's dependency is down: {reason}")),
            );
            state.reported = None;
        }
        let is_due = state.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
        if is_due && self.lines.admit(1) > 0 {
            tracing::warn!(
                reason,
                "paused: the handler's dependency is down; nothing is dead-lettered, probing until it answers"
            );
            state.reported = Some(Instant::now());
        }
        self.note(state);
    }

    fn give_back(&self, permit: OwnedSemaphorePermit, probe: Option<Probe>) {
        if !self.is_suspect.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        if state.circuit.down_since().is_some() {
            permit.forget();
            state.withheld += 1;
            if let Some(probe) = probe {
                state.circuit.end_probe(probe);
            }
            self.changed.notify_one();
        }
    }

    fn note(&self, state: &State) {
        self.is_down.store(state.circuit.down_since().is_some(), Ordering::Relaxed);
        self.is_suspect.store(state.circuit.is_suspect(), Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Returns the age of this limiter without the time of outages.
    pub(crate) fn uptime(&self) -> Duration {
        let state = self.state();
        let outage = state.circuit.down_since().map(|since| since.elapsed());
        self.started.elapsed().saturating_sub(state.down + outage.unwrap_or_default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Returns whether it is for a probe.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(permit) = self.inner.take() {
            self.limiter.give_back(permit, self.probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use service_runtime::Health;
    use tokio::task::JoinSet;

    use super::*;

    const ATTEMPTS_MAX: usize = 3;
    const DOWN_AFTER: usize = 2;

    fn limiter() -> Arc<Limiter> {
        Limiter::new(ATTEMPTS_MAX, DOWN_AFTER, PauseReasons::new(Health::default().check("work")))
    }

    fn kept(limiter: &Arc<Limiter>) -> JoinSet<()> {
        let mut keeper = JoinSet::new();
        keeper.spawn(Arc::clone(limiter).keep());
        keeper
    }

    async fn next(limiter: &Arc<Limiter>) -> Permit {
        let mut queue = limiter.queue();
        let permit = std::future::poll_fn(|cx| queue.poll_acquire(cx)).await.unwrap();
        limiter.permit(permit)
    }

    fn fail(limiter: &Limiter, offset: i64) -> Fault {
        let retry_after = Duration::ZERO;
        let failure =
            TransientFailure { record: (1, offset), first: None, is_last: false, retry_after };
        limiter.failed(&failure, "no")
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_dependency_is_down_there_is_one_probe_at_a_time() {
        let limiter = limiter();
        let _keeper = kept(&limiter);
        let early = limiter.try_permit().unwrap();
        limiter.down("nobody is there", None);
        assert!(limiter.is_down() && limiter.try_permit().is_none());
        drop(early);
        assert!(limiter.try_permit().is_none(), "what comes back is withheld");

        let start = Instant::now();
        let probe = next(&limiter).await;
        assert_eq!((probe.is_probe(), start.elapsed()), (true, Duration::from_secs(1)));
        assert!(limiter.try_permit().is_none());
        limiter.down("nobody is there", None);
        drop(probe);
        let probe = next(&limiter).await;
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        limiter.down("work that began earlier says so", None);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(limiter.try_permit().is_none(), "the probe is under way");
        limiter.answered();
        drop(probe);
        let all: Vec<_> = std::iter::from_fn(|| limiter.try_permit()).collect();
        assert_eq!(all.len(), ATTEMPTS_MAX);
        assert!(!all.iter().any(Permit::is_probe));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_not_made_goes_to_the_next_who_waits() {
        let limiter = limiter();
        let _keeper = kept(&limiter);
        limiter.down("nobody is there", None);
        drop(next(&limiter).await);
        let start = Instant::now();
        assert!(next(&limiter).await.is_probe());
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_began_before_an_outage_ends_it_when_it_succeeds() {
        let limiter = limiter();
        let permits: Vec<_> = std::iter::from_fn(|| limiter.try_permit()).collect();
        assert_eq!(permits.len(), ATTEMPTS_MAX);
        limiter.down("nobody is there", None);
        limiter.answered();
        assert!(!limiter.is_down());
        drop(permits);
        let all: Vec<_> = std::iter::from_fn(|| limiter.try_permit()).collect();
        assert_eq!(all.len(), ATTEMPTS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_outages_is_no_uptime() {
        let limiter = limiter();
        tokio::time::advance(Duration::from_secs(10)).await;
        limiter.down("nobody is there", None);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(limiter.uptime(), Duration::from_secs(10));
        limiter.answered();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(limiter.uptime(), Duration::from_secs(15));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_when_nobody_has_an_order_to_probe_with() {
        let limiter = limiter();
        let _keeper = kept(&limiter);
        limiter.add_prober();
        limiter.add_prober();
        limiter.down("nobody is there", None);
        limiter.remove_prober();
        assert!(limiter.is_down(), "another one has an order");
        let probe = next(&limiter).await;
        assert!(probe.is_probe());
        limiter.remove_prober();
        assert!(!limiter.is_down());
        assert_eq!(limiter.uptime(), Duration::ZERO);
        drop(probe);
        let all: Vec<_> = std::iter::from_fn(|| limiter.try_permit()).collect();
        assert_eq!(all.len(), ATTEMPTS_MAX);

        limiter.add_prober();
        limiter.down("nobody is there", None);
        assert!(limiter.is_down(), "whoever comes next finds out");
    }

    proptest! {
        #[test]
        fn no_permit_is_lost_or_made_whatever_happens(events in proptest::collection::vec(0_u8..9, 0..200)) {
            let limiter = limiter();
            let mut held = Vec::new();
            let mut probers = 0;
            for (event, offset) in events.into_iter().zip(0..) {
                match event {
                    0 | 1 => held.extend(limiter.try_permit()),
                    2 => drop(held.pop()),
                    3 => drop(fail(&limiter, offset)),
                    4 => limiter.down("nobody is there", None),
                    5 => drop(limiter.begin_probe()),
                    6 => {
                        limiter.add_prober();
                        probers += 1;
                    }
                    7 if probers > 0 => {
                        limiter.remove_prober();
                        probers -= 1;
                        prop_assert!(probers > 0 || !limiter.is_down());
                    }
                    _ => limiter.answered(),
                }
                let free = limiter.permits.available_permits();
                prop_assert_eq!(free + held.len() + limiter.state().withheld, ATTEMPTS_MAX);
                prop_assert!(free == 0 || !limiter.is_down() || limiter.state().circuit.probe_at().is_none());
            }
            limiter.answered();
            drop(held);
            prop_assert_eq!(limiter.permits.available_permits(), ATTEMPTS_MAX);
        }
    }
}
