//! The process's pause switch: while it is paused, workers take in no record and begin no work; work in flight ends.
//!
//! Workers read it at every record, which is one load. Its changes are counted: the number is odd while it is paused. A
//! worker that is idle names the number, so that an earlier pause is not taken for the present one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control_topic::Instruction;
use prometheus_client::metrics::gauge::Gauge;
use service_runtime::Check;
use tokio::sync::watch;
use tokio::time::Instant;

/// Process-wide pause switch. Only [`follow`] sets it; every worker reads it.
#[derive(Debug)]
pub(crate) struct PauseSwitch {
    /// How often it has changed; odd while it is paused.
    number: AtomicU64,
    /// A copy of the number for tasks that wait; sent after it is stored.
    changed: watch::Sender<u64>,
    /// The last instruction that was applied.
    applied: watch::Sender<Instruction>,
    times: Mutex<Times>,
}

/// When the switch was paused.
#[derive(Debug)]
struct Times {
    /// For how long in all, up to the last resume.
    before: Duration,
    /// Since when it is paused.
    since: Option<Instant>,
}

impl PauseSwitch {
    /// Returns a paused switch: nothing begins before the control topic was read.
    pub(crate) fn paused() -> Arc<Self> {
        let times = Times { before: Duration::ZERO, since: Some(Instant::now()) };
        Arc::new(Self {
            number: AtomicU64::new(1),
            changed: watch::Sender::new(1),
            applied: watch::Sender::new(Instruction::Unknown),
            times: Mutex::new(times),
        })
    }

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.number_while_paused().is_some()
    }

    /// Returns the number of the present pause, if it is paused.
    #[inline]
    pub(crate) fn number_while_paused(&self) -> Option<u64> {
        let number = self.number.load(Ordering::Relaxed);
        (number % 2 == 1).then_some(number)
    }

    /// Returns for how long it was paused in all.
    pub(crate) fn paused_time(&self) -> Duration {
        let times = self.times();
        times.before + times.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns a receiver of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Returns a receiver of the applied instruction: a switch that is paused has been so since that instruction at the
    /// latest.
    pub(crate) fn applied(&self) -> watch::Receiver<Instruction> {
        self.applied.subscribe()
    }

    pub(crate) fn set(&self, paused: bool) {
        self.changed.send_if_modified(|number| {
            if (*number % 2 == 1) == paused {
                return false;
            }
            let mut times = self.times();
            let since = std::mem::replace(&mut times.since, paused.then(Instant::now));
            times.before += since.map_or(Duration::ZERO, |since| since.elapsed());
            *number += 1;
            self.number.store(*number, Ordering::Relaxed);
            true
        });
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the switch as instructed, until no more instructions can come.
pub(crate) async fn follow(
    mut instruction: watch::Receiver<Instruction>,
    pause_switch: Arc<PauseSwitch>,
    check: Check,
    paused: Gauge,
) {
    loop {
        let instructed = instruction.borrow_and_update().clone();
        paused.set(i64::from(matches!(instructed, Instruction::Pause { .. })));
        pause_switch.set(!instructed.is_run());
        match &instructed {
            Instruction::Unknown => check.not_ready("reading the control topic"),
            Instruction::Run { .. } => check.ready(),
            Instruction::Pause { by, .. } => check.ready_with(format!("paused by {by}")),
        }
        pause_switch.applied.send_replace(instructed);
        if instruction.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_begins_before_the_control_topic_was_read() {
        let pause_switch = PauseSwitch::paused();
        let health = service_runtime::Health::default();
        let (instruct, instruction) = watch::channel(Instruction::Unknown);
        let mut changes = pause_switch.changes();
        let mut tasks = tokio::task::JoinSet::new();
        let paused = Gauge::default();
        let check = health.check("control");
        tasks.spawn(follow(instruction, Arc::clone(&pause_switch), check, paused.clone()));
        tokio::task::yield_now().await;
        assert!(pause_switch.is_paused());
        assert!(health.report()["control"].is_some());

        instruct.send_replace(Instruction::Run { command: None });
        changes.changed().await.unwrap();
        assert!(!pause_switch.is_paused());
        let pause = Instruction::Pause { by: "kim".to_owned(), command: Some("7".to_owned()) };
        instruct.send_replace(pause.clone());
        changes.changed().await.unwrap();
        assert!(pause_switch.is_paused());
        tokio::task::yield_now().await;
        assert_eq!(
            (health.report()["control"].as_ref(), health.notes()["control"].as_str()),
            (None, "paused by kim")
        );
        assert_eq!((paused.get(), &*pause_switch.applied().borrow()), (1, &pause));
    }

    #[tokio::test(start_paused = true)]
    async fn the_paused_time_adds_up() {
        let pause_switch = PauseSwitch::paused();
        let step = Duration::from_secs(3);
        for on in [false, true, false, false] {
            tokio::time::advance(step).await;
            pause_switch.set(on);
        }
        tokio::time::advance(step).await;
        assert_eq!(pause_switch.paused_time(), 2 * step);
        pause_switch.set(true);
        tokio::time::advance(step).await;
        assert_eq!(pause_switch.paused_time(), 3 * step);
    }

    #[tokio::test]
    async fn a_change_is_seen_once_and_counted() {
        let pause_switch = PauseSwitch::paused();
        let mut changes = pause_switch.changes();
        assert!(pause_switch.is_paused());
        pause_switch.set(true);
        assert!(!changes.has_changed().unwrap());

        pause_switch.set(false);
        assert!(!pause_switch.is_paused());
        assert_eq!((*changes.borrow_and_update(), pause_switch.number_while_paused()), (2, None));
        pause_switch.set(true);
        assert!(pause_switch.is_paused() && changes.has_changed().unwrap());
        assert_eq!(pause_switch.number_while_paused(), Some(3));
    }
}
