//! What is looked at, and what keys do about it. No IO.
//!
//! ```text
//!            d            Enter
//!  overview ───► causes ─────────► letters of one cause        ? shows the keys, over each of them
//!           ◄───        ◄─────────                             p r P R ask, over each of them
//!            Esc           Esc
//! ```

use std::cmp::Reverse;
use std::time::Duration;

use control_topic::record::{Role, RunState};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tokio::time::Instant;

use super::letters::Board;
use crate::view::body::{Partition, Snapshot};

/// Rows that Page Up and Page Down move by.
const PAGE: usize = 10;
/// The least time between two readings of the dead-letter topic that nobody has asked for.
const READING_PAUSE: Duration = Duration::from_secs(5);

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Overview,
    Causes,
    Letters,
}

/// What partitions are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// Most records behind first.
    #[default]
    Lag,
    /// Longest behind first.
    Behind,
    /// By topic and number.
    Partition,
    /// Most orders first.
    Orders,
    /// Most that wait for a retry first.
    Waiting,
    /// Most dead letters first.
    DeadLetters,
}

/// What services are told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) role: Role,
    pub(super) state: RunState,
}

/// What a key wants of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Tell(Command),
    Read(Wanted),
}

/// Which dead letters are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All, by cause.
    Causes,
    /// The newest of one type.
    Newest(String),
}

/// One line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Done(String),
    Trouble(String),
}

/// Dead letters that were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct List {
    /// What was last read, or why it could not be.
    pub(super) answer: Option<Result<Board, String>>,
    pub(super) is_awaited: bool,
    pub(super) cursor: usize,
}

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    pub(super) pane: Pane,
    pub(super) is_help: bool,
    pub(super) sort: Sort,
    /// Partitions above the first one that is shown.
    pub(super) scroll: usize,
    /// What is asked.
    pub(super) question: Option<Command>,
    pub(super) message: Option<Message>,
    pub(super) causes: List,
    pub(super) letters: List,
    /// Whose letters are looked at.
    pub(super) error_type: String,
    partitions: usize,
    /// Dead letters and replays that there are, and that there were when they were read.
    counts: (u64, u64),
    counted: (u64, u64),
    /// Since when what was read is there.
    since: Option<Instant>,
}

impl Sort {
    /// Returns the next one.
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
            // Where it is not known, it may be anything.
            Self::Lag => sorted.sort_by_key(|p| Reverse(p.lag.unwrap_or(i64::MAX))),
            Self::Behind => sorted.sort_by(|one, other| {
                // Where it is not known, it may be anything.
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
    /// Returns what is asked before it is done.
    pub(super) fn question(self) -> String {
        match self.state {
            RunState::Paused => format!("Pause all {}s? y/n", self.role),
            RunState::Running => format!("Resume all {}s? y/n", self.role),
        }
    }

    fn outcome(self) -> String {
        format!("all {}s are told: {}", self.role, self.state)
    }
}

impl List {
    fn board(&self) -> Option<&Board> {
        self.answer.as_ref()?.as_ref().ok()
    }
}

impl State {
    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Wish::Quit);
        }
        self.message = None;
        if let Some(command) = self.question.take() {
            if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                let words = format!("telling the {}s …", command.role);
                self.message = Some(Message::Done(words));
                return Some(Wish::Tell(command));
            }
            self.message = Some(Message::Done("nothing was changed".to_owned()));
            return None;
        }
        if key.code == KeyCode::Char('q') {
            return Some(Wish::Quit);
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

    fn move_about(&mut self, code: KeyCode) -> Option<Wish> {
        match (self.pane, code) {
            (Pane::Overview, KeyCode::Char('s')) => {
                self.sort = self.sort.next();
                self.scroll = 0;
            }
            (Pane::Overview, KeyCode::Char('d')) => {
                self.pane = Pane::Causes;
                return self.read();
            }
            (Pane::Overview, code) => self.scroll = moved(self.scroll, self.partitions, code),
            (Pane::Causes, KeyCode::Enter) => {
                let cause = self.causes.board()?.causes.get(self.causes.cursor)?;
                self.error_type.clone_from(&cause.error_type);
                self.letters = List::default();
                self.pane = Pane::Letters;
                return self.read();
            }
            (Pane::Letters, KeyCode::Esc) => self.pane = Pane::Causes,
            (Pane::Causes, KeyCode::Esc) | (Pane::Causes | Pane::Letters, KeyCode::Char('d')) => {
                self.pane = Pane::Overview;
            }
            (Pane::Causes | Pane::Letters, KeyCode::Char('u')) => return self.read(),
            (Pane::Causes, code) => {
                let rows = self.causes.board().map_or(0, |board| board.causes.len());
                self.causes.cursor = moved(self.causes.cursor, rows, code);
            }
            (Pane::Letters, code) => {
                let rows = self.letters.board().map_or(0, |board| board.newest.len());
                self.letters.cursor = moved(self.letters.cursor, rows, code);
            }
        }
        None
    }

    /// Asks for what the pane shows. What is there stays until it comes.
    fn read(&mut self) -> Option<Wish> {
        let wanted = match self.pane {
            Pane::Overview => return None,
            Pane::Causes => Wanted::Causes,
            Pane::Letters => Wanted::Newest(self.error_type.clone()),
        };
        // Whatever else was asked for is not waited for any more.
        (self.causes.is_awaited, self.letters.is_awaited) = (false, false);
        (self.counted, self.since) = (self.counts, None);
        self.list(&wanted)?.is_awaited = true;
        Some(Wish::Read(wanted))
    }

    fn list(&mut self, wanted: &Wanted) -> Option<&mut List> {
        match wanted {
            Wanted::Causes => Some(&mut self.causes),
            Wanted::Newest(of) => (*of == self.error_type).then_some(&mut self.letters),
        }
    }

    /// Takes the dead letters that were asked for.
    pub(super) fn answer(&mut self, wanted: &Wanted, answer: Result<Board, String>) {
        let Some(list) = self.list(wanted).filter(|list| list.is_awaited) else { return };
        let rows = answer.as_ref().map_or(0, |board| match wanted {
            Wanted::Causes => board.causes.len(),
            Wanted::Newest(_) => board.newest.len(),
        });
        list.cursor = list.cursor.min(rows.saturating_sub(1));
        list.answer = Some(answer);
        list.is_awaited = false;
    }

    /// Takes what became of a command.
    pub(super) fn told(&mut self, command: Command, outcome: Result<(), String>) {
        self.message = Some(match outcome {
            Ok(()) => Message::Done(command.outcome()),
            Err(why) => Message::Trouble(format!("not done: {why}")),
        });
    }

    /// Takes a line of the log.
    pub(super) fn logged(&mut self, line: String) {
        self.message = Some(Message::Trouble(line));
    }

    /// Takes note of what is seen, and asks for dead letters again where they have changed while they are looked at.
    pub(super) fn look(&mut self, snapshot: &Snapshot, now: Instant) -> Option<Wish> {
        self.partitions = snapshot.stats.partitions.len();
        self.scroll = self.scroll.min(self.partitions.saturating_sub(1));
        let numbers = &snapshot.stats.numbers;
        self.counts = (numbers.dead_letters, numbers.replayed);
        if self.pane == Pane::Overview || self.causes.is_awaited || self.letters.is_awaited {
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
