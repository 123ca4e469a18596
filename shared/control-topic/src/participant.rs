//! A service's part in the control topic: it learns what it is to do, and says what it does.

use std::sync::Arc;
use std::time::Duration;

use kafka_client::cluster::Cluster;
use kafka_client::error::chain;
use kafka_client::exact_writer::ExactWriter;
use kafka_client::writer::ProduceError;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::SIGN_INTERVAL;
use crate::follower::Follower;
use crate::record::{Desired, Entry, Role, RunState, Standing};
use crate::view::ControlView;
use crate::writing::{now_ms, write};

/// How long a start waits for a control topic that does not answer: longer than a broker takes to come back, and short
/// enough that its loss does not keep orders waiting for ever.
const FIRST_READ_MAX: Duration = Duration::from_secs(30);
/// How long it takes until that is mentioned.
const FIRST_READ_PATIENCE: Duration = Duration::from_secs(2);
/// Pause before a record that was not acknowledged is written again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long an instance waits for its first report to be acknowledged before it reads commands all the same.
const ANNOUNCE_MAX: Duration = Duration::from_secs(10);
/// How often it is reported that the topic does not take what an instance says of itself.
const REPORT_INTERVAL: Duration = Duration::from_mins(5);
/// How long saying goodbye may take.
const END_MAX: Duration = Duration::from_secs(1);

/// What a service is to do, and the command that says so; none does while nobody has said anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// It is not known yet: nothing is begun.
    Unknown,
    /// To work.
    Run {
        /// The command's id.
        command: Option<String>,
    },
    /// To take nothing up.
    Pause {
        /// Who wants it.
        by: String,
        /// The command's id.
        command: Option<String>,
    },
}

impl Instruction {
    /// Returns whether the service is to work.
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

/// A service that takes part.
#[derive(Debug)]
pub struct Participant {
    name: String,
    instruction: watch::Receiver<Instruction>,
    standing: watch::Sender<Option<Standing>>,
    /// Owns the task.
    _follower: Follower,
    announcing: JoinSet<()>,
    /// Owns the task.
    _instructing: JoinSet<()>,
}

impl Participant {
    /// Starts to follow the topic, which is created where it is missing, as an instance of a role on `host`; must be called
    /// within a tokio runtime. The instance reports that it is paused, and then reads what it is to do.
    ///
    /// The instruction is known once the topic was read, or may not be; a topic that does not answer for 30 s counts as one
    /// that stops nobody, until it answers.
    pub fn start(
        cluster: &Cluster,
        topic: &str,
        replication_factor: i16,
        role: Role,
        host: &str,
    ) -> Self {
        let name = instance_name(host);
        let topic: Arc<str> = topic.into();
        let (standing, standing_rx) = watch::channel(None);
        let own = Announcement {
            cluster: cluster.clone(),
            role,
            name: name.clone(),
            standing: standing_rx.clone(),
        };
        let follower =
            Follower::of_commands(cluster.clone(), Arc::clone(&topic), replication_factor, own);
        let (instruct_tx, instruction) = watch::channel(Instruction::Unknown);
        let mut instructing = JoinSet::new();
        instructing.spawn(instruct(follower.view(), role, instruct_tx));
        let announcer = Announcer {
            writer: ExactWriter::new(cluster.clone()),
            topic,
            role,
            name: name.clone(),
            standing: standing_rx,
            view: follower.view(),
            reported: None,
        };
        let mut announcing = JoinSet::new();
        announcing.spawn(announcer.run());
        Self {
            name,
            instruction,
            standing,
            _follower: follower,
            announcing,
            _instructing: instructing,
        }
    }

    /// Returns the instance's name: that of its host, and some digits that no other process has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the service is to do; the receiver sees every change.
    pub fn instruction(&self) -> watch::Receiver<Instruction> {
        self.instruction.clone()
    }

    /// Returns what this instance has said of itself last; the receiver sees every change.
    pub fn standing(&self) -> watch::Receiver<Option<Standing>> {
        self.standing.subscribe()
    }

    /// Says what this instance does, and the command that it follows in that, without waiting for anything. `Paused` is for
    /// one that has nothing under way any more.
    pub fn say(&self, state: RunState, command: Option<&str>, member_id: Option<&str>) {
        self.standing.send_if_modified(|present| {
            let since_ms = match present {
                Some(said) if said.state == state => said.since_ms,
                Some(_) | None => Some(now_ms()),
            };
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let (command, member_id) = (owned(command), owned(member_id));
            let standing = Some(Standing { state, command, since_ms, member_id });
            let is_news = *present != standing;
            *present = standing;
            is_news
        });
    }

