//! The dead letters as the dashboard shows them, and what can be done with them there.
//!
//! Each call reads the dead-letter topic to the end that it has, as the commands do.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use dead_letter::rfc3339;
use serde::Deserialize;
use serde_json::{Value, json};
use service_runtime::Context;

use super::Overview;
use super::decoded::{Decoded, Decoder};
use super::dismiss;
use super::filter::{Filter, Key};
use super::journal::Dismissal;
use super::letter::{Letter, Place};
use super::list::{self, Causes};
use super::render::{TEXT_BYTES_MAX, bytes, cut, dump};
use super::standing::State;
use crate::replay::{self, Others};
use crate::settings::ConsoleSettings;

/// The most letters that are shown one by one.
pub(crate) const LETTERS_MAX: usize = 200;
/// The longest value that is kept to be decoded, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The longest text of a letter that is shown alone, in bytes.
const WHOLE_TEXT_BYTES_MAX: usize = 16 * 1024;
/// The most headers of a letter that are shown, and the most bytes of all their names and values.
const HEADERS_MAX: usize = 500;
const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Letters alone are left that failed after so many replays.
const REPLAYS_MAX: u32 = 3;

/// Which letters are looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Looking {
    #[serde(rename = "type")]
    error_type: Option<String>,
    state: Option<String>,
    key: Option<String>,
    partition: Option<i32>,
    limit: Option<usize>,
}

/// Which letters something is done with: those at places, or those that a filter takes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chosen {
    places: Option<Vec<String>>,
    filter: Option<Looking>,
    limit: Option<u64>,
    #[serde(default)]
    dry_run: bool,
    /// Only letters below these offsets of the dead-letter topic's partitions: those that a dry run has counted.
    before: Option<BTreeMap<i32, i64>>,
    reason: Option<String>,
}

/// A request that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unclear(String);

impl Looking {
    /// Looks at the newest letters, at most so many, of all types or of one.
    pub(crate) fn newest(error_type: Option<String>, limit: usize) -> Self {
        Self { error_type, limit: Some(limit), ..Self::default() }
    }

    fn filter(&self) -> Result<(Filter, Option<State>), Unclear> {
        let known = [State::Unresolved, State::Replayed, State::Dismissed];
        let state = match self.state.as_deref().filter(|state| !state.is_empty()) {
            None => None,
            Some(word) => {
                Some(known.into_iter().find(|state| state.as_str() == word).ok_or_else(|| {
                    Unclear("state is unresolved, replayed or dismissed".to_owned())
                })?)
            }
        };
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let filter = Filter {
            types: text(&self.error_type).into_iter().collect(),
            key: text(&self.key).and_then(|key| Key::from_str(&key).ok()),
            partition: self.partition,
            ..Filter::default()
        };
        Ok((filter, state))
    }
}

impl Chosen {
    /// Returns whether letters are only counted.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    fn filter(&self) -> Result<Filter, Unclear> {
        Ok(Filter { before: self.before.clone(), ..self.named()? })
    }

    fn named(&self) -> Result<Filter, Unclear> {
        match (&self.places, &self.filter) {
            (Some(places), None) if !places.is_empty() => {
                let places = places.iter().map(|place| Place::from_str(place));
                let places = places.collect::<Result<_, _>>();
                let places = places.map_err(|error| Unclear(error.to_string()))?;
                Ok(Filter { places, ..Filter::default() })
            }
            (None, Some(looking)) => {
                let (filter, state) = looking.filter()?;
                if state.is_some_and(|state| state != State::Unresolved) {
                    let words = "only unresolved dead letters can be replayed or dismissed";
                    return Err(Unclear(words.to_owned()));
                }
                Ok(filter)
            }
            (_, _) => {
                let words = "say which dead letters: places that are not none, or a filter";
                Err(Unclear(words.to_owned()))
            }
        }
    }
}

/// One letter of a list.
struct Line {
    object: Value,
    value: Option<Vec<u8>>,
    schema_header: Option<Vec<u8>>,
}

