//! `dlq show`: everything about a letter.

use anyhow::bail;
use dead_letter::{ReplayOf, names};
use serde_json::json;
use service_runtime::printable;

use super::json::json_letter;
use crate::cli::output::Output;
use crate::dlq::decisions::Dismissal;
use crate::dlq::decoded::{Decoded, Decoder};
use crate::dlq::filter::Filter;
use crate::dlq::letter::Letter;
use crate::dlq::letter_state::LetterState;
use crate::dlq::queue::DeadLetterQueue;
use crate::text::{bytes, dump, header_value, nullable};
use crate::time::Time;

/// The width of the labels.
const LABEL_CHARS: usize = 12;

pub(super) async fn run(
    queue: &DeadLetterQueue,
    filter: &Filter,
    decoder: &mut Decoder,
    is_json: bool,
) -> anyhow::Result<()> {
    let mut output = Output::new();
    let mut shown = 0;
    let mut walk = queue.walk(filter);
    while let Some(chunk) = walk.next().await? {
        for letter in walk.letters(&chunk) {
            let state = queue.state(&letter);
            let value = decoder.decode(&letter).await;
            if is_json {
                let mut object = json_letter(&queue.dlq.topic, &letter, Some(state));
                object["order"] = match &value {
                    Decoded::Order(order, _) => json!(order),
                    Decoded::NotAnOrder(_)
                    | Decoded::NoRegistry(_)
                    | Decoded::Nothing
                    | Decoded::Omitted => json!(null),
                };
                output.line(&object.to_string())?;
            } else {
                let dismissal = queue.actions.decisions().dismissal(&letter.identity);
                let separator = if shown == 0 { "" } else { "\n" };
                let topic = &queue.dlq.topic;
                let text = text(topic, &letter, state, dismissal, &value);
                output.text(&format!("{separator}{text}"))?;
            }
            shown += 1;
        }
    }
    output.flush()?;
    if shown == 0 {
        bail!("no such dead letter in {}", queue.dlq.topic);
    }
    Ok(())
}

/// Lines of a label and its value.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, label: &str, value: &str) {
        self.0.push_str(format!("  {label:<LABEL_CHARS$}  {value}").trim_end());
        self.0.push('\n');
    }

    fn some(&mut self, label: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.line(label, &printable(value.as_ref()));
        }
    }
}

fn text(
    topic: &str,
    letter: &Letter<'_>,
    state: LetterState,
    dismissal: Option<&Dismissal>,
    decoded: &Decoded,
) -> String {
    let cause = &letter.cause;
    let mut page = Page(format!("{topic} {}: {}\n", letter.place, state.as_str()));
    let class = cause.class.as_deref().map(|class| format!(" ({class})")).unwrap_or_default();
    page.line("type", &printable(&format!("{}{class}", cause.type_or_label())));
    page.some("message", cause.message.as_ref());
    page.some("stage", cause.stage.as_ref());
    page.line("written by", cause.author.as_str());
    let failed_in = [
        cause.topic.clone(),
        cause.partition.map(|partition| format!("partition {partition}")),
        cause.offset.map(|offset| format!("offset {offset}")),
    ];
    let failed_in: Vec<String> = failed_in.into_iter().flatten().collect();
    page.line("failed in", &printable(&failed_in.join(", ")));
    page.some("topic id", letter.text(names::TOPIC_ID));
    page.some("for", cause.group.as_ref());
    page.some("attempts", cause.attempts.map(|attempts| attempts.to_string()));
    page.line("replays", &letter.identity.replay_count.to_string());
    let time = |ms| Time::of(ms).to_the_second();
    page.some("produced", cause.produced_at_ms.map(time));
    page.line("failed", &time(letter.failed_at_ms()));
    page.line("written", &time(letter.timestamp_ms));
    if let Some(Dismissal { reason, at, by }) = dismissal {
        page.line("dismissed", &printable(&format!("{reason} ({by}, {})", at.to_the_second())));
    }
    match letter.text(names::KEY) {
        Some(names::OMITTED) => {
            left_out(&mut page, letter, "key", names::KEY_BYTES, names::KEY_SHA256);
        }
        Some(_) | None => page.line("key", &nullable(letter.key)),
    }
    value(&mut page, letter, decoded);
    page.line("headers", &letter.headers.len().to_string());
    for (name, value) in &letter.headers {
        page.line("", &format!("{} = {}", bytes(name), header_value(name, *value)));
    }
    page.0
}

