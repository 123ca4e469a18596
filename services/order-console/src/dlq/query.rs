//! Queries of the dead-letter queue: the newest letters, one letter.
//!
//! Each query reads the dead-letter topic to the end that it has.

use std::collections::BTreeMap;

use clap::ValueEnum as _;
use order_avro::Order;
use serde::{Deserialize, Serialize};
use service_runtime::Context;
use utoipa::{IntoParams, ToSchema};

use super::causes::{CauseReport, Causes};
use super::decisions::Dismissal;
use super::decoded::{Decoded, Decoder, Undecoded};
use super::filter::Filter;
use super::letter::{Letter, Place};
use super::letter_state::LetterState;
use super::queue::DeadLetterQueue;
use crate::settings::ConsoleSettings;
use crate::text::{TEXT_BYTES_MAX, bytes, cut, dump};
use crate::time::Time;

/// The most letters of one answer.
pub(crate) const LETTERS_MAX: usize = 200;
/// Letters of an answer to a query without a limit.
const LETTERS_DEFAULT: usize = 50;
/// The longest value that is kept to be decoded, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The longest text in the details of a letter, in bytes.
const WHOLE_TEXT_BYTES_MAX: usize = 16 * 1024;
/// The most headers in the details of a letter, and the most bytes of all their names and values.
const HEADERS_MAX: usize = 500;
const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// An invalid or ambiguous request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidRequest(pub(crate) String);

/// A query for letters. All of its fields have to match; without any, all letters do.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[schema(as = Filter)]
pub(crate) struct Query {
    /// Only failures of this type.
    #[serde(rename = "type")]
    error_type: Option<String>,
    /// Only letters in this state.
    #[param(value_type = Option<LetterState>, inline)]
    #[schema(value_type = Option<LetterState>, inline)]
    state: Option<String>,
    /// Only records with this key: a text, or 0x and hexadecimal digits.
    key: Option<String>,
    /// Only records that failed in this partition.
    #[param(minimum = 0)]
    #[schema(minimum = 0)]
    partition: Option<i32>,
    /// At most so many of the newest; 200 are the most.
    #[param(minimum = 1, default = 50)]
    #[schema(ignore)]
    limit: Option<usize>,
}

impl Query {
    /// Returns a query for the newest letters, at most so many, of all types or of one.
    pub(crate) fn newest(error_type: Option<String>, limit: usize) -> Self {
        Self { error_type, limit: Some(limit), ..Self::default() }
    }

    /// Returns the filter, and the state that letters have to be in.
    pub(crate) fn filter(&self) -> Result<(Filter, Option<LetterState>), InvalidRequest> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let state = given(&self.state).map(|name| {
            LetterState::from_str(&name, false).map_err(|_unknown| {
                InvalidRequest("state is unresolved, replayed or dismissed".to_owned())
            })
        });
        let filter = Filter {
            types: given(&self.error_type).into_iter().collect(),
            key: given(&self.key).and_then(|key| key.parse().ok()),
            partition: self.partition,
            ..Filter::default()
        };
        Ok((filter, state.transpose()?))
    }
}

/// The dead letters by cause, and the newest of those that match a query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = Dlq)]
pub(crate) struct LetterList {
    #[serde(flatten)]
    pub(crate) report: CauseReport,
    /// The newest first.
    pub(crate) newest: Vec<LetterLine>,
}

/// A dead letter in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct LetterLine {
    /// Where the letter is in the dead-letter topic.
    pub(crate) place: Place,
    #[schema(minimum = 0)]
    pub(crate) partition: i32,
    #[schema(minimum = 0)]
    pub(crate) offset: i64,
    #[schema(inline)]
    pub(crate) state: LetterState,
    #[serde(rename = "type")]
    pub(crate) error_type: String,
    pub(crate) class: Option<String>,
    pub(crate) message: Option<String>,
    /// The topic in which the record failed.
    pub(crate) topic: Option<String>,
    #[schema(minimum = 0)]
    pub(crate) source_partition: Option<i32>,
    #[schema(minimum = 0)]
    pub(crate) source_offset: Option<i64>,
    pub(crate) failed_at: Time,
    pub(crate) attempts: Option<u32>,
    pub(crate) replay_count: u32,
    #[serde(flatten)]
    pub(crate) order: OrderFields,
}

/// The order in a letter's value, where it is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct OrderFields {
    pub(crate) order_id: Option<String>,
    pub(crate) product: Option<String>,
    pub(crate) price: Option<f32>,
}

