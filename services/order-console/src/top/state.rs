//! What the screen shows, and what keys do. No IO.
//!
//! ```text
//!            d            Enter
//!  group    ───► causes ─────────► letters of one cause        ? shows the keys, over each of them
//!           ◄───        ◄─────────                             p r P R ask, over each of them
//!            Esc           Esc
//! ```

use std::cmp::Reverse;
use std::time::Duration;

use control_topic::record::{Role, RunState};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tokio::time::Instant;

use crate::dlq::query::LetterList;
use crate::view::body::{Partition, Snapshot};

/// Rows that Page Up and Page Down move by.
const PAGE: usize = 10;
/// The least time between two automatic readings of the dead-letter topic.
const READING_PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Group,
    Causes,
    Letters,
}

/// What partitions are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Lag,
    Behind,
    Partition,
    Orders,
    /// Most that wait for a retry first.
    Waiting,
    DeadLetters,
}

/// A command to the services of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) role: Role,
    pub(super) state: RunState,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Write(Command),
    Read(ListQuery),
}

/// Which dead letters are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListQuery {
    Causes,
    /// The newest of one type.
    Newest(String),
}

/// One line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Done(String),
    Problem(String),
}

/// Dead letters that were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct List {
    /// The last answer, or why there is none.
    pub(super) answer: Option<Result<LetterList, String>>,
    pub(super) is_awaited: bool,
    pub(super) cursor: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    pub(super) pane: Pane,
    pub(super) is_help: bool,
    pub(super) sort: Sort,
    /// Partitions above the first one that is shown.
    pub(super) scroll: usize,
    /// The command that the operator is asked to confirm.
    pub(super) question: Option<Command>,
    pub(super) message: Option<Message>,
    pub(super) causes: List,
    pub(super) letters: List,
    /// The type of the letters that are shown.
    pub(super) error_type: String,
    partitions: usize,
    /// Dead letters and replays that there are, and that there were when they were read.
    counts: (u64, u64),
    counted: (u64, u64),
    /// When the last answer came.
    since: Option<Instant>,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Lag => Self::Behind,
            Self::Behind => Self::Partition,
            Self::Partition => Self::Orders,
            Self::Orders => Self::Waiting,
            Self::Waiting => Self::DeadLetters,
            Self::DeadLetters => Self::Lag,
        }
    }

    /// Returns the partitions in this order; those that are equal stay by topic and number.
    pub(super) fn sorted(self, partitions: &[Partition]) -> Vec<&Partition> {
        let mut sorted: Vec<&Partition> = partitions.iter().collect();
        match self {
            // An unknown value may be any.
            Self::Lag => sorted.sort_by_key(|p| Reverse(p.lag.unwrap_or(i64::MAX))),
            Self::Behind => sorted.sort_by(|one, other| {
                let seconds = |p: &Partition| p.lag_seconds.unwrap_or(f64::MAX);
                seconds(other).total_cmp(&seconds(one))
            }),
            Self::Partition => {}
            Self::Orders => sorted.sort_by_key(|partition| Reverse(partition.orders)),
            Self::Waiting => sorted.sort_by_key(|partition| Reverse(partition.waiting)),
            Self::DeadLetters => {
                sorted.sort_by_key(|partition| Reverse(partition.dead_letters));
            }
        }
        sorted
    }
}

impl Command {
    pub(super) fn question(self) -> String {
        match self.state {
            RunState::Paused => format!("Pause all {}s? y/n", self.role),
            RunState::Running => format!("Resume all {}s? y/n", self.role),
        }
    }

    fn outcome(self) -> String {
        format!("all {}s: {}", self.role, self.state)
    }
}

impl List {
    fn found(&self) -> Option<&LetterList> {
        self.answer.as_ref()?.as_ref().ok()
    }
}

