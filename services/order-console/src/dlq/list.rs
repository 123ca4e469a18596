//! `dlq list`: the letters by cause.

use std::collections::BTreeMap;

use dead_letter::rfc3339;
use serde::Serialize;
use serde_json::json;
use service_runtime::grouped;

use super::filter::Filter;
use super::letter::{Letter, Place};
use super::render::{Align, TEXT_BYTES_MAX, cut, short, table, time};
use super::standing::State;
use super::walk::PassedOver;
use super::{Overview, dead_letters};
use crate::output::Output;

/// The most causes that are told apart; letters of any more are counted together.
const CAUSES_MAX: usize = 1_000;
const OTHER_CAUSES: &str = "other causes";
/// How the table's columns are aligned.
const COLUMNS: &[Align] = {
    use Align::{Left, Right};
    &[Left, Left, Right, Right, Right, Right, Left, Left, Left, Left]
};

/// What makes letters have the same cause.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    error_type: String,
    topic: Option<String>,
    author: &'static str,
}

/// Letters of one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    letters: u64,
    unresolved: u64,
    replayed: u64,
    dismissed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    counts: Counts,
    first_ms: i64,
    last_ms: i64,
    class: Option<String>,
    /// What the last one says, and where it is.
    message: Option<String>,
    example: Option<Place>,
}

/// Letters by cause.
#[derive(Debug, Default)]
pub(crate) struct Causes {
    rows: BTreeMap<Group, Row>,
    total: Counts,
}

impl Counts {
    fn add(&mut self, state: State) {
        self.letters += 1;
        match state {
            State::Unresolved => self.unresolved += 1,
            State::Replayed => self.replayed += 1,
            State::Dismissed => self.dismissed += 1,
        }
    }
}

impl Causes {
    pub(crate) fn add(&mut self, letter: &Letter<'_>, state: State) {
        let cause = &letter.cause;
        let mut group = Group {
            error_type: cut(cause.type_or_label(), TEXT_BYTES_MAX),
            topic: kept(cause.topic.as_deref()),
            author: cause.author.as_str(),
        };
        if self.rows.len() >= CAUSES_MAX && !self.rows.contains_key(&group) {
            group = Group { error_type: OTHER_CAUSES.to_owned(), topic: None, author: "" };
        }
        let failed_at_ms = letter.failed_at_ms();
        let row = self.rows.entry(group).or_insert_with(|| Row {
            first_ms: i64::MAX,
            last_ms: i64::MIN,
            ..Row::default()
        });
        row.counts.add(state);
        row.first_ms = row.first_ms.min(failed_at_ms);
        if row.last_ms <= failed_at_ms {
            row.last_ms = failed_at_ms;
            row.class = kept(cause.class.as_deref());
            row.message = kept(cause.message.as_deref());
            row.example = Some(letter.place);
        }
        self.total.add(state);
    }

    /// Returns the causes, those with most unresolved letters first.
    fn sorted(&self) -> Vec<(&Group, &Row)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|(_, Row { counts, .. })| {
            std::cmp::Reverse((counts.unresolved, counts.letters))
        });
        rows
    }
}

fn kept(text: Option<&str>) -> Option<String> {
    text.map(|text| cut(text, TEXT_BYTES_MAX))
}

/// Prints the letters by cause.
///
/// # Errors
/// When the cluster does not answer, or when told to stop.
pub(crate) async fn run(
    overview: &Overview,
    filter: &Filter,
    state: Option<State>,
    is_json: bool,
) -> anyhow::Result<()> {
    let mut causes = Causes::default();
    let mut walk = overview.walk(filter);
    while let Some(chunk) = walk.next().await? {
        for letter in walk.letters(&chunk) {
            let found = overview.state(&letter);
            if filter.takes(&letter) && state.is_none_or(|wanted| wanted == found) {
                causes.add(&letter, found);
            }
        }
    }
    let mut output = Output::new();
    if is_json {
        output.line(&json(overview, &causes, walk.passed_over).to_string())?;
    } else {
        output.text(&text(overview, &causes, walk.passed_over))?;
    }
    output.flush()
}