fn value(page: &mut Page, letter: &Letter<'_>, decoded: &Decoded) {
    let size = letter.value.map_or(0, <[u8]>::len);
    match decoded {
        Decoded::Order(order, format) => {
            page.line("value", &format!("{size} bytes, {format}"));
            page.line("order", &printable(&order.order_id));
            page.line("product", &printable(&order.product));
            page.line("price", &order.price.to_string());
            return;
        }
        Decoded::Nothing => return page.line("value", "null"),
        Decoded::Omitted => {
            left_out(page, letter, "value", names::VALUE_BYTES, names::VALUE_SHA256);
            let ReplayOf { topic, partition, offset, .. } = &letter.origin;
            let source = format!("replay fetches it from {topic}-{partition} at offset {offset}");
            return page.line("", &printable(&source));
        }
        Decoded::NotAnOrder(why) => {
            page.line("value", &format!("{size} bytes, no order: {}", printable(why)));
        }
        Decoded::NoRegistry(why) => {
            page.line("value", &format!("{size} bytes, not decoded: {}", printable(why)));
        }
    }
    for line in dump(letter.value.unwrap_or_default()) {
        page.line("", &line);
    }
}

fn left_out(page: &mut Page, letter: &Letter<'_>, label: &str, bytes: &str, digest: &str) {
    let bytes = letter.text(bytes).unwrap_or("?");
    let digest = letter.text(digest).unwrap_or("?");
    page.line(label, &printable(&format!("left out: {bytes} bytes, SHA-256 {digest}")));
}

#[cfg(test)]
mod tests {
    use dead_letter::Identity;
    use dead_letter::cause::Cause;
    use uuid::Uuid;

    use super::*;
    use crate::dlq::letter::Place;

    #[test]
    fn a_letter_that_spring_wrote_is_shown_with_its_numbers() {
        let headers: Vec<(&[u8], Option<&[u8]>)> = vec![
            (b"kafka_dlt-original-topic", Some(b"orders")),
            (b"kafka_dlt-original-partition", Some(b"\0\0\0\x02")),
            (b"kafka_dlt-original-offset", Some(b"\0\0\0\0\0\0\0\x29")),
            (b"kafka_dlt-exception-fqcn", Some(b"com.example.BankAway")),
            (b"kafka_dlt-exception-message", Some(b"no\x1banswer")),
            (b"trace", None),
            (b"\xff", Some(b"\xfe")),
        ];
        let topic_id = Uuid::nil();
        let letter = Letter {
            place: Place { partition: 0, offset: 17 },
            timestamp_ms: 1_700_000_000_123,
            key: Some(b"A-1"),
            value: Some(b"nonsense"),
            cause: Cause::of(&headers),
            headers,
            identity: Identity {
                topic_id,
                partition: 0,
                offset: 17,
                group: "night".into(),
                replay_count: 0,
            },
            origin: ReplayOf { topic: "orders-dlq".into(), topic_id, partition: 0, offset: 17 },
        };
        let dismissal = Dismissal {
            reason: "a test".into(),
            at: Time::of(1_700_000_060_000),
            by: "kim".into(),
        };
        let decoded = Decoded::NotAnOrder("no format".into());
        let text = text("orders-dlq", &letter, LetterState::Dismissed, Some(&dismissal), &decoded);
        assert_eq!(
            text,
            "\
orders-dlq 0:17: dismissed
  type          com.example.BankAway
  message       no\u{fffd}answer
  written by    Spring
  failed in     orders, partition 2, offset 41
  replays       0
  failed        2023-11-14T22:13:20Z
  written       2023-11-14T22:13:20Z
  dismissed     a test (kim, 2023-11-14T22:14:20Z)
  key           A-1
  value         8 bytes, no order: no format
                000000  6e 6f 6e 73 65 6e 73 65                          nonsense
  headers       7
                kafka_dlt-original-topic = orders
                kafka_dlt-original-partition = 2
                kafka_dlt-original-offset = 41
                kafka_dlt-exception-fqcn = com.example.BankAway
                kafka_dlt-exception-message = no\u{fffd}answer
                trace = null
                0xff = 0xfe
"
        );
    }
}