impl State {
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Action::Quit);
        }
        self.message = None;
        if let Some(command) = self.question.take() {
            if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                let text = format!("commanding the {}s …", command.role);
                self.message = Some(Message::Done(text));
                return Some(Action::Write(command));
            }
            self.message = Some(Message::Done("nothing was changed".to_owned()));
            return None;
        }
        if key.code == KeyCode::Char('q') {
            return Some(Action::Quit);
        }
        if self.is_help {
            self.is_help = false;
            return None;
        }
        let KeyCode::Char(letter) = key.code else { return self.move_about(key.code) };
        let (role, state) = match letter {
            'p' => (Role::Processor, RunState::Paused),
            'r' => (Role::Processor, RunState::Running),
            'P' => (Role::Generator, RunState::Paused),
            'R' => (Role::Generator, RunState::Running),
            '?' => {
                self.is_help = true;
                return None;
            }
            _ => return self.move_about(key.code),
        };
        self.question = Some(Command { role, state });
        None
    }

    fn move_about(&mut self, code: KeyCode) -> Option<Action> {
        match (self.pane, code) {
            (Pane::Group, KeyCode::Char('s')) => {
                self.sort = self.sort.next();
                self.scroll = 0;
            }
            (Pane::Group, KeyCode::Char('d')) => {
                self.pane = Pane::Causes;
                return self.read();
            }
            (Pane::Group, code) => self.scroll = moved(self.scroll, self.partitions, code),
            (Pane::Causes, KeyCode::Enter) => {
                let cause = self.causes.found()?.report.causes.get(self.causes.cursor)?;
                self.error_type.clone_from(&cause.error_type);
                self.letters = List::default();
                self.pane = Pane::Letters;
                return self.read();
            }
            (Pane::Letters, KeyCode::Esc) => self.pane = Pane::Causes,
            (Pane::Causes, KeyCode::Esc) | (Pane::Causes | Pane::Letters, KeyCode::Char('d')) => {
                self.pane = Pane::Group;
            }
            (Pane::Causes | Pane::Letters, KeyCode::Char('u')) => return self.read(),
            (Pane::Causes, code) => {
                let rows = self.causes.found().map_or(0, |found| found.report.causes.len());
                self.causes.cursor = moved(self.causes.cursor, rows, code);
            }
            (Pane::Letters, code) => {
                let rows = self.letters.found().map_or(0, |found| found.newest.len());
                self.letters.cursor = moved(self.letters.cursor, rows, code);
            }
        }
        None
    }

    /// Reads the list of the pane. The last answer stays until the next comes.
    fn read(&mut self) -> Option<Action> {
        let query = match self.pane {
            Pane::Group => return None,
            Pane::Causes => ListQuery::Causes,
            Pane::Letters => ListQuery::Newest(self.error_type.clone()),
        };
        // An answer to an earlier query is dropped.
        (self.causes.is_awaited, self.letters.is_awaited) = (false, false);
        (self.counted, self.since) = (self.counts, None);
        self.list(&query)?.is_awaited = true;
        Some(Action::Read(query))
    }

    fn list(&mut self, wanted: &ListQuery) -> Option<&mut List> {
        match wanted {
            ListQuery::Causes => Some(&mut self.causes),
            ListQuery::Newest(of) => (*of == self.error_type).then_some(&mut self.letters),
        }
    }

    pub(super) fn answer(&mut self, wanted: &ListQuery, answer: Result<LetterList, String>) {
        let Some(list) = self.list(wanted).filter(|list| list.is_awaited) else { return };
        let rows = answer.as_ref().map_or(0, |found| match wanted {
            ListQuery::Causes => found.report.causes.len(),
            ListQuery::Newest(_) => found.newest.len(),
        });
        list.cursor = list.cursor.min(rows.saturating_sub(1));
        list.answer = Some(answer);
        list.is_awaited = false;
    }

    pub(super) fn on_result(&mut self, command: Command, outcome: Result<(), String>) {
        self.message = Some(match outcome {
            Ok(()) => Message::Done(command.outcome()),
            Err(why) => Message::Problem(format!("not done: {why}")),
        });
    }

    pub(super) fn logged(&mut self, line: String) {
        self.message = Some(Message::Problem(line));
    }

    /// Takes a snapshot, and reads the dead letters again if they have changed while they are shown.
    pub(super) fn look(&mut self, snapshot: &Snapshot, now: Instant) -> Option<Action> {
        self.partitions = snapshot.stats.partitions.len();
        self.scroll = self.scroll.min(self.partitions.saturating_sub(1));
        let numbers = &snapshot.stats.numbers;
        self.counts = (numbers.dead_letters, numbers.replayed);
        if self.pane == Pane::Group || self.causes.is_awaited || self.letters.is_awaited {
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let is_due = self.counted != self.counts && now.duration_since(since) >= READING_PAUSE;
        is_due.then(|| self.read()).flatten()
    }
}

/// Returns where a key moves something that stands at one of `rows`.
fn moved(at: usize, rows: usize, code: KeyCode) -> usize {
    let last = rows.saturating_sub(1);
    let to = match (code, last) {
        (KeyCode::Up | KeyCode::Char('k'), _) => at.saturating_sub(1),
        (KeyCode::Down | KeyCode::Char('j'), _) => at.saturating_add(1),
        (KeyCode::PageUp, _) => at.saturating_sub(PAGE),
        (KeyCode::PageDown, _) => at.saturating_add(PAGE),
        (KeyCode::Home, _) => 0,
        (KeyCode::End, last) => last,
        (_, _) => at,
    };
    to.min(last)
}

#[cfg(test)]
mod tests;
