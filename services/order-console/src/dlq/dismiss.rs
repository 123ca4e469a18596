//! `dlq dismiss`: letters are put aside, or taken up again.

use dead_letter::actions::Action;
use service_runtime::grouped;

use super::filter::Filter;
use super::standing::State;
use super::{Overview, dead_letters};
use crate::output::Output;
use service_runtime::now_ms;

/// What an operator asks for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) filter: Filter,
    pub(crate) limit: u64,
    /// Why the letters are put aside; `None` takes them up again.
    pub(crate) reason: Option<String>,
    pub(crate) by: String,
}

/// How many letters were changed, and how many others were meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) changed: u64,
    /// What has become of them is something else already.
    pub(crate) others: u64,
}

/// Puts letters aside that are unresolved, or takes up again those that were put aside, and prints how many.
///
/// # Errors
/// As [`execute`].
pub(crate) async fn run(mut overview: Overview, request: &Request) -> anyhow::Result<()> {
    let Changes { changed, others } = execute(&mut overview, request, Mode::Write).await?;
    let word = if request.reason.is_some() { "dismissed" } else { "taken up again" };
    let mut output = Output::new();
    output.line(&format!("{word}: {}", dead_letters(changed)))?;
    if others > 0 {
        let wanted = request.wanted().as_str();
        output.line(&format!("left alone: {} that are not {wanted}", grouped(others)))?;
    }
    output.flush()
}

/// Whether letters are changed or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Write,
    DryRun,
}

impl Request {
    /// Returns what has to have become of a letter that is to be changed.
    fn wanted(&self) -> State {
        if self.reason.is_some() { State::Unresolved } else { State::Dismissed }
    }
}

/// Puts letters aside that are unresolved, or takes up again those that were put aside.
///
/// # Errors
/// When the cluster does not answer for long, or when told to stop; what was written by then holds.
pub(crate) async fn execute(
    overview: &mut Overview,
    request: &Request,
    mode: Mode,
) -> anyhow::Result<Changes> {
    if mode == Mode::Write {
        overview.journal.create(&overview.settings).await?;
    }
    overview.read_sent().await?;
    let wanted = request.wanted();
    let at_ms = now_ms();
    let mut changes = Changes::default();
    let mut walk = overview.walk(&request.filter);
    while let Some(chunk) = walk.next().await? {
        let mut actions = Vec::new();
        for letter in walk.letters(&chunk) {
            if changes.changed == request.limit || !request.filter.takes(&letter) {
                continue;
            }
            if overview.state(&letter) != wanted {
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
            overview.journal.write_all(&actions).await?;
        }
    }
    Ok(changes)
}