    /// Takes back what this instance has said of itself, if that takes no longer than a second.
    ///
    /// # Cancel safety
    /// A dropped future may not have taken it back; the instance then counts as gone after a while.
    pub async fn end(self) {
        let Self { standing, mut announcing, .. } = self;
        drop(standing);
        if timeout(END_MAX, announcing.join_next()).await.is_err() {
            tracing::debug!("the control topic does not take a goodbye");
        }
    }
}

/// Returns a name for this process that will hardly be given again.
fn instance_name(host: &str) -> String {
    let digits = SysRng.try_next_u32().unwrap_or_else(|_no_source| std::process::id());
    format!("{host}-{digits:08x}")
}

/// Tells what a service is to do as the view changes, and logs it.
async fn instruct(
    mut view: watch::Receiver<ControlView>,
    role: Role,
    instruction: watch::Sender<Instruction>,
) {
    let begun = Instant::now();
    let mut give_up = Some(begun + FIRST_READ_PATIENCE);
    loop {
        let seen = view.borrow_and_update().clone();
        let found = instruction_of(&seen, role);
        if found != Instruction::Unknown {
            give_up = None;
            tell(&instruction, found, seen.desired(role));
        }
        let changed = match give_up {
            None => Ok(view.changed().await),
            Some(at) => timeout_at(at, view.changed()).await,
        };
        match changed {
            Ok(Ok(())) => {}
            // The follower is gone, so is the service.
            Ok(Err(_closed)) => return,
            Err(_elapsed) if begun.elapsed() < FIRST_READ_MAX => {
                tracing::warn!("waiting for the control topic, which tells whether to run");
                give_up = Some(begun + FIRST_READ_MAX);
            }
            Err(_elapsed) => {
                tracing::warn!("the control topic does not answer: running without its word");
                give_up = None;
                tell(&instruction, Instruction::Run { command: None }, &Desired::default());
            }
        }
    }
}

/// Returns what the view says; unknown until there is something to be known.
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
    desired.by.clone().unwrap_or_else(|| "somebody".to_owned())
}

