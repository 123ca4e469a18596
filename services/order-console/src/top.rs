//! `order-console top`: the view in a terminal, and keys that pause and resume services.
//!
//! ```text
//!  keys, resizes ──► state ──► actions: control topic, dead letters ──► results ─┐
//!                      ▲ │  ▲                                                    │
//!  view, log lines ────┘ │  └────────────────────────────────────────────────────┘
//!                        └──► draw ──► terminal
//! ```
//!
//! Reading order: `state` is what the screen shows and what keys do, `draw` makes a picture of it, both without IO.
//! `commands` writes commands one after the other, and `terminal` takes the terminal over and gives it back. Like the
//! dashboard this is a process of its own, which takes nothing from the processors and needs nothing of them.

mod commands;
mod draw;
mod format;
mod state;
mod terminal;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use service_runtime::{Context, HeldLines};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::commands::Commands;
use self::draw::Scene;
use self::state::{Action, Command, ListQuery, State};
use self::terminal::Screen;
use crate::control;
use crate::dlq::query::{self, LetterList, Query};
use crate::settings::ConsoleSettings;
use crate::view::View;
use crate::view::body::Snapshot;

pub(crate) use self::draw::Look;
pub(crate) use self::terminal::is_there as has_terminal;

/// The least time between two pictures without a key.
const PICTURE_PAUSE: Duration = Duration::from_millis(250);
/// The most letters of a cause.
const LETTERS_MAX: usize = 100;

/// Shows the group until the operator quits. Commands are written in the name of `by`.
pub(crate) async fn run(
    settings: ConsoleSettings,
    context: Context,
    look: Look,
    by: String,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let view = View::start(&settings, &mut tasks)?;
    // In this order: lines of the log are written after the terminal was given back.
    let mut lines = context.console.hold_lines();
    let mut screen = Screen::take()?;
    let mut top = Top {
        look,
        snapshots: view.changes(),
        view,
        state: State::default(),
        reading: JoinSet::new(),
        commands: {
            let settings = settings.clone();
            Commands::new(move |command| write(settings.clone(), command, by.clone()))
        },
        settings,
        context,
    };
    top.show(&mut screen, &mut lines, &mut tasks).await?;
    drop((screen, lines));
    let stop = top.context.stop.clone();
    // The operator learns whether confirmed commands were written.
    while let Some(Some(written)) = stop.run_until_cancelled(top.commands.written()).await {
        let (_command, outcome) = written.context("write to the control topic")?;
        outcome.map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

/// The screen, and the work in progress.
struct Top {
    settings: ConsoleSettings,
    context: Context,
    view: View,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    state: State,
    look: Look,
    /// The query of dead letters in progress.
    reading: JoinSet<(ListQuery, Result<LetterList, String>)>,
    commands: Commands,
}

impl Top {
    async fn show(
        &mut self,
        screen: &mut Screen,
        lines: &mut HeldLines,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<()> {
        let mut keys = EventStream::new();
        loop {
            self.view.look();
            let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            let action = self.state.look(&snapshot, Instant::now());
            self.perform(action);
            screen.show(Scene { snapshot: &snapshot, state: &self.state, look: self.look })?;
            let pause = sleep_until(Instant::now() + PICTURE_PAUSE);
            tokio::select! {
                () = self.context.stop.cancelled() => return Ok(()),
                event = keys.next() => {
                    let event = event.context("the terminal is gone")?.context("read a key")?;
                    let action = self.take(&event);
                    if action == Some(Action::Quit) {
                        return Ok(());
                    }
                    self.perform(action);
                }
                changed = async { pause.await; self.snapshots.changed().await } => {
                    changed.context("the observer of the group has ended")?;
                }
                line = lines.next() => self.state.logged(line),
                Some(read) = self.reading.join_next() => {
                    let (wanted, answer) = read.context("read dead letters")?;
                    self.state.answer(&wanted, answer);
                }
                Some(written) = self.commands.written() => {
                    let (command, outcome) = written.context("write to the control topic")?;
                    self.state.on_result(command, outcome);
                }
                Some(ended) = tasks.join_next() => {
                    ended.context("observe the group")?;
                    bail!("the observer of the group has ended");
                }
            }
        }
    }

    /// Handles an event of the terminal. A new size only needs a new picture.
    fn take(&mut self, event: &Event) -> Option<Action> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.state.key(*key),
            Event::Key(_)
            | Event::Resize(..)
            | Event::FocusGained
            | Event::FocusLost
            | Event::Mouse(_)
            | Event::Paste(_) => None,
        }
    }

    fn perform(&mut self, action: Option<Action>) {
        match action {
            None | Some(Action::Quit) => {}
            Some(Action::Read(wanted)) => {
                // One at a time: each reads a whole topic.
                self.reading = JoinSet::new();
                self.reading.spawn(read(self.settings.clone(), self.context.clone(), wanted));
            }
            Some(Action::Write(command)) => self.commands.push(command),
        }
    }
}

async fn read(
    settings: ConsoleSettings,
    context: Context,
    wanted: ListQuery,
) -> (ListQuery, Result<LetterList, String>) {
    let query = match &wanted {
        ListQuery::Causes => Query::newest(None, 0),
        ListQuery::Newest(error_type) => Query::newest(Some(error_type.clone()), LETTERS_MAX),
    };
    let answer = query::list(&settings, &context, &query).await;
    (wanted, answer.map_err(|error| format!("{error:#}")))
}

async fn write(settings: ConsoleSettings, command: Command, by: String) -> Result<(), String> {
    let written = control::command(&settings, &[command.role], command.state, by).await;
    written.map_err(|error| format!("{:#}", anyhow::Error::new(error)))
}
