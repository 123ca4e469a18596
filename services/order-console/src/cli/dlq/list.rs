//! `dlq list`: the letters by cause.

use service_runtime::grouped;

use crate::cli::output::{print, print_json};
use crate::dlq::causes::{self, CauseReport, LetterCounts};
use crate::dlq::filter::Filter;
use crate::dlq::letter_state::LetterState;
use crate::dlq::queue::DeadLetterQueue;
use crate::text::{Align, dead_letters, short, table};

/// How the table's columns are aligned.
const COLUMNS: &[Align] = {
    use Align::{Left, Right};
    &[Left, Left, Right, Right, Right, Right, Left, Left, Left, Left]
};
const HEADING: [&str; 10] = [
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

pub(super) async fn run(
    queue: &DeadLetterQueue,
    filter: &Filter,
    state: Option<LetterState>,
    is_json: bool,
) -> anyhow::Result<()> {
    let report = causes::count(queue, filter, state).await?;
    if is_json { print_json(&report) } else { print(&text(&report)) }
}

fn text(report: &CauseReport) -> String {
    let LetterCounts { letters, unresolved, replayed, dismissed } = &report.total;
    let mut text = format!(
        "{}: {}, {} unresolved, {} replayed, {} dismissed\n",
        report.topic,
        dead_letters(*letters),
        grouped(*unresolved),
        grouped(*replayed),
        grouped(*dismissed),
    );
    for (count, reason) in [
        (report.skipped.repeats, "were written twice and are counted once"),
        (report.skipped.other_groups, "are of other groups and not counted"),
        (report.skipped.unreadable, "cannot be read"),
    ] {
        if count > 0 {
            text.extend(["besides, ", &grouped(count), " ", reason, "\n"]);
        }
    }
    if report.causes.is_empty() {
        return text;
    }
    let optional = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| short(text));
    let mut rows = vec![HEADING.map(str::to_owned).to_vec()];
    rows.extend(report.causes.iter().map(|cause| {
        vec![
            short(&cause.error_type),
            optional(cause.topic.as_ref()),
            grouped(cause.counts.letters),
            grouped(cause.counts.unresolved),
            grouped(cause.counts.replayed),
            grouped(cause.counts.dismissed),
            cause.first.to_the_second(),
            cause.last.to_the_second(),
            optional(cause.example.map(|place| place.to_string()).as_ref()),
            optional(cause.message.as_ref()),
        ]
    }));
    text.push('\n');
    text.push_str(&table(COLUMNS, &rows));
    text
}