/// Hands an instruction on, and logs what it changes.
fn tell(instruction: &watch::Sender<Instruction>, found: Instruction, desired: &Desired) {
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

/// The report with which an instance begins: whoever commands after it was acknowledged finds the instance in the topic.
pub(crate) struct Announcement {
    cluster: Cluster,
    role: Role,
    name: String,
    standing: watch::Receiver<Option<Standing>>,
}

impl Announcement {
    /// Writes it until it is acknowledged, or the topic does not take it.
    pub(crate) async fn announce(&self, topic: &str, partition: i32) {
        let mut writer = ExactWriter::new(self.cluster.clone());
        let begun = Instant::now();
        let paused =
            Standing { state: RunState::Paused, since_ms: Some(now_ms()), ..Standing::default() };
        loop {
            let standing = self.standing.borrow().clone().unwrap_or_else(|| paused.clone());
            let (role, name, standing) = (self.role, self.name.clone(), Some(standing));
            let entry = Entry::Instance { role, name, standing };
            match write(&mut writer, topic, partition, &[entry]).await {
                Ok(()) => return,
                Err(error @ ProduceError::Refused { .. }) => {
                    tracing::debug!(%error, "the control topic does not take a report");
                    return;
                }
                Err(error @ (ProduceError::NotSent { .. } | ProduceError::Unknown { .. })) => {
                    tracing::debug!(%error, "reporting to the control topic again");
                }
            }
            if ANNOUNCE_MAX <= begun.elapsed() {
                return;
            }
            sleep(BACKOFF.0).await;
        }
    }
}

/// Writes what an instance says of itself: when it changes, and every few seconds.
struct Announcer {
    writer: ExactWriter,
    topic: Arc<str>,
    role: Role,
    name: String,
    standing: watch::Receiver<Option<Standing>>,
    /// Tells where reports go.
    view: watch::Receiver<ControlView>,
    reported: Option<Instant>,
}

impl Announcer {
    async fn run(mut self) {
        loop {
            let standing = self.standing.borrow_and_update().clone();
            if let Some(standing) = standing {
                self.write(standing).await;
            }
            tokio::select! {
                changed = self.standing.changed() => if changed.is_err() {
                    break;
                },
                () = sleep(SIGN_INTERVAL) => {}
            }
        }
        let Some(reports) = self.reports() else { return };
        let goodbye = [self.entry(None)];
        if let Err(error) = write(&mut self.writer, &self.topic, reports, &goodbye).await {
            tracing::debug!(%error, "could not say goodbye in the control topic");
        }
    }

    /// Writes what the instance says until that is acknowledged, or something else is to be said.
    async fn write(&mut self, standing: Standing) {
        let Some(reports) = self.reports() else { return };
        let entries = [self.entry(Some(standing))];
        let mut backoff = BACKOFF.0;
        loop {
            let failed = tokio::select! {
                written = write(&mut self.writer, &self.topic, reports, &entries) => match written {
                    Ok(()) => return,
                    Err(error) => error,
                },
                changed = self.standing.changed() => return self.leave_changed(changed.is_ok()),
            };
            self.report(&failed);
            tokio::select! {
                () = sleep(backoff) => {}
                changed = self.standing.changed() => return self.leave_changed(changed.is_ok()),
            }
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Leaves what is new to be seen by the next look.
    fn leave_changed(&mut self, is_news: bool) {
        if is_news {
            self.standing.mark_changed();
        }
    }

    fn entry(&self, standing: Option<Standing>) -> Entry {
        Entry::Instance { role: self.role, name: self.name.clone(), standing }
    }

    /// Returns the partition that reports go to; `None` while there is no topic.
    fn reports(&self) -> Option<i32> {
        self.view.borrow().reports()
    }

    fn report(&mut self, error: &ProduceError) {
        let is_refused = matches!(error, ProduceError::Refused { .. });
        if is_refused && self.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            let error = chain(error);
            tracing::warn!(topic = %self.topic, error, "the control topic does not take what this instance says of itself");
            self.reported = Some(Instant::now());
        } else {
            tracing::debug!(%error, "writing to the control topic again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{COMMANDS, REPORTS};

    #[tokio::test(start_paused = true)]
    async fn nothing_is_known_until_the_topic_was_read() {
        let (view, mut instruction, _task) = instructed(Role::Processor);
        view.send_modify(|view| view.apply(COMMANDS, word("1", RunState::Paused), 1, now()));
        sleep(FIRST_READ_MAX / 2).await;
        assert_eq!(*instruction.borrow_and_update(), Instruction::Unknown);

        view.send_modify(|view| view.advance(COMMANDS, 1));
        instruction.changed().await.unwrap();
        assert_eq!(*instruction.borrow_and_update(), pause("1"));

        view.send_modify(|view| view.apply(COMMANDS, word("2", RunState::Running), 2, now()));
        instruction.changed().await.unwrap();
        assert_eq!(
            *instruction.borrow_and_update(),
            Instruction::Run { command: Some("2".to_owned()) }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_may_not_be_read_stops_nobody() {
        let (view, mut instruction, _task) = instructed(Role::Processor);
        let begun = Instant::now();
        view.send_modify(|view| view.refuse("not allowed".to_owned()));
        instruction.changed().await.unwrap();
        assert_eq!(*instruction.borrow_and_update(), Instruction::Run { command: None });
        assert!(begun.elapsed() < FIRST_READ_PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_does_not_answer_stops_nobody_for_ever_and_has_its_word_when_it_does() {
        let (view, mut instruction, _task) = instructed(Role::Processor);
        let begun = Instant::now();
        instruction.changed().await.unwrap();
        assert_eq!(*instruction.borrow_and_update(), Instruction::Run { command: None });
        assert!(begun.elapsed() >= FIRST_READ_MAX);

        view.send_modify(|view| {
            view.apply(COMMANDS, word("1", RunState::Paused), 1, now());
            view.advance(COMMANDS, 1);
        });
        instruction.changed().await.unwrap();
        assert_eq!(*instruction.borrow_and_update(), pause("1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_word_to_another_role_is_none_to_this_one() {
        let (view, mut instruction, _task) = instructed(Role::Generator);
        view.send_modify(|view| {
            view.apply(COMMANDS, word("1", RunState::Paused), 1, now());
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

    /// An operator says the same twice: the second command has to be followed as well, by another report.
    #[tokio::test(start_paused = true)]
    async fn a_command_that_says_the_same_again_is_another_instruction() {
        let (view, mut instruction, _task) = instructed(Role::Processor);
        for command in ["1", "2"] {
            view.send_modify(|view| {
                view.apply(COMMANDS, word(command, RunState::Paused), 1, now());
                view.advance(COMMANDS, 1);
            });
            instruction.changed().await.unwrap();
            assert_eq!(*instruction.borrow_and_update(), pause(command));
        }
    }

    fn word(command: &str, state: RunState) -> Entry {
        let by = Some("kim".to_owned());
        Entry::Desired(
            Role::Processor,
            Some(Desired { id: Some(command.to_owned()), state, at_ms: None, by }),
        )
    }

    fn pause(command: &str) -> Instruction {
        Instruction::Pause { by: "kim".to_owned(), command: Some(command.to_owned()) }
    }

    fn now() -> std::time::Instant {
        Instant::now().into_std()
    }
}