/// Returns the letters by cause, and the newest of those that are looked at.
///
/// # Errors
/// [`Unclear`], or when the cluster does not answer.
pub(crate) async fn list(
    settings: &ConsoleSettings,
    context: &Context,
    looking: &Looking,
) -> anyhow::Result<Value> {
    let (filter, wanted) = looking.filter()?;
    let limit = looking.limit.unwrap_or(50).min(LETTERS_MAX);
    let overview = Overview::read(settings.clone(), context.clone()).await?;
    let mut causes = Causes::default();
    let mut newest: BTreeMap<(i64, Place), Line> = BTreeMap::new();
    let mut walk = overview.walk(&Filter::default());
    while let Some(chunk) = walk.next().await? {
        for letter in walk.letters(&chunk) {
            let state = overview.state(&letter);
            causes.add(&letter, state);
            if !filter.takes(&letter) || wanted.is_some_and(|wanted| wanted != state) {
                continue;
            }
            let rank = (letter.failed_at_ms(), letter.place);
            let is_newest = newest.first_key_value().is_none_or(|(oldest, _)| *oldest < rank);
            if newest.len() < limit || is_newest {
                newest.insert(rank, line(&letter, state));
            }
            if newest.len() > limit {
                newest.pop_first();
            }
        }
    }
    let mut decoder = Decoder::new(settings);
    let mut lines = Vec::new();
    for mut line in newest.into_values().rev() {
        if let Some(value) = &line.value
            && let Decoded::Order(order, _) =
                decoder.decode_value(value, line.schema_header.as_deref()).await
        {
            line.object["order_id"] = json!(listed_text(&order.order_id));
            line.object["product"] = json!(listed_text(&order.product));
            line.object["price"] = json!(order.price);
        }
        lines.push(line.object);
    }
    let mut object = list::json(&overview, &causes, walk.passed_over);
    object["newest"] = Value::Array(lines);
    Ok(object)
}

fn line(letter: &Letter<'_>, standing: State) -> Line {
    let cause = &letter.cause;
    let object = json!({
        "place": letter.place.to_string(),
        "partition": letter.place.partition,
        "offset": letter.place.offset,
        "state": standing.as_str(),
        "type": listed_text(cause.type_or_label()),
        "class": cause.class.as_deref().map(listed_text),
        "message": cause.message.as_deref().map(listed_text),
        "topic": cause.topic.as_deref().map(listed_text),
        "source_partition": cause.partition,
        "source_offset": cause.offset,
        "failed_at": rfc3339(letter.failed_at_ms()),
        "attempts": cause.attempts,
        "replay_count": letter.identity.replay_count,
        "order_id": Value::Null,
        "product": Value::Null,
        "price": Value::Null,
    });
    let value = letter.value.filter(|value| value.len() <= VALUE_BYTES_MAX);
    let schema_header = letter.schema_header();
    Line { object, value: value.map(<[u8]>::to_vec), schema_header }
}

/// Letters about which nothing was decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unresolved {
    pub(crate) letters: u64,
    /// When the first of them failed, in milliseconds since 1970.
    pub(crate) oldest_ms: Option<i64>,
}

/// Counts the letters that were neither replayed nor dismissed.
///
/// # Errors
/// When the cluster does not answer.
pub(crate) async fn unresolved(
    settings: &ConsoleSettings,
    context: &Context,
) -> anyhow::Result<Unresolved> {
    let overview = Overview::read(settings.clone(), context.clone()).await?;
    let mut unresolved = Unresolved::default();
    let mut walk = overview.walk(&Filter::default());
    while let Some(chunk) = walk.next().await? {
        for letter in walk.letters(&chunk) {
            if overview.state(&letter) == State::Unresolved {
                let failed_at_ms = letter.failed_at_ms();
                unresolved.letters += 1;
                let oldest_ms =
                    unresolved.oldest_ms.map_or(failed_at_ms, |ms| ms.min(failed_at_ms));
                unresolved.oldest_ms = Some(oldest_ms);
            }
        }
    }
    Ok(unresolved)
}

