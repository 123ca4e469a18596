//! `dlq dismiss`: letters are put aside, or taken up again.

use service_runtime::grouped;

use super::actions::Action;
use super::filter::Filter;
use super::output::Output;
use super::standing::State;
use super::{Overview, dead_letters};
use crate::clock::now_ms;

/// What an operator asks for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) filter: Filter,
    pub(super) limit: u64,
    /// Why the letters are put aside; `None` takes them up again.
    pub(super) reason: Option<String>,
    pub(super) by: String,
}

/// Puts letters aside that are unresolved, or takes up again those that were put aside.
///
/// # Errors
/// When the cluster does not answer for long, or when told to stop; what was written by then holds.
pub(super) async fn run(mut overview: Overview, request: &Request) -> anyhow::Result<()> {
    overview.journal.create(&overview.settings).await?;
    overview.read_sent().await?;
    let wanted = if request.reason.is_some() { State::Unresolved } else { State::Dismissed };
    let at_ms = now_ms();
    let mut changed = 0;
    let mut others = 0;
    let mut walk = overview.walk(&request.filter);
    while let Some(chunk) = walk.next().await? {
        let mut actions = Vec::new();
        for letter in walk.letters(&chunk) {
            if changed == request.limit || !request.filter.takes(&letter) {
                continue;
            }
            if overview.state(&letter) != wanted {
                others += 1;
                continue;
            }
            changed += 1;
            let identity = letter.identity.clone();
            actions.push(match request.reason.clone() {
                Some(reason) => {
                    Action::Dismissed { identity, reason, at_ms, by: request.by.clone() }
                }
                None => Action::Reopened { identity },
            });
        }
        overview.journal.write_all(&actions).await?;
    }
    let word = if request.reason.is_some() { "dismissed" } else { "taken up again" };
    let mut output = Output::new();
    output.line(&format!("{word}: {}", dead_letters(changed)))?;
    if others > 0 {
        output.line(&format!(
            "left alone: {} that are not {}",
            grouped(others),
            wanted.as_str()
        ))?;
    }
    output.flush()
}