/// A dead letter with all that it has.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Letter)]
pub(crate) struct LetterDetails {
    #[serde(flatten)]
    line: LetterLine,
    /// The kind of program that wrote it.
    author: &'static str,
    stage: Option<String>,
    group: Option<String>,
    produced_at: Option<Time>,
    written_at: Time,
    dismissal: Option<Dismissal>,
    key: Option<Bytes>,
    value: Option<Bytes>,
    /// The wire format of the order.
    value_format: Option<String>,
    /// Why the value could not be decoded.
    decode_error: Option<String>,
    /// The first ones: 500 at most, of 64 KiB together.
    headers: Vec<Header>,
    /// How many more there are.
    headers_left_out: usize,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Header {
    name: String,
    value: Option<Bytes>,
}

/// Bytes of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
struct Bytes {
    /// The bytes as text, where they are UTF-8 without control characters. A text of more than 16 KiB is cut and ends in …
    text: Option<String>,
    /// A dump of the first 4 KiB in hexadecimal.
    hex: String,
    /// How many there are.
    bytes: usize,
}

/// Returns the letters by cause, and the newest of those that match.
///
/// # Errors
/// [`InvalidRequest`], or when the cluster does not answer.
pub(crate) async fn list(
    settings: &ConsoleSettings,
    context: &Context,
    query: &Query,
) -> anyhow::Result<LetterList> {
    let (filter, wanted) = query.filter()?;
    let limit = query.limit.unwrap_or(LETTERS_DEFAULT).min(LETTERS_MAX);
    let queue = DeadLetterQueue::read(settings.clone(), context.clone()).await?;
    let mut causes = Causes::default();
    let mut newest: BTreeMap<(i64, Place), (LetterLine, Undecoded)> = BTreeMap::new();
    let mut walk = queue.walk(&Filter::default());
    while let Some(chunk) = walk.next().await? {
        for letter in walk.letters(&chunk) {
            let state = queue.state(&letter);
            causes.add(&letter, state);
            if !filter.takes(&letter) || wanted.is_some_and(|wanted| wanted != state) {
                continue;
            }
            let rank = (letter.failed_at_ms(), letter.place);
            let is_newest = newest.first_key_value().is_none_or(|(oldest, _)| *oldest < rank);
            if newest.len() < limit || is_newest {
                newest.insert(rank, undecoded(&letter, state));
            }
            if newest.len() > limit {
                newest.pop_first();
            }
        }
    }
    let mut decoder = Decoder::new(settings);
    let mut lines = Vec::new();
    for (mut line, value) in newest.into_values().rev() {
        if let Decoded::Order(order, _) = decoder.decode_kept(&value).await {
            line.order = OrderFields::of(&order, TEXT_BYTES_MAX);
        }
        lines.push(line);
    }
    Ok(LetterList { report: causes.report(&queue.dlq, walk.skipped), newest: lines })
}

impl OrderFields {
    fn of(order: &Order, bytes_max: usize) -> Self {
        Self {
            order_id: Some(cut(&order.order_id, bytes_max)),
            product: Some(cut(&order.product, bytes_max)),
            price: Some(order.price).filter(|price| price.is_finite()),
        }
    }
}

fn undecoded(letter: &Letter<'_>, state: LetterState) -> (LetterLine, Undecoded) {
    let cause = &letter.cause;
    let line = LetterLine {
        place: letter.place,
        partition: letter.place.partition,
        offset: letter.place.offset,
        state,
        error_type: listed_text(cause.type_or_label()),
        class: cause.class.as_deref().map(listed_text),
        message: cause.message.as_deref().map(listed_text),
        topic: cause.topic.as_deref().map(listed_text),
        source_partition: cause.partition,
        source_offset: cause.offset,
        failed_at: Time::of(letter.failed_at_ms()),
        attempts: cause.attempts,
        replay_count: letter.identity.replay_count,
        order: OrderFields::default(),
    };
    let value = letter.value.filter(|value| value.len() <= VALUE_BYTES_MAX);
    let value = value.map(<[u8]>::to_vec);
    (line, Undecoded { value, schema_header: letter.schema_header() })
}

/// Returns everything about one letter; `None` if there is none at that place.
pub(crate) async fn letter(
    settings: &ConsoleSettings,
    context: &Context,
    place: Place,
) -> anyhow::Result<Option<LetterDetails>> {
    let queue = DeadLetterQueue::read(settings.clone(), context.clone()).await?;
    let filter = Filter { places: [place].into(), ..Filter::default() };
    let mut decoder = Decoder::new(settings);
    let mut walk = queue.walk(&filter);
    while let Some(chunk) = walk.next().await? {
        if let Some(letter) = walk.letters(&chunk).first() {
            let value = decoder.decode(letter).await;
            let dismissal = queue.actions.decisions().dismissal(&letter.identity);
            return Ok(Some(details(letter, queue.state(letter), dismissal, value)));
        }
    }
    Ok(None)
}

fn details(
    letter: &Letter<'_>,
    state: LetterState,
    dismissal: Option<&Dismissal>,
    decoded: Decoded,
) -> LetterDetails {
    let cause = &letter.cause;
    let (mut line, _) = undecoded(letter, state);
    line.error_type = whole_text(cause.type_or_label());
    line.message = cause.message.as_deref().map(whole_text);
    let (value_format, decode_error) = match decoded {
        Decoded::Order(order, format) => {
            line.order = OrderFields::of(&order, WHOLE_TEXT_BYTES_MAX);
            (Some(format), None)
        }
        Decoded::NotAnOrder(why) => (None, Some(whole_text(&why))),
        Decoded::NoRegistry(why) => (None, Some(format!("the registry does not answer: {why}"))),
        Decoded::Nothing => (None, None),
        Decoded::Omitted => {
            (None, Some("the value was too large for the dead-letter topic".to_owned()))
        }
    };
    let headers = headers(letter);
    LetterDetails {
        line,
        author: cause.author.as_str(),
        stage: cause.stage.as_deref().map(listed_text),
        group: cause.group.as_deref().map(listed_text),
        produced_at: cause.produced_at_ms.map(Time::of),
        written_at: Time::of(letter.timestamp_ms),
        dismissal: dismissal.cloned(),
        key: letter.key.map(Bytes::of),
        value: letter.value.map(Bytes::of),
        value_format,
        decode_error,
        headers_left_out: letter.headers.len() - headers.len(),
        headers,
    }
}

/// Returns the first headers of a letter, as many as an answer has room for.
fn headers(letter: &Letter<'_>) -> Vec<Header> {
    let mut room = HEADERS_BYTES_MAX;
    let shown = letter.headers.iter().take(HEADERS_MAX).map_while(|(name, value)| {
        let bytes_of = name.len() + value.map_or(0, |value| value.len().min(WHOLE_TEXT_BYTES_MAX));
        room = room.checked_sub(bytes_of)?;
        Some(Header { name: bytes(name), value: value.map(Bytes::of) })
    });
    shown.collect()
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        let text = str::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control));
        Self { text: text.map(whole_text), hex: dump(bytes).join("\n"), bytes: bytes.len() }
    }
}