/// Returns everything about one letter; `None` if there is none at that place.
///
/// # Errors
/// When the cluster does not answer.
pub(crate) async fn letter(
    settings: &ConsoleSettings,
    context: &Context,
    place: Place,
) -> anyhow::Result<Option<Value>> {
    let overview = Overview::read(settings.clone(), context.clone()).await?;
    let filter = Filter { places: [place].into(), ..Filter::default() };
    let mut decoder = Decoder::new(settings);
    let mut walk = overview.walk(&filter);
    while let Some(chunk) = walk.next().await? {
        for letter in walk.letters(&chunk) {
            if filter.takes(&letter) {
                let value = decoder.decode(&letter).await;
                let dismissal = overview.journal.decisions().dismissal(&letter.identity);
                return Ok(Some(whole(&letter, overview.state(&letter), dismissal, value)));
            }
        }
    }
    Ok(None)
}

fn whole(
    letter: &Letter<'_>,
    state: State,
    dismissal: Option<&Dismissal>,
    decoded: Decoded,
) -> Value {
    let mut object = line(letter, state).object;
    let dismissal = dismissal.map(|Dismissal { reason, at_ms, by }| {
        json!({ "reason": reason, "at": rfc3339(*at_ms), "by": by })
    });
    let headers = headers(letter);
    let (format, error) = match decoded {
        Decoded::Order(order, format) => {
            object["order_id"] = json!(whole_text(&order.order_id));
            object["product"] = json!(whole_text(&order.product));
            object["price"] = json!(order.price);
            (Some(format), None)
        }
        Decoded::NotAnOrder(why) => (None, Some(whole_text(&why))),
        Decoded::NoRegistry(why) => (None, Some(format!("the registry does not answer: {why}"))),
        Decoded::Nothing => (None, None),
        Decoded::Omitted => {
            (None, Some("the value was too large for the dead-letter topic".to_owned()))
        }
    };
    let cause = &letter.cause;
    for (name, value) in [
        ("type", json!(whole_text(cause.type_or_label()))),
        ("message", json!(cause.message.as_deref().map(whole_text))),
        ("author", json!(cause.author.as_str())),
        ("stage", json!(cause.stage.as_deref().map(listed_text))),
        ("group", json!(cause.group.as_deref().map(listed_text))),
        ("produced_at", json!(cause.produced_at_ms.map(rfc3339))),
        ("written_at", json!(rfc3339(letter.timestamp_ms))),
        ("dismissal", json!(dismissal)),
        ("key", json!(letter.key.map(shown))),
        ("value", json!(letter.value.map(shown))),
        ("value_format", json!(format)),
        ("decode_error", json!(error)),
        ("headers_left_out", json!(letter.headers.len() - headers.len())),
        ("headers", json!(headers)),
    ] {
        object[name] = value;
    }
    object
}

/// Returns the first headers of a letter, as many as an answer has room for.
fn headers(letter: &Letter<'_>) -> Vec<Value> {
    let mut room = HEADERS_BYTES_MAX;
    let shown = letter.headers.iter().take(HEADERS_MAX).map_while(|(name, value)| {
        let bytes_of = name.len() + value.map_or(0, |value| value.len().min(WHOLE_TEXT_BYTES_MAX));
        room = room.checked_sub(bytes_of)?;
        Some(json!({ "name": bytes(name), "value": value.map(shown) }))
    });
    shown.collect()
}

/// Returns bytes as a text, where they are one without control characters, and as a dump.
fn shown(bytes: &[u8]) -> Value {
    let text = str::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control));
    json!({ "text": text.map(whole_text), "hex": dump(bytes).join("\n"), "bytes": bytes.len() })
}

fn listed_text(text: &str) -> String {
    cut(text, TEXT_BYTES_MAX)
}

fn whole_text(text: &str) -> String {
    cut(text, WHOLE_TEXT_BYTES_MAX)
}

