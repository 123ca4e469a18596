//! The brake of this process: while it is on, nothing is taken up, and what runs comes to its end.
//!
//! It is asked about at every record, so that is one load. How often it was moved is counted: the number is odd while it
//! is on, and a worker that has come to rest names the number, so that nobody takes an earlier rest for the present one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control_topic::Instruction;
use prometheus_client::metrics::gauge::Gauge;
use service_runtime::Check;
use tokio::sync::watch;
use tokio::time::Instant;

/// The brake. Who made it moves it; everybody else looks.
#[derive(Debug)]
pub(crate) struct Halt {
    moves: AtomicU64,
    /// A copy of the number, for those who wait; sent after it is stored.
    moved: watch::Sender<u64>,
    /// The instruction that the brake was moved for last; sent after that.
    obeyed: watch::Sender<Instruction>,
    times: Mutex<Times>,
}

/// When the brake was on.
#[derive(Debug)]
struct Times {
    /// For how long in all, up to the last time that it was moved off.
    before: Duration,
    /// Since when it is on.
    since: Option<Instant>,
}

impl Halt {
    /// The brake is on: nothing begins before it is known that it may.
    pub(crate) fn on() -> Arc<Self> {
        let times = Times { before: Duration::ZERO, since: Some(Instant::now()) };
        Arc::new(Self {
            moves: AtomicU64::new(1),
            moved: watch::Sender::new(1),
            obeyed: watch::Sender::new(Instruction::Unknown),
            times: Mutex::new(times),
        })
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.number_while_on().is_some()
    }

    /// Returns how often the brake was moved, while it is on.
    #[inline]
    pub(crate) fn number_while_on(&self) -> Option<u64> {
        let number = self.moves.load(Ordering::Relaxed);
        (number % 2 == 1).then_some(number)
    }

    /// Returns for how long the brake was on in all.
    pub(crate) fn time_on(&self) -> Duration {
        let times = self.times();
        times.before + times.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns what sees every move.
    pub(crate) fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Returns the instruction that the brake was moved for last. While the brake is on, it has been since that instruction at
    /// the latest; the receiver sees every change.
    pub(crate) fn obeyed(&self) -> watch::Receiver<Instruction> {
        self.obeyed.subscribe()
    }

    /// Moves the brake on, or off.
    pub(crate) fn set(&self, on: bool) {
        self.moved.send_if_modified(|number| {
            if (*number % 2 == 1) == on {
                return false;
            }
            let mut times = self.times();
            let since = std::mem::replace(&mut times.since, on.then(Instant::now));
            times.before += since.map_or(Duration::ZERO, |since| since.elapsed());
            *number += 1;
            self.moves.store(*number, Ordering::Relaxed);
            true
        });
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves the brake as instructed, for as long as anybody instructs.
pub(crate) async fn obey(
    mut instruction: watch::Receiver<Instruction>,
    halt: Arc<Halt>,
    check: Check,
    paused: Gauge,
) {
    loop {
        let instructed = instruction.borrow_and_update().clone();
        paused.set(i64::from(matches!(instructed, Instruction::Pause { .. })));
        halt.set(!instructed.is_run());
        match &instructed {
            Instruction::Unknown => check.not_ready("reading the control topic"),
            Instruction::Run { .. } => check.ready(),
            Instruction::Pause { by, .. } => check.ready_with(format!("paused by {by}")),
        }
        halt.obeyed.send_replace(instructed);
        if instruction.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_begins_before_it_is_known_that_it_may() {
        let halt = Halt::on();
        let health = service_runtime::Health::default();
        let (instruct, instruction) = watch::channel(Instruction::Unknown);
        let mut moves = halt.moves();
        let mut tasks = tokio::task::JoinSet::new();
        let paused = Gauge::default();
        let check = health.check("control");
        tasks.spawn(obey(instruction, Arc::clone(&halt), check, paused.clone()));
        tokio::task::yield_now().await;
        assert!(halt.is_on());
        assert!(health.report()["control"].is_some());

        instruct.send_replace(Instruction::Run { command: None });
        moves.changed().await.unwrap();
        assert!(!halt.is_on());
        let pause = Instruction::Pause { by: "kim".to_owned(), command: Some("7".to_owned()) };
        instruct.send_replace(pause.clone());
        moves.changed().await.unwrap();
        assert!(halt.is_on());
        tokio::task::yield_now().await;
        assert_eq!(
            (health.report()["control"].as_ref(), health.notes()["control"].as_str()),
            (None, "paused by kim")
        );
        assert_eq!((paused.get(), &*halt.obeyed().borrow()), (1, &pause));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_on_the_brake_adds_up() {
        let halt = Halt::on();
        let step = Duration::from_secs(3);
        for on in [false, true, false, false] {
            tokio::time::advance(step).await;
            halt.set(on);
        }
        tokio::time::advance(step).await;
        assert_eq!(halt.time_on(), 2 * step);
        halt.set(true);
        tokio::time::advance(step).await;
        assert_eq!(halt.time_on(), 3 * step);
    }

    #[tokio::test]
    async fn a_move_is_seen_once_and_counted() {
        let halt = Halt::on();
        let mut moves = halt.moves();
        assert!(halt.is_on());
        halt.set(true);
        assert!(!moves.has_changed().unwrap());

        halt.set(false);
        assert!(!halt.is_on());
        assert_eq!((*moves.borrow_and_update(), halt.number_while_on()), (2, None));
        halt.set(true);
        assert!(halt.is_on() && moves.has_changed().unwrap());
        assert_eq!(halt.number_while_on(), Some(3));
    }
}
