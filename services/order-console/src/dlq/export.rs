//! `dlq export`: letters as JSON lines, without loss.

use super::Overview;
use super::filter::Filter;
use super::render::json_letter;
use super::standing::State;
use crate::output::Output;

/// Prints one JSON object a line for each letter.
///
/// # Errors
/// When the cluster does not answer, when told to stop, or when nobody reads the output any more.
pub(crate) async fn run(
    overview: &Overview,
    filter: &Filter,
    state: Option<State>,
    limit: u64,
) -> anyhow::Result<()> {
    let mut output = Output::new();
    let mut left = limit;
    let mut walk = overview.walk(filter);
    while let Some(chunk) = walk.next().await? {
        for letter in walk.letters(&chunk) {
            if left == 0 {
                return output.flush();
            }
            let found = overview.state(&letter);
            if filter.takes(&letter) && state.is_none_or(|wanted| wanted == found) {
                left -= 1;
                let object = json_letter(&overview.desk.topic, &letter, Some(found));
                output.line(&object.to_string())?;
            }
        }
    }
    output.flush()
}
