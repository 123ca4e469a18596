//! Commands to services, one after the other: of two that contradict each other the later one holds, however long the first
//! takes.

use std::collections::VecDeque;
use std::fmt;

use futures_util::future::BoxFuture;
use tokio::task::{JoinError, JoinSet};

use super::state::Command;

/// What became of a command.
type Told = (Command, Result<(), String>);

/// The commands that are under way, and how one is told.
pub(super) struct Telling {
    tell: Box<dyn Fn(Command) -> BoxFuture<'static, Result<(), String>> + Send>,
    waiting: VecDeque<Command>,
    /// The one that is told.
    task: JoinSet<Told>,
}

impl fmt::Debug for Telling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telling").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Telling {
    /// Nothing is to be told yet; `tell` tells one command, and returns why it could not.
    pub(super) fn new<F>(tell: impl Fn(Command) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let tell = Box::new(move |command| -> BoxFuture<'static, _> { Box::pin(tell(command)) });
        Self { tell, waiting: VecDeque::new(), task: JoinSet::new() }
    }

    /// Tells a command after those before it.
    pub(super) fn tell(&mut self, command: Command) {
        self.waiting.push_back(command);
        self.go_on();
    }

    /// Returns what became of the next command; `None` when there is none.
    ///
    /// Cancel safe.
    pub(super) async fn told(&mut self) -> Option<Result<Told, JoinError>> {
        let told = self.task.join_next().await?;
        self.go_on();
        Some(told)
    }

    fn go_on(&mut self) {
        if !self.task.is_empty() {
            return;
        }
        if let Some(command) = self.waiting.pop_front() {
            let told = (self.tell)(command);
            self.task.spawn(async move { (command, told.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use control_topic::record::{Role, RunState};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_command_waits_for_those_before_it_however_they_end() {
        let pause = Command { role: Role::Processor, state: RunState::Paused };
        let resume = Command { state: RunState::Running, ..pause };
        let written = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&written);
        let mut telling = Telling::new(move |command: Command| {
            let log = Arc::clone(&log);
            async move {
                // The broker is away at first.
                if command == pause {
                    sleep(Duration::from_secs(10)).await;
                }
                log.lock().unwrap().push(command);
                if command == pause { Err("no".to_owned()) } else { Ok(()) }
            }
        });
        for command in [pause, resume, pause, resume] {
            telling.tell(command);
        }
        let mut told = Vec::new();
        while let Some(answer) = telling.told().await {
            told.push(answer.unwrap());
        }
        assert_eq!(*written.lock().unwrap(), [pause, resume, pause, resume]);
        let outcomes = [(pause, Err("no".to_owned())), (resume, Ok(()))];
        assert_eq!(told, [outcomes.clone(), outcomes].concat());
    }
}
