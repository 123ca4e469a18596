//! Commands to services, written one after the other: of two that contradict each other the later one wins, even if the
//! first takes long.

use std::collections::VecDeque;
use std::fmt;

use futures_util::future::BoxFuture;
use tokio::task::{JoinError, JoinSet};

use super::state::Command;

/// A command and its result.
type Written = (Command, Result<(), String>);

/// The commands that wait to be written.
pub(super) struct Commands {
    write: Box<dyn Fn(Command) -> BoxFuture<'static, Result<(), String>> + Send>,
    waiting: VecDeque<Command>,
    /// The one that is being written.
    task: JoinSet<Written>,
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Commands {
    /// `write` writes one command, and returns why it could not.
    pub(super) fn new<F>(write: impl Fn(Command) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let write = Box::new(move |command| -> BoxFuture<'static, _> { Box::pin(write(command)) });
        Self { write, waiting: VecDeque::new(), task: JoinSet::new() }
    }

    pub(super) fn push(&mut self, command: Command) {
        self.waiting.push_back(command);
        self.write_next();
    }

    /// Returns the result of the next command; `None` when there is none.
    ///
    /// Cancel safe.
    pub(super) async fn written(&mut self) -> Option<Result<Written, JoinError>> {
        let written = self.task.join_next().await?;
        self.write_next();
        Some(written)
    }

    fn write_next(&mut self) {
        if !self.task.is_empty() {
            return;
        }
        if let Some(command) = self.waiting.pop_front() {
            let written = (self.write)(command);
            self.task.spawn(async move { (command, written.await) });
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
    async fn a_command_waits_for_those_before_it_even_if_they_fail() {
        let pause = Command { role: Role::Processor, state: RunState::Paused };
        let resume = Command { state: RunState::Running, ..pause };
        let topic = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&topic);
        let mut commands = Commands::new(move |command: Command| {
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
            commands.push(command);
        }
        let mut results = Vec::new();
        while let Some(answer) = commands.written().await {
            results.push(answer.unwrap());
        }
        assert_eq!(*topic.lock().unwrap(), [pause, resume, pause, resume]);
        let outcomes = [(pause, Err("no".to_owned())), (resume, Ok(()))];
        assert_eq!(results, [outcomes.clone(), outcomes].concat());
    }
}
