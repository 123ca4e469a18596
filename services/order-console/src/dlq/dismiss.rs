//! Letters are dismissed, or reopened.

use dead_letter::actions::Action;
use service_runtime::now_ms;

use super::filter::Filter;
use super::letter_state::LetterState;
use super::queue::DeadLetterQueue;

/// What an operator asks for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) filter: Filter,
    pub(crate) limit: u64,
    /// Why the letters are dismissed; `None` reopens them.
    pub(crate) reason: Option<String>,
    pub(crate) by: String,
}

/// How many letters were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) changed: u64,
    /// Letters that were selected and are in another state.
    pub(crate) others: u64,
}

/// Whether letters are changed or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Write,
    DryRun,
}

impl Request {
    pub(crate) fn wanted(&self) -> LetterState {
        if self.reason.is_some() { LetterState::Unresolved } else { LetterState::Dismissed }
    }
}

/// Dismisses letters that are unresolved, or reopens those that were dismissed.
pub(crate) async fn execute(
    queue: &mut DeadLetterQueue,
    request: &Request,
    mode: Mode,
) -> anyhow::Result<Changes> {
    if mode == Mode::Write {
        queue.actions.create(&queue.settings).await?;
    }
    queue.read_sent().await?;
    let wanted = request.wanted();
    let at_ms = now_ms();
    let mut changes = Changes::default();
    let mut walk = queue.walk(&request.filter);
    while let Some(chunk) = walk.next().await? {
        let mut actions = Vec::new();
        for letter in walk.letters(&chunk) {
            if changes.changed == request.limit || !request.filter.takes(&letter) {
                continue;
            }
            if queue.state(&letter) != wanted {
                changes.others += 1;
                continue;
            }
            changes.changed += 1;
            let identity = letter.identity.clone();
            actions.push(match request.reason.clone() {
                Some(reason) => {
                    Action::Dismissed { identity, reason, at_ms, by: request.by.clone() }
                }
                None => Action::Reopened { identity },
            });
        }
        if mode == Mode::Write {
            queue.actions.write_all(&actions).await?;
        }
    }
    Ok(changes)
}
