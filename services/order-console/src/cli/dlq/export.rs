//! `dlq export`: letters as JSON lines, without loss.

use super::json::json_letter;
use crate::cli::output::Output;
use crate::dlq::filter::Filter;
use crate::dlq::letter_state::LetterState;
use crate::dlq::queue::DeadLetterQueue;

/// Prints one JSON object a line for each letter.
pub(super) async fn run(
    queue: &DeadLetterQueue,
    filter: &Filter,
    state: Option<LetterState>,
    limit: u64,
) -> anyhow::Result<()> {
    let mut output = Output::new();
    let mut left = limit;
    let mut walk = queue.walk(filter);
    while let Some(chunk) = walk.next().await? {
        for letter in walk.letters(&chunk) {
            if left == 0 {
                return output.flush();
            }
            let found = queue.state(&letter);
            if state.is_none_or(|wanted| wanted == found) {
                left -= 1;
                let object = json_letter(&queue.dlq.topic, &letter, Some(found));
                output.line(&object.to_string())?;
            }
        }
    }
    output.flush()
}
