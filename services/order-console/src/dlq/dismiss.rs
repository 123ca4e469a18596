//! Letters are dismissed, or reopened.

use clap::Args;
use dead_letter::actions::Action;
use service_runtime::now_ms;

use super::filter::Selection;
use super::letter_state::LetterState;
use super::queue::DeadLetterQueue;
use crate::operator::Operator;

/// What an operator asks for.
#[derive(Clone, Debug, Args)]
pub struct Request {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Why; operators who show the letters read it.
    #[arg(long, required_unless_present = "undo", conflicts_with = "undo")]
    pub(crate) reason: Option<String>,
    /// Reopen letters that were dismissed.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Whether the letters are only counted.
    #[arg(skip)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) operator: Operator,
}

/// How many letters were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) changed: u64,
    /// Letters that were selected and are in another state.
    pub(crate) others: u64,
}

impl Request {
    pub(crate) fn wanted(&self) -> LetterState {
        if self.undo { LetterState::Dismissed } else { LetterState::Unresolved }
    }
}

/// Dismisses letters that are unresolved, or reopens those that were dismissed.
pub(crate) async fn execute(
    queue: &mut DeadLetterQueue,
    request: &Request,
) -> anyhow::Result<Changes> {
    if !request.dry_run {
        queue.actions.create(&queue.settings).await?;
    }
    queue.read_sent().await?;
    let (wanted, filter) = (request.wanted(), request.selection.filter());
    let limit = request.selection.limit.unwrap_or(u64::MAX);
    let at_ms = now_ms();
    let mut changes = Changes::default();
    let mut walk = queue.walk(&filter);
    while let Some(chunk) = walk.next().await? {
        let mut actions = Vec::new();
        for letter in walk.letters(&chunk) {
            if changes.changed == limit {
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
                    Action::Dismissed { identity, reason, at_ms, by: request.operator.by.clone() }
                }
                None => Action::Reopened { identity },
            });
        }
        if !request.dry_run {
            queue.actions.write_all(&actions).await?;
        }
    }
    Ok(changes)
}
