//! A service's part in the control topic: it follows commands and reports its state.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use kafka_client::cluster::Cluster;
use kafka_client::error::chain;
use kafka_client::producer::{ProduceError, Producer};
use pacing::{Backoff, ReportLimit};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::announcement::Announcement;
use crate::follower::Follower;
use crate::record::{Desired, Entry, InstanceReport, Role, RunState};
use crate::topic::REPORT_INTERVAL;
use crate::view::ControlView;
use crate::writing::write;

/// How long a start waits for a control topic that does not answer. A broker restarts in less time, and orders do not wait
/// for ever for a broker that is lost.
const FIRST_READ_MAX: Duration = Duration::from_secs(30);
/// How long it waits before it logs that.
const FIRST_READ_QUIET: Duration = Duration::from_secs(2);
/// How long a report is tried before that is logged.
const WRITE_MAX: Duration = Duration::from_secs(8);
/// Pause before a record that was not acknowledged is written again, at first and at most.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// How often the log mentions that the topic refuses reports.
const LOG_INTERVAL: Duration = Duration::from_mins(5);
/// How long the report of the end may take.
const END_MAX: Duration = Duration::from_secs(1);

/// The desired state of a service, and the command that says so, if there was one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// The topic was not read yet: nothing may begin.
    Unknown,
    /// The service is to work.
    Run {
        /// The id of the command; absent where there was none.
        command: Option<String>,
    },
    /// The service is to begin nothing.
    Pause {
        /// The operator, as `name@host`.
        by: String,
        /// The id of the command; absent where it has none.
        command: Option<String>,
    },
}

impl Instruction {
    /// Returns whether the service is to run.
    pub fn is_run(&self) -> bool {
        matches!(self, Self::Run { .. })
    }

    /// Returns the id of the command, if there is one.
    pub fn command(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Run { command } | Self::Pause { command, .. } => command.as_deref(),
        }
    }
}

/// A service that follows commands and reports its state.
#[derive(Debug)]
pub struct Participant {
    name: String,
    instruction: watch::Receiver<Instruction>,
    report: watch::Sender<Option<InstanceReport>>,
    _follower: Follower,
    announcing: JoinSet<()>,
    _instructing: JoinSet<()>,
}

impl Participant {
    /// Starts to follow the topic as an instance of a role on `host`, and creates the topic where it is missing. Must be
    /// called within a tokio runtime. The instance reports that it is paused, and then reads its instruction.
    ///
    /// The instruction is known once the topic was read, or was refused. If the topic does not answer for 30 s, the instance
    /// is to run until it does.
    pub fn start(
        cluster: &Cluster,
        topic: &str,
        replication_factor: i16,
        role: Role,
        host: &str,
    ) -> Self {
        let name = instance_name(host);
        let topic: Arc<str> = topic.into();
        let (report, report_rx) = watch::channel(None);
        let (own_name, own_report) = (name.clone(), report_rx.clone());
        let producer = Producer::start(cluster.clone(), None);
        let own = Announcement {
            producer: producer.clone(),
            replication_factor,
            role,
            name: own_name,
            report: own_report,
        };
        let follower = Follower::of(cluster.clone(), Arc::clone(&topic), Some(own));
        let (instruct_tx, instruction) = watch::channel(Instruction::Unknown);
        let mut instructing = JoinSet::new();
        instructing.spawn(instruct(follower.view(), role, instruct_tx));
        let announcer = Announcer {
            producer,
            topic,
            role,
            name: name.clone(),
            report: report_rx,
            view: follower.view(),
            refusals: ReportLimit::every(LOG_INTERVAL),
        };
        let mut announcing = JoinSet::new();
        announcing.spawn(announcer.run());
        Self {
            name,
            instruction,
            report,
            _follower: follower,
            announcing,
            _instructing: instructing,
        }
    }

    /// Returns the instance's name: its host's, with digits that are unique for the process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the instruction; the receiver sees every change.
    pub fn instruction(&self) -> watch::Receiver<Instruction> {
        self.instruction.clone()
    }

    /// Returns the last report of this instance; the receiver sees every change.
    pub fn report(&self) -> watch::Receiver<Option<InstanceReport>> {
        self.report.subscribe()
    }

    /// Reports the state of this instance and the command that it follows, without waiting. An instance may report `Paused`
    /// once it has no work in flight.
    pub fn announce(&self, state: RunState, command: Option<&str>, member_id: Option<&str>) {
        self.report.send_if_modified(|present| {
            let since_ms = match present {
                Some(last) if last.state == state => last.since_ms,
                Some(_) | None => Some(Utc::now().timestamp_millis()),
            };
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let (command, member_id) = (owned(command), owned(member_id));
            let report = Some(InstanceReport { state, command, since_ms, member_id });
            let has_changed = *present != report;
            *present = report;
            has_changed
        });
    }