fn listed_text(text: &str) -> String {
    cut(text, TEXT_BYTES_MAX)
}

fn whole_text(text: &str) -> String {
    cut(text, WHOLE_TEXT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use dead_letter::RawHeader;
    use kafka_core::record_batch::{BatchBuilder, batches};
    use uuid::Uuid;

    use super::*;
    use crate::dlq::letter::DlqContext;

    #[test]
    fn the_size_of_an_answer_about_a_letter_does_not_grow_with_the_letter() {
        let long = "\u{1}".repeat(400_000);
        let mut headers: Vec<RawHeader<'_>> = vec![
            (b"__connect.errors.exception.class.name", Some(long.as_bytes())),
            (b"__connect.errors.exception.message", Some(long.as_bytes())),
            (b"__connect.errors.topic", Some(long.as_bytes())),
            (b"__connect.errors.stage", Some(long.as_bytes())),
            (b"__connect.errors.connector.name", Some(long.as_bytes())),
        ];
        headers.resize(100_000, (b"h", Some(b"v")));
        let bytes = Some(long.as_bytes());
        let batch = BatchBuilder::new(0).record(0, bytes, bytes, &headers).build().unwrap();
        let opened = batches(batch).next().unwrap().open(8 << 20).unwrap();
        let record = opened.records().next().unwrap().unwrap();
        let dlq =
            DlqContext { topic: "orders-dlq".into(), topic_id: Uuid::nil(), group: "night".into() };
        let letter = dlq.read(0, &record);

        let (line, _) = undecoded(&letter, LetterState::Unresolved);
        let listed = serde_json::to_string(&line).unwrap();
        assert!(listed.len() < 64 * 1024, "{} bytes in a list", listed.len());
        let decoded = Decoded::NotAnOrder(long.clone());
        let details = details(&letter, LetterState::Unresolved, None, decoded);
        let alone = serde_json::to_string(&details).unwrap();
        assert!(alone.len() < 1024 * 1024, "{} bytes alone", alone.len());
        assert_eq!(details.headers_left_out, headers.len() - details.headers.len());
        assert_eq!(details.key.unwrap().bytes, long.len());
    }
}