/// Returns the causes for programs.
pub(crate) fn json(
    overview: &Overview,
    causes: &Causes,
    passed_over: PassedOver,
) -> serde_json::Value {
    let rows: Vec<_> = causes
        .sorted()
        .into_iter()
        .map(|(group, row)| {
            json!({
                "type": group.error_type,
                "class": row.class,
                "topic": group.topic,
                "author": group.author,
                "letters": row.counts.letters,
                "unresolved": row.counts.unresolved,
                "replayed": row.counts.replayed,
                "dismissed": row.counts.dismissed,
                "first": rfc3339(row.first_ms),
                "last": rfc3339(row.last_ms),
                "message": row.message,
                "example": row.example.map(|place| place.to_string()),
            })
        })
        .collect();
    json!({
        "topic": overview.desk.topic,
        "group": overview.desk.group,
        "letters": causes.total.letters,
        "unresolved": causes.total.unresolved,
        "replayed": causes.total.replayed,
        "dismissed": causes.total.dismissed,
        "repeats": passed_over.repeats,
        "other_groups": passed_over.other_groups,
        "unreadable": passed_over.unreadable,
        "causes": rows,
    })
}

fn text(overview: &Overview, causes: &Causes, passed_over: PassedOver) -> String {
    let Counts { letters, unresolved, replayed, dismissed } = &causes.total;
    let mut text = format!(
        "{}: {}, {} unresolved, {} replayed, {} dismissed\n",
        overview.desk.topic,
        dead_letters(*letters),
        grouped(*unresolved),
        grouped(*replayed),
        grouped(*dismissed),
    );
    for (count, words) in [
        (passed_over.repeats, "were written twice and are counted once"),
        (passed_over.other_groups, "are of other groups and not counted"),
        (passed_over.unreadable, "cannot be read"),
    ] {
        if count > 0 {
            text.extend(["besides, ", &grouped(count), " ", words, "\n"]);
        }
    }
    if causes.rows.is_empty() {
        return text;
    }
    let heading = [
        "TYPE",
        "TOPIC",
        "LETTERS",
        "UNRESOLVED",
        "REPLAYED",
        "DISMISSED",
        "FIRST",
        "LAST",
        "EXAMPLE",
        "ITS MESSAGE",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(causes.sorted().into_iter().map(|(group, row)| {
        vec![
            short(&group.error_type),
            group.topic.as_deref().map_or_else(|| "-".to_owned(), short),
            grouped(row.counts.letters),
            grouped(row.counts.unresolved),
            grouped(row.counts.replayed),
            grouped(row.counts.dismissed),
            time(row.first_ms),
            time(row.last_ms),
            row.example.map_or_else(|| "-".to_owned(), |place| place.to_string()),
            row.message.as_deref().map_or_else(|| "-".to_owned(), short),
        ]
    }));
    text.push('\n');
    text.push_str(&table(COLUMNS, &rows));
    text
}

#[cfg(test)]
mod tests {
    use dead_letter::RawHeader;
    use kafka_core::record_batch::{BatchBuilder, batches};
    use uuid::Uuid;

    use super::*;
    use crate::dlq::letter::Desk;

    #[test]
    fn what_is_kept_of_a_cause_does_not_grow_with_its_texts() {
        let desk =
            Desk { topic: "orders-dlq".into(), topic_id: Uuid::nil(), group: "night".into() };
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
            causes.add(&desk.read(0, &record), State::Unresolved);
        }
        assert_eq!((causes.rows.len(), causes.total.letters), (10, 10));
        let kept: usize = causes
            .rows
            .iter()
            .map(|(group, row)| {
                let texts = [&group.topic, &row.class, &row.message];
                group.error_type.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
            })
            .sum();
        assert!(kept <= 10 * 4 * (TEXT_BYTES_MAX + "…".len()), "{kept} bytes");
    }
}
