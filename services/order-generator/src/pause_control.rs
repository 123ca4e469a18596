//! Pause and resume: the generator makes no orders while the control topic asks for a pause.

use std::time::Duration;

use control_topic::record::RunState;
use control_topic::{Instruction, Participant};
use prometheus_client::metrics::gauge::Gauge;
use service_runtime::Check;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::pace::Pace;
use crate::report::Report;

/// How often a pausing generator checks whether every order has an outcome.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Follows the control topic's instruction, and announces the generator's state.
#[derive(Debug)]
pub(crate) struct PauseControl {
    participant: Participant,
    instruction: watch::Receiver<Instruction>,
    check: Check,
    /// 1 while the instruction is to pause.
    paused: Gauge,
}

impl PauseControl {
    /// Returns the pause control of a new generator; `check` and `paused` show the instruction.
    pub(crate) fn new(participant: Participant, check: Check, paused: Gauge) -> Self {
        check.not_ready("reading the control topic");
        let mut instruction = participant.instruction();
        instruction.mark_changed();
        Self { participant, instruction, check, paused }
    }

    /// Returns whether the instruction has changed.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.instruction.has_changed().unwrap_or(false)
    }

    /// Waits until an order is due, not at all if `due` is `None`. A pause postpones this order and all later ones.
    ///
    /// # Cancel safety
    /// Not cancel safe: an instruction may be lost.
    pub(crate) async fn until_due(
        &mut self,
        mut due: Option<Instant>,
        pace: &mut Pace,
        report: &Report,
    ) {
        loop {
            if self.has_news() {
                let begun = Instant::now();
                self.until_run(report).await;
                let pause = begun.elapsed();
                pace.postpone(pause);
                due = due.map(|due| due + pause);
            }
            let Some(at) = due else { return };
            tokio::select! {
                () = sleep_until(at) => due = None,
                () = self.news() => {}
            }
        }
    }

    /// Removes this generator's announcement.
    pub(crate) async fn end(self) {
        self.participant.end().await;
    }

    async fn news(&mut self) {
        if self.instruction.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.instruction.mark_changed();
    }

    /// Waits until the instruction is to run, and announces the generator's state. It is paused once every order has an
    /// outcome.
    async fn until_run(&mut self, report: &Report) {
        loop {
            let instructed = self.instruction.borrow_and_update().clone();
            self.paused.set(i64::from(matches!(instructed, Instruction::Pause { .. })));
            match instructed {
                Instruction::Run { command } => {
                    self.check.ready();
                    self.participant.announce(RunState::Running, command.as_deref(), None);
                    return;
                }
                Instruction::Unknown => {}
                Instruction::Pause { by, command } => {
                    self.check.ready_with(format!("paused by {by}"));
                    let command = command.as_deref();
                    tokio::select! {
                        () = until_idle(report) => self.participant.announce(RunState::Paused, command, None),
                        () = self.news() => {}
                    }
                }
            }
            self.news().await;
        }
    }
}

async fn until_idle(report: &Report) {
    while report.in_flight() > 0 {
        sleep(CHECK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use control_topic::record::Role;
    use kafka_client::cluster::Cluster;
    use kafka_client::config::BrokerConfig;
    use service_runtime::{Health, Metrics};
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_order_is_due_before_the_instruction_to_run() {
        let mut bench = Bench::new();
        let mut pace = Pace::new(0.0, Instant::now());
        assert!(!bench.is_due(&mut pace, Duration::from_hours(1)).await);
        assert_eq!(bench.state(), None);

        bench.instruct.send_replace(pause());
        assert!(!bench.is_due(&mut pace, Duration::from_hours(1)).await);
        assert_eq!(bench.state(), Some(RunState::Paused));
        assert_eq!(bench.health.notes()["control"], "paused by kim");

        bench.instruct.send_replace(run());
        assert!(bench.is_due(&mut pace, Duration::ZERO).await);
        assert_eq!(bench.state(), Some(RunState::Running));
    }

    #[tokio::test(start_paused = true)]
    async fn a_generator_is_paused_once_every_order_has_an_outcome() {
        let mut bench = Bench::new();
        let mut pace = Pace::new(0.0, Instant::now());
        bench.instruct.send_replace(run());
        assert!(bench.is_due(&mut pace, Duration::ZERO).await);
        bench.report.sent();

        bench.instruct.send_replace(pause());
        assert!(!bench.is_due(&mut pace, Duration::from_mins(1)).await);
        assert_eq!(bench.state(), Some(RunState::Running));

        bench.report.never_sent(&kafka_core::TopicPartition::new("orders", 0), 1);
        bench.instruct.send_modify(|_| {});
        assert!(!bench.is_due(&mut pace, Duration::from_mins(1)).await);
        assert_eq!(bench.state(), Some(RunState::Paused));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_postpones_orders_and_the_generator_does_not_catch_up() {
        let mut bench = Bench::new();
        bench.instruct.send_replace(run());
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(0.1, Instant::now());
        assert!(bench.is_due(&mut pace, Duration::ZERO).await);
        let last = Instant::now();

        // The second order is due after 10 s; the pause begins after 4 s and takes a minute.
        let Bench { pause_control, report, instruct, .. } = &mut bench;
        let operate = async {
            sleep(4 * second).await;
            instruct.send_replace(pause());
            sleep(60 * second).await;
            instruct.send_replace(run());
        };
        let due = pace.next(last);
        tokio::join!(pause_control.until_due(due, &mut pace, report), operate);
        assert_eq!(last.elapsed(), 70 * second);
        let due = pace.next(Instant::now());
        pause_control.until_due(due, &mut pace, report).await;
        assert_eq!(last.elapsed(), 80 * second);
    }

    fn pause() -> Instruction {
        Instruction::Pause { by: "kim".to_owned(), command: None }
    }

    fn run() -> Instruction {
        Instruction::Run { command: None }
    }

    struct Bench {
        pause_control: PauseControl,
        instruct: watch::Sender<Instruction>,
        health: Health,
        report: Report,
    }

    impl Bench {
        fn new() -> Self {
            let cluster = Cluster::new(BrokerConfig::new(vec!["127.0.0.1:1".to_owned()], "test"));
            let participant =
                Participant::start(&cluster, "orders-control", 1, Role::Generator, "test");
            let health = Health::default();
            let check = health.check("control");
            let mut pause_control = PauseControl::new(participant, check, Gauge::default());
            let (instruct, instruction) = watch::channel(Instruction::Unknown);
            pause_control.instruction = instruction;
            pause_control.instruction.mark_changed();
            let report = Report::new(&Metrics::default(), CancellationToken::new());
            Self { pause_control, instruct, health, report }
        }

        async fn is_due(&mut self, pace: &mut Pace, wait_max: Duration) -> bool {
            // The dropped future has seen the instruction.
            self.pause_control.instruction.mark_changed();
            let due = pace.next(Instant::now());
            timeout(wait_max, self.pause_control.until_due(due, pace, &self.report)).await.is_ok()
        }

        fn state(&self) -> Option<RunState> {
            let standing = self.pause_control.participant.report();
            standing.borrow().as_ref().map(|standing| standing.state)
        }
    }
}
