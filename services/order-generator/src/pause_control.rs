//! Stopping and starting: no order is made while the control topic says so.

use std::time::Duration;

use control_topic::record::RunState;
use control_topic::{Instruction, Participant};
use prometheus_client::metrics::gauge::Gauge;
use service_runtime::Check;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::pace::Pace;
use crate::report::Report;

/// How often it is looked whether everything that was sent has an outcome, while a generator comes to rest.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What a generator is told, and what it says about that.
#[derive(Debug)]
pub(crate) struct PauseControl {
    participant: Participant,
    instruction: watch::Receiver<Instruction>,
    check: Check,
    /// 1 while the generator is told to pause.
    paused: Gauge,
}

impl PauseControl {
    /// Returns the pause_control of a generator that has made nothing yet; `check` and `paused` show what it is told.
    pub(crate) fn new(participant: Participant, check: Check, paused: Gauge) -> Self {
        check.not_ready("reading the control topic");
        let mut instruction = participant.instruction();
        instruction.mark_changed();
        Self { participant, instruction, check, paused }
    }

    /// Returns whether there is a new word about whether to run.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.instruction.has_changed().unwrap_or(false)
    }

    /// Waits until an order is due, at once if `due` is none; none is due while the generator is paused, which puts off those
    /// after it as well.
    ///
    /// # Cancel safety
    /// Not cancel safe: a word that came may be forgotten.
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

    /// Takes back what this generator has said of itself.
    pub(crate) async fn end(self) {
        self.participant.end().await;
    }

    async fn news(&mut self) {
        if self.instruction.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.instruction.mark_changed();
    }

    /// Waits until the generator is to run, and says what it does meanwhile: it is paused once everything that was sent has
    /// an outcome.
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
                        () = at_rest(report) => self.participant.announce(RunState::Paused, command, None),
                        () = self.news() => {}
                    }
                }
            }
            self.news().await;
        }
    }
}

async fn at_rest(report: &Report) {
    while report.on_its_way() > 0 {
        sleep(LOOK_INTERVAL).await;
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
    async fn no_order_is_due_before_it_is_known_that_the_generator_is_to_run() {
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
    async fn it_is_paused_once_nothing_is_on_its_way() {
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
    async fn a_pause_puts_off_what_is_due_and_is_not_made_up_for() {
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

        async fn is_due(&mut self, pace: &mut Pace, patience: Duration) -> bool {
            // A future that is dropped has seen the instruction.
            self.pause_control.instruction.mark_changed();
            let due = pace.next(Instant::now());
            timeout(patience, self.pause_control.until_due(due, pace, &self.report)).await.is_ok()
        }

        fn state(&self) -> Option<RunState> {
            let standing = self.pause_control.participant.report();
            standing.borrow().as_ref().map(|standing| standing.state)
        }
    }
}
