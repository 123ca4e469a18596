//! `dlq watch`: letters as they arrive, decoded, one line each.

use service_runtime::printable;

use super::json::json_letter;
use crate::cli::output::Output;
use crate::dlq::decoded::{Decoded, Decoder};
use crate::dlq::filter::Filter;
use crate::dlq::follow::Follow;
use crate::dlq::letter::Letter;
use crate::text::{nullable, short};
use crate::time::Time;

/// Prints letters until an interrupt, or until there were `limit`.
pub(super) async fn run(
    follow: &mut Follow<'_>,
    filter: &Filter,
    limit: u64,
    decoder: &mut Decoder,
    is_json: bool,
) -> anyhow::Result<()> {
    let mut output = Output::new();
    let mut left = limit;
    while left > 0 {
        let Some(chunk) = follow.next().await? else { break };
        for letter in follow.letters(&chunk, filter) {
            if left > 0 {
                left -= 1;
                output.line(&line(follow.topic(), &letter, decoder, is_json).await)?;
            }
        }
        output.flush()?;
    }
    Ok(())
}

async fn line(topic: &str, letter: &Letter<'_>, decoder: &mut Decoder, is_json: bool) -> String {
    if is_json {
        // Nothing has become of a letter yet when it arrives.
        return json_letter(topic, letter, None).to_string();
    }
    let cause = &letter.cause;
    let place = match (&cause.topic, cause.partition, cause.offset) {
        (Some(topic), Some(partition), Some(offset)) => format!("{topic}-{partition}@{offset}"),
        (topic, _, _) => topic.clone().unwrap_or_else(|| "-".to_owned()),
    };
    let value = decoder.decode(letter).await;
    // Most keys are the order's id.
    let key = match &value {
        Decoded::Order(order, _) if letter.key == Some(order.order_id.as_bytes()) => String::new(),
        Decoded::Order(..)
        | Decoded::NotAnOrder(_)
        | Decoded::NoRegistry(_)
        | Decoded::Nothing
        | Decoded::Omitted => format!("key={} ", short(&nullable(letter.key))),
    };
    format!(
        "{} {} {} from {} {key}{} ({})",
        Time::of(letter.failed_at_ms()).to_the_second(),
        letter.place,
        printable(cause.type_or_label()),
        printable(&place),
        value.summary(),
        cause.message.as_deref().map_or_else(|| "no message".to_owned(), short),
    )
}
