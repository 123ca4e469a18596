//! Dead letters counted by their cause.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::filter::Filter;
use super::letter::{DlqContext, Letter, Place};
use super::letter_state::LetterState;
use super::queue::DeadLetterQueue;
use super::walk::Skipped;
use crate::text::{TEXT_BYTES_MAX, cut};
use crate::time::Time;

/// The most causes that are counted apart; letters of any more are counted together.
const CAUSES_MAX: usize = 1_000;
const OTHER_CAUSES: &str = "other causes";

/// The dead letters of a group, counted by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct CauseReport {
    /// The dead-letter topic.
    pub(crate) topic: String,
    pub(crate) group: String,
    #[serde(flatten)]
    pub(crate) total: LetterCounts,
    #[serde(flatten)]
    pub(crate) skipped: Skipped,
    /// Those with most unresolved letters first.
    pub(crate) causes: Vec<Cause>,
}

/// How many dead letters there are, and what has become of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LetterCounts {
    pub(crate) letters: u64,
    pub(crate) unresolved: u64,
    pub(crate) replayed: u64,
    pub(crate) dismissed: u64,
}

/// Dead letters of one cause, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Cause {
    #[serde(rename = "type")]
    pub(crate) error_type: String,
    /// The exception class of the latest letter.
    pub(crate) class: Option<String>,
    /// The topic in which the records failed.
    pub(crate) topic: Option<String>,
    /// The kind of program that wrote the letters.
    pub(crate) author: &'static str,
    #[serde(flatten)]
    pub(crate) counts: LetterCounts,
    /// When the first of them failed.
    pub(crate) first: Time,
    /// When the last of them failed.
    pub(crate) last: Time,
    /// The message of the latest letter.
    pub(crate) message: Option<String>,
    /// Where the latest letter is in the dead-letter topic.
    pub(crate) example: Option<Place>,
}

/// What letters of one cause have in common: type, topic and author.
type Key = (String, Option<String>, &'static str);

/// Letters while they are counted.
#[derive(Debug, Default)]
pub(crate) struct Causes {
    rows: BTreeMap<Key, Cause>,
    total: LetterCounts,
}

impl LetterCounts {
    fn add(&mut self, state: LetterState) {
        self.letters += 1;
        match state {
            LetterState::Unresolved => self.unresolved += 1,
            LetterState::Replayed => self.replayed += 1,
            LetterState::Dismissed => self.dismissed += 1,
        }
    }
}

impl Causes {
    pub(crate) fn add(&mut self, letter: &Letter<'_>, state: LetterState) {
        let cause = &letter.cause;
        let kept = |text: Option<&str>| text.map(|text| cut(text, TEXT_BYTES_MAX));
        let error_type = cut(cause.type_or_label(), TEXT_BYTES_MAX);
        let mut key = (error_type, kept(cause.topic.as_deref()), cause.author.as_str());
        if self.rows.len() >= CAUSES_MAX && !self.rows.contains_key(&key) {
            key = (OTHER_CAUSES.to_owned(), None, "");
        }
        let failed_at = Time::of(letter.failed_at_ms());
        let row = self.rows.entry(key).or_insert_with_key(|(error_type, topic, author)| Cause {
            error_type: error_type.clone(),
            topic: topic.clone(),
            author,
            first: failed_at,
            last: failed_at,
            ..Cause::default()
        });
        row.counts.add(state);
        row.first = row.first.min(failed_at);
        if row.last <= failed_at {
            row.last = failed_at;
            row.class = kept(cause.class.as_deref());
            row.message = kept(cause.message.as_deref());
            row.example = Some(letter.place);
        }
        self.total.add(state);
    }

    /// Returns what was counted of the letters of `dlq`.
    pub(crate) fn report(self, dlq: &DlqContext, skipped: Skipped) -> CauseReport {
        let mut causes: Vec<Cause> = self.rows.into_values().collect();
        causes.sort_by_key(|cause| Reverse((cause.counts.unresolved, cause.counts.letters)));
        let (topic, group) = (dlq.topic.clone(), dlq.group.clone());
        CauseReport { topic, group, total: self.total, skipped, causes }
    }
}

/// Counts the letters that a filter takes and that are in `state`, where one is given.
pub(crate) async fn count(
    queue: &DeadLetterQueue,
    filter: &Filter,
    state: Option<LetterState>,
) -> anyhow::Result<CauseReport> {
    let mut causes = Causes::default();
    let mut walk = queue.walk(filter);
    while let Some(chunk) = walk.next().await? {
        for letter in walk.letters(&chunk) {
            let found = queue.state(&letter);
            if state.is_none_or(|wanted| wanted == found) {
                causes.add(&letter, found);
            }
        }
    }
    Ok(causes.report(&queue.dlq, walk.skipped))
}

#[cfg(test)]
mod tests {
    use dead_letter::RawHeader;
    use kafka_core::record_batch::{BatchBuilder, batches};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_size_of_a_cause_does_not_grow_with_its_texts() {
        let dlq =
            DlqContext { topic: "orders-dlq".into(), topic_id: Uuid::nil(), group: "night".into() };
        let mut causes = Causes::default();
        for number in 0..10 {
            let long = format!("{number}{}", "x".repeat(100_000));
            let headers: [RawHeader<'_>; 3] = [
                (b"__connect.errors.exception.class.name", Some(long.as_bytes())),
                (b"__connect.errors.exception.message", Some(long.as_bytes())),
                (b"__connect.errors.topic", Some(long.as_bytes())),
            ];
            let batch = BatchBuilder::new(number).record(0, None, None, &headers).build().unwrap();
            let opened = batches(batch).next().unwrap().open(1 << 20).unwrap();
            let record = opened.records().next().unwrap().unwrap();
            causes.add(&dlq.read(0, &record), LetterState::Unresolved);
        }
        let report = causes.report(&dlq, Skipped::default());
        assert_eq!((report.causes.len(), report.total.letters), (10, 10));
        let kept: usize = report
            .causes
            .iter()
            .map(|cause| {
                let texts = [&cause.topic, &cause.class, &cause.message];
                cause.error_type.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
            })
            .sum();
        assert!(kept <= 10 * 4 * (TEXT_BYTES_MAX + "…".len()), "{kept} bytes");
    }
}