/// Sends the chosen letters again, or counts them. What ended it before everything was sent is told beside the counts.
///
/// # Errors
/// [`Unclear`], [`Busy`](replay::Busy) when another replay runs, or when the cluster does not answer before anything was sent.
pub(crate) async fn replay(
    settings: &ConsoleSettings,
    context: &Context,
    chosen: &Chosen,
    by: String,
) -> anyhow::Result<Value> {
    let request = replay::Request {
        filter: chosen.filter()?,
        limit: chosen.limit.unwrap_or(u64::MAX),
        replays_max: REPLAYS_MAX,
        destination: replay::Destination::ReplayTopic,
        dropped: Vec::new(),
        interval: None,
        mode: if chosen.dry_run { replay::Mode::DryRun } else { replay::Mode::Send },
        others: Others::Respect,
        by,
        is_json: true,
    };
    let mut overview = Overview::open(settings.clone(), context.clone()).await?;
    let report = replay::execute(&mut overview, &request).await?;
    let (tally, outcome) = report.tally();
    let mut object = serde_json::to_value(tally)?;
    object["dry_run"] = json!(chosen.dry_run);
    object["before"] = json!(overview.ends());
    object["error"] = json!(outcome.err().map(|error| format!("{error:#}")));
    Ok(object)
}

/// Puts the chosen letters aside, or counts them.
///
/// # Errors
/// [`Unclear`], or when the cluster does not answer.
pub(crate) async fn dismiss(
    settings: &ConsoleSettings,
    context: &Context,
    chosen: &Chosen,
    by: String,
) -> anyhow::Result<Value> {
    let reason = chosen.reason.clone().map(|reason| reason.trim().to_owned());
    let reason = reason.filter(|reason| !reason.is_empty());
    if reason.is_none() && !chosen.dry_run {
        return Err(Unclear("say the reason".to_owned()).into());
    }
    if reason.as_ref().is_some_and(|reason| reason.len() > TEXT_BYTES_MAX) {
        let words = format!("the reason is too long: {TEXT_BYTES_MAX} bytes are kept");
        return Err(Unclear(words).into());
    }
    let request = dismiss::Request {
        filter: chosen.filter()?,
        limit: chosen.limit.unwrap_or(u64::MAX),
        reason: Some(reason.unwrap_or_default()),
        by,
    };
    let mode = if chosen.dry_run { dismiss::Mode::DryRun } else { dismiss::Mode::Write };
    let mut overview = Overview::open(settings.clone(), context.clone()).await?;
    let changes = dismiss::execute(&mut overview, &request, mode).await?;
    let dismissed = if chosen.dry_run { 0 } else { changes.changed };
    Ok(json!({
        "dry_run": chosen.dry_run,
        "chosen": changes.changed,
        "dismissed": dismissed,
        "before": overview.ends(),
    }))
}

#[cfg(test)]
mod tests {
    use dead_letter::RawHeader;
    use kafka_core::record_batch::{BatchBuilder, batches};
    use uuid::Uuid;

    use super::*;
    use crate::dlq::letter::Desk;

    #[test]
    fn an_answer_about_a_letter_does_not_grow_with_the_letter() {
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
        let desk =
            Desk { topic: "orders-dlq".into(), topic_id: Uuid::nil(), group: "night".into() };
        let letter = desk.read(0, &record);

        let listed = line(&letter, State::Unresolved).object.to_string();
        assert!(listed.len() < 64 * 1024, "{} bytes in a list", listed.len());
        let decoded = Decoded::NotAnOrder(long.clone());
        let object = whole(&letter, State::Unresolved, None, decoded);
        let alone = object.to_string();
        assert!(alone.len() < 1024 * 1024, "{} bytes alone", alone.len());
        let shown = object["headers"].as_array().unwrap().len();
        assert_eq!(object["headers_left_out"], json!(headers.len() - shown));
        assert_eq!(object["key"]["bytes"], json!(long.len()));
    }
}