    /// Reports the end of this instance, within a second at most.
    ///
    /// # Cancel safety
    /// A dropped future may not have reported it; the instance then counts as gone after 15 s.
    pub async fn end(self) {
        let Self { report, mut announcing, .. } = self;
        drop(report);
        if timeout(END_MAX, announcing.join_next()).await.is_err() {
            tracing::debug!("the control topic does not take the report of the end");
        }
    }
}

/// Returns a name for this process that is most probably unique.
fn instance_name(host: &str) -> String {
    let digits = SysRng.try_next_u32().unwrap_or_else(|_no_source| std::process::id());
    format!("{host}-{digits:08x}")
}

/// Derives the instruction as the view changes, and logs it.
async fn instruct(
    mut view: watch::Receiver<ControlView>,
    role: Role,
    instruction: watch::Sender<Instruction>,
) {
    let begun = Instant::now();
    let mut give_up = Some(begun + FIRST_READ_QUIET);
    loop {
        let seen = view.borrow_and_update().clone();
        let found = instruction_of(&seen, role);
        if found != Instruction::Unknown {
            give_up = None;
            publish(&instruction, found, seen.desired(role));
        }
        let changed = match give_up {
            None => Ok(view.changed().await),
            Some(at) => timeout_at(at, view.changed()).await,
        };
        match changed {
            Ok(Ok(())) => {}
            // The follower has ended, and so has the service.
            Ok(Err(_closed)) => return,
            Err(_elapsed) if begun.elapsed() < FIRST_READ_MAX => {
                tracing::warn!("waiting for the control topic, which says whether to run");
                give_up = Some(begun + FIRST_READ_MAX);
            }
            Err(_elapsed) => {
                tracing::warn!("the control topic does not answer: running without a command");
                give_up = None;
                publish(&instruction, Instruction::Run { command: None }, &Desired::default());
            }
        }
    }
}

/// Returns the instruction of a view; unknown until the view was read or refused.
fn instruction_of(view: &ControlView, role: Role) -> Instruction {
    let desired = view.desired(role);
    let command = desired.id.clone();
    match desired.state {
        _ if !view.is_read() && view.refusal().is_none() => Instruction::Unknown,
        RunState::Running => Instruction::Run { command },
        RunState::Paused => Instruction::Pause { by: author(desired), command },
    }
}

fn author(desired: &Desired) -> String {
    desired.by.clone().unwrap_or_else(|| "an unknown operator".to_owned())
}

fn publish(instruction: &watch::Sender<Instruction>, found: Instruction, desired: &Desired) {
    instruction.send_if_modified(|present| {
        if *present == found {
            return false;
        }
        match (&*present, &found) {
            (Instruction::Unknown, Instruction::Pause { by, .. }) => {
                tracing::info!("starting paused: paused by {by}");
            }
            (Instruction::Pause { by: before, .. }, Instruction::Pause { by, .. })
                if before == by => {}
            (_, Instruction::Pause { by, .. }) => tracing::info!("paused by {by}"),
            (Instruction::Pause { .. }, Instruction::Run { .. } | Instruction::Unknown) => {
                tracing::info!("resumed by {}", author(desired));
            }
            (
                Instruction::Run { .. } | Instruction::Unknown,
                Instruction::Run { .. } | Instruction::Unknown,
            ) => {}
        }
        *present = found;
        true
    });
}

/// Writes the reports of an instance: when its state changes, and every few seconds.
struct Announcer {
    producer: Producer,
    topic: Arc<str>,
    role: Role,
    name: String,
    report: watch::Receiver<Option<InstanceReport>>,
    /// Has the partition of reports.
    view: watch::Receiver<ControlView>,
    refusals: ReportLimit,
}

impl Announcer {
    async fn run(mut self) {
        loop {
            let report = self.report.borrow_and_update().clone();
            if let Some(report) = report {
                self.write(report).await;
            }
            tokio::select! {
                changed = self.report.changed() => if changed.is_err() {
                    break;
                },
                () = sleep(REPORT_INTERVAL) => {}
            }
        }
        let Some(reports) = self.reports() else { return };
        let end = [self.entry(None)];
        if let Err(error) =
            write(&self.producer, &self.topic, reports, &end, Instant::now() + END_MAX).await
        {
            tracing::debug!(%error, "could not report the end to the control topic");
        }
    }

    /// Writes a report until it is acknowledged, or outdated.
    async fn write(&mut self, report: InstanceReport) {
        let Some(reports) = self.reports() else { return };
        let entries = [self.entry(Some(report))];
        let mut backoff = BACKOFF;
        loop {
            let deadline = Instant::now() + WRITE_MAX;
            let failed = tokio::select! {
                written = write(&self.producer, &self.topic, reports, &entries, deadline) => match written {
                    Ok(()) => return,
                    Err(error) => error,
                },
                changed = self.report.changed() => return self.leave_changed(changed.is_ok()),
            };
            self.log(&failed);
            tokio::select! {
                () = backoff.wait() => {}
                changed = self.report.changed() => return self.leave_changed(changed.is_ok()),
            }
        }
    }

