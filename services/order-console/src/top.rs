//! `order-console top`: what the view sees, in a terminal, and keys that steer.
//!
//! ```text
//!  keys, resizes ──► state ──► wishes: control topic, dead letters ──► answers ─┐
//!                      ▲ │                                                      │
//!  view, log lines ────┘ └──► draw ──► terminal       ▲─────────────────────────┘
//! ```
//!
//! Reading order: `state` is what is looked at and what keys do, `draw` makes a picture of it, both without IO;
//! `telling` sends commands one after the other, `terminal` takes the terminal over and gives it back. Like the dashboard
//! this is a process of its own, which takes nothing from the processors and needs nothing of them.

mod draw;
mod letters;
mod state;
mod telling;
mod terminal;
mod words;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use clap::builder::FalseyValueParser;
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use service_runtime::{Context, HeldLines};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::draw::{Look, Scene};
use self::letters::Board;
use self::state::{Command, State, Wanted, Wish};
use self::telling::Telling;
use self::terminal::Screen;
use crate::dlq::OperatorArguments;
use crate::dlq::board::{self, Looking};
use crate::settings::ConsoleSettings;
use crate::view::View;
use crate::view::body::Snapshot;

/// The least time between two pictures that no key has asked for.
const PICTURE_PAUSE: Duration = Duration::from_millis(250);
/// Letters of a cause that are shown.
const LETTERS_MAX: usize = 100;

/// What `top` is told.
#[derive(Clone, Debug, Args)]
pub struct TopArguments {
    /// Use no colours; also with the environment variable `NO_COLOR`.
    #[arg(long, env = "NO_COLOR", hide_env = true, value_parser = FalseyValueParser::new())]
    no_color: bool,
    #[command(flatten)]
    operator: OperatorArguments,
}

impl TopArguments {
    /// Checks that there is a terminal.
    ///
    /// # Errors
    /// With what can be done where there is none.
    pub fn check(&self) -> Result<(), &'static str> {
        if terminal::is_there() {
            return Ok(());
        }
        Err(
            "top draws on a terminal, and there is none: `order-console stats --watch` prints the numbers anywhere",
        )
    }
}

/// Shows the group until it is told to stop.
///
/// # Errors
/// When the terminal cannot be used, or the registry's URL.
pub async fn run(
    settings: ConsoleSettings,
    context: Context,
    arguments: TopArguments,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let view = View::start(&settings, &mut tasks)?;
    // In this order: lines of the log are written after the terminal was given back.
    let lines = context.console.hold_lines();
    let screen = Screen::take()?;
    let top = Top {
        look: if arguments.no_color { Look::Plain } else { Look::Colours },
        snapshots: view.changes(),
        view,
        state: State::default(),
        reading: JoinSet::new(),
        telling: {
            let (settings, by) = (settings.clone(), arguments.operator.name());
            Telling::new(move |command| tell(settings.clone(), command, by.clone()))
        },
        settings,
        context,
    };
    top.run(screen, lines, tasks).await
}

/// What is shown, and what is under way.
struct Top {
    settings: ConsoleSettings,
    context: Context,
    view: View,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    state: State,
    look: Look,
    /// The reading of dead letters that is waited for.
    reading: JoinSet<(Wanted, Result<Board, String>)>,
    /// The commands that are under way.
    telling: Telling,
}

impl Top {
    async fn run(
        mut self,
        mut screen: Screen,
        mut lines: HeldLines,
        mut tasks: JoinSet<()>,
    ) -> anyhow::Result<()> {
        self.show(&mut screen, &mut lines, &mut tasks).await?;
        drop((screen, lines));
        let stop = self.context.stop.clone();
        // Who has said yes is told whether it was done.
        while let Some(Some(told)) = stop.run_until_cancelled(self.telling.told()).await {
            let (_command, outcome) = told.context("write to the control topic")?;
            outcome.map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    /// Shows the group until the operator has seen enough.
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
            let wish = self.state.look(&snapshot, Instant::now());
            self.grant(wish);
            screen.show(Scene { snapshot: &snapshot, state: &self.state, look: self.look })?;
            let pause = sleep_until(Instant::now() + PICTURE_PAUSE);
            tokio::select! {
                () = self.context.stop.cancelled() => return Ok(()),
                event = keys.next() => {
                    let event = event.context("the terminal is gone")?.context("read a key")?;
                    let wish = self.take(&event);
                    if wish == Some(Wish::Quit) {
                        return Ok(());
                    }
                    self.grant(wish);
                }
                changed = async { pause.await; self.snapshots.changed().await } => {
                    changed.context("nobody watches the group any more")?;
                }
                line = lines.next() => self.state.logged(line),
                Some(read) = self.reading.join_next() => {
                    let (wanted, answer) = read.context("read dead letters")?;
                    self.state.answer(&wanted, answer);
                }
                Some(told) = self.telling.told() => {
                    let (command, outcome) = told.context("write to the control topic")?;
                    self.state.told(command, outcome);
                }
                Some(ended) = tasks.join_next() => {
                    ended.context("watch the group")?;
                    bail!("nobody watches the group any more");
                }
            }
        }
    }

    /// Takes what happened at the terminal. A new size needs nothing but a picture.
    fn take(&mut self, event: &Event) -> Option<Wish> {
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

    fn grant(&mut self, wish: Option<Wish>) {
        match wish {
            None | Some(Wish::Quit) => {}
            Some(Wish::Read(wanted)) => {
                // One at a time: each reads a whole topic.
                self.reading = JoinSet::new();
                self.reading.spawn(read(self.settings.clone(), self.context.clone(), wanted));
            }
            Some(Wish::Tell(command)) => self.telling.tell(command),
        }
    }
}

async fn read(
    settings: ConsoleSettings,
    context: Context,
    wanted: Wanted,
) -> (Wanted, Result<Board, String>) {
    let looking = match &wanted {
        Wanted::Causes => Looking::newest(None, 0),
        Wanted::Newest(error_type) => Looking::newest(Some(error_type.clone()), LETTERS_MAX),
    };
    let answer = board::list(&settings, &context, &looking).await;
    let board = answer.and_then(|answer| Ok(Board::read(answer)?));
    (wanted, board.map_err(|error| format!("{error:#}")))
}

async fn tell(settings: ConsoleSettings, command: Command, by: String) -> Result<(), String> {
    let topics = &settings.topics;
    let (topic, replication_factor) = (&topics.control_topic, topics.replication_factor);
    let roles = [command.role];
    let cluster = settings.cluster();
    let told =
        control_topic::command(&cluster, topic, replication_factor, &roles, command.state, by)
            .await;
    told.map(drop).map_err(|error| format!("{:#}", anyhow::Error::new(error)))
}