    /// Marks a changed report, so that the next step sees it.
    fn leave_changed(&mut self, has_changed: bool) {
        if has_changed {
            self.report.mark_changed();
        }
    }

    fn entry(&self, report: Option<InstanceReport>) -> Entry {
        Entry::Instance { role: self.role, name: self.name.clone(), report }
    }

    /// Returns the partition of reports; `None` while there is no topic.
    fn reports(&self) -> Option<i32> {
        self.view.borrow().reports()
    }

    fn log(&mut self, error: &ProduceError) {
        let is_refused = matches!(error, ProduceError::Refused { .. });
        if is_refused && self.refusals.is_due() {
            let error = chain(error);
            tracing::warn!(topic = %self.topic, error, "the control topic refuses the reports of this instance");
        } else {
            tracing::debug!(%error, "writing to the control topic again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::{COMMANDS, REPORTS};

    #[tokio::test(start_paused = true)]
    async fn the_instruction_is_unknown_until_the_topic_was_read() {
        let (view, mut instruction, _task) = instructed(Role::Processor);
        view.send_modify(|view| view.apply(COMMANDS, command("1", RunState::Paused), 1, now()));
        sleep(FIRST_READ_MAX / 2).await;
        assert_eq!(*instruction.borrow_and_update(), Instruction::Unknown);

        view.send_modify(|view| view.advance(COMMANDS, 1));
        instruction.changed().await.unwrap();
        assert_eq!(*instruction.borrow_and_update(), pause("1"));

        view.send_modify(|view| view.apply(COMMANDS, command("2", RunState::Running), 2, now()));
        instruction.changed().await.unwrap();
        assert_eq!(
            *instruction.borrow_and_update(),
            Instruction::Run { command: Some("2".to_owned()) }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_may_not_be_read_pauses_no_service() {
        let (view, mut instruction, _task) = instructed(Role::Processor);
        let begun = Instant::now();
        view.send_modify(|view| view.refuse("not allowed".to_owned()));
        instruction.changed().await.unwrap();
        assert_eq!(*instruction.borrow_and_update(), Instruction::Run { command: None });
        assert!(begun.elapsed() < FIRST_READ_QUIET);
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_does_not_answer_pauses_a_service_only_for_a_while_until_it_does() {
        let (view, mut instruction, _task) = instructed(Role::Processor);
        let begun = Instant::now();
        instruction.changed().await.unwrap();
        assert_eq!(*instruction.borrow_and_update(), Instruction::Run { command: None });
        assert!(begun.elapsed() >= FIRST_READ_MAX);

        view.send_modify(|view| {
            view.apply(COMMANDS, command("1", RunState::Paused), 1, now());
            view.advance(COMMANDS, 1);
        });
        instruction.changed().await.unwrap();
        assert_eq!(*instruction.borrow_and_update(), pause("1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_to_another_role_has_no_effect() {
        let (view, mut instruction, _task) = instructed(Role::Generator);
        view.send_modify(|view| {
            view.apply(COMMANDS, command("1", RunState::Paused), 1, now());
            view.advance(COMMANDS, 1);
        });
        instruction.changed().await.unwrap();
        assert_eq!(*instruction.borrow_and_update(), Instruction::Run { command: None });
    }

    fn instructed(
        role: Role,
    ) -> (watch::Sender<ControlView>, watch::Receiver<Instruction>, JoinSet<()>) {
        let unread = ControlView::of_topic([(COMMANDS, 0..1)].into(), REPORTS);
        let (view, view_rx) = watch::channel(unread);
        let (instruct_tx, instruction) = watch::channel(Instruction::Unknown);
        let mut task = JoinSet::new();
        task.spawn(instruct(view_rx, role, instruct_tx));
        (view, instruction, task)
    }

    /// An operator commands the same twice: the second command has to be followed as well, by another report.
    #[tokio::test(start_paused = true)]
    async fn a_repeated_command_is_another_instruction() {
        let (view, mut instruction, _task) = instructed(Role::Processor);
        for id in ["1", "2"] {
            view.send_modify(|view| {
                view.apply(COMMANDS, command(id, RunState::Paused), 1, now());
                view.advance(COMMANDS, 1);
            });
            instruction.changed().await.unwrap();
            assert_eq!(*instruction.borrow_and_update(), pause(id));
        }
    }

    fn command(id: &str, state: RunState) -> Entry {
        let by = Some("kim".to_owned());
        Entry::Desired(
            Role::Processor,
            Some(Desired { id: Some(id.to_owned()), state, at_ms: None, by }),
        )
    }

    fn pause(command: &str) -> Instruction {
        Instruction::Pause { by: "kim".to_owned(), command: Some(command.to_owned()) }
    }

    fn now() -> std::time::Instant {
        Instant::now().into_std()
    }
}
