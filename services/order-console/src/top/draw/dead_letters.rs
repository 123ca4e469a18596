//! The dead letters: by cause, and the newest of one.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use service_runtime::grouped;

use super::canvas::{Align, Column, Label, Table, put, take_top};
use super::look::{LABEL, MARKED, VALUE};
use super::scene::Scene;
use crate::dlq::causes::{Cause, CauseReport, LetterCounts};
use crate::dlq::query::{LetterLine, LetterList};
use crate::top::format::{NONE, moment, money};
use crate::top::state::List;

const CAUSES: &[Column] = &[
    Column::left("CAUSE", 20, 0),
    Column::right("LETTERS", 9, 1),
    Column::right("OPEN", 9, 2),
    Column::right("REPLAYED", 9, 4),
    Column::right("DISMISSED", 9, 5),
    Column::left("LAST", 11, 3),
    Column::left("TOPIC", 16, 7),
    Column::left("ITS MESSAGE", 24, 6),
];
const LETTERS: &[Column] = &[
    Column::left("PLACE", 9, 0),
    Column::left("STATE", 10, 1),
    Column::left("FAILED", 11, 2),
    Column::right("TRIES", 5, 5),
    Column::right("REPLAYS", 7, 6),
    Column::left("PRODUCT", 15, 3),
    Column::right("PRICE", 9, 7),
    Column::left("MESSAGE", 18, 4),
    Column::left("ORDER", 36, 8),
];

/// Draws how many letters there are of each cause.
pub(super) fn causes(scene: Scene<'_>, buffer: &mut Buffer, mut area: Rect) {
    let list = &scene.state.causes;
    let Some(found) = heading(scene, buffer, take_top(&mut area, 1), list, "") else { return };
    let row = |cause: &Cause| {
        vec![
            cause.error_type.as_str().into(),
            grouped(cause.counts.letters).into(),
            grouped(cause.counts.unresolved).into(),
            grouped(cause.counts.replayed).into(),
            grouped(cause.counts.dismissed).into(),
            moment(cause.last.as_str(), scene.snapshot.stats.at()).into(),
            cause.topic.as_deref().unwrap_or(NONE).into(),
            cause.message.as_deref().unwrap_or(NONE).into(),
        ]
    };
    let rows = found.report.causes.iter().map(row).collect();
    let wide = if area.width >= 120 { 7 } else { 0 };
    table(scene, buffer, area, list, Table { wide, ..empty(CAUSES) }, rows);
}

pub(super) fn letters(scene: Scene<'_>, buffer: &mut Buffer, mut area: Rect) {
    let list = &scene.state.letters;
    let of = format!(" of {}", scene.state.error_type);
    let Some(found) = heading(scene, buffer, take_top(&mut area, 1), list, &of) else { return };
    let row = |letter: &LetterLine| {
        vec![
            letter.place.to_string().into(),
            letter.state.as_str().into(),
            moment(letter.failed_at.as_str(), scene.snapshot.stats.at()).into(),
            letter.attempts.map_or_else(|| NONE.to_owned(), grouped).into(),
            grouped(letter.replay_count).into(),
            letter.order.product.as_deref().unwrap_or(NONE).into(),
            money(letter.order.price).into(),
            letter.message.as_deref().unwrap_or(NONE).into(),
            letter.order.order_id.as_deref().unwrap_or(NONE).into(),
        ]
    };
    let rows = found.newest.iter().map(row).collect();
    table(scene, buffer, area, list, Table { wide: 7, ..empty(LETTERS) }, rows);
}

/// Draws the heading of a list, and returns its contents once they were read.
fn heading<'a>(
    scene: Scene<'_>,
    buffer: &mut Buffer,
    area: Rect,
    list: &'a List,
    of: &str,
) -> Option<&'a LetterList> {
    let look = scene.look;
    let reading = if list.is_awaited { "  reading …" } else { "" };
    let (heading, found) = match &list.answer {
        Some(Ok(found)) => {
            let CauseReport { topic, total, .. } = &found.report;
            let LetterCounts { letters, unresolved, replayed, dismissed } = total;
            let counts = [
                (*letters, "dead letters"),
                (*unresolved, "unresolved"),
                (*replayed, "replayed"),
                (*dismissed, "dismissed"),
            ];
            let counts = counts.map(|(count, label)| format!("{} {label}", grouped(count)));
            let text = if of.is_empty() {
                format!("{topic}: {}{reading}", counts.join(", "))
            } else {
                format!("the newest{of}{reading} in {topic}")
            };
            (Label::new(text, VALUE), Some(found))
        }
        Some(Err(why)) => (Label::new(format!("cannot be read: {why}{reading}"), look.bad()), None),
        None => (Label::new(format!("dead letters{of}{reading}"), LABEL), None),
    };
    put(buffer, area, Align::Left, &heading);
    found
}

fn empty(columns: &[Column]) -> Table<'_> {
    Table {
        columns,
        wide: 0,
        name: columns.first().map_or("", |column| column.title).to_owned(),
        heading: Style::new(),
        cursor: None,
        rows: Vec::new(),
    }
}

fn table(
    scene: Scene<'_>,
    buffer: &mut Buffer,
    area: Rect,
    list: &List,
    table: Table<'_>,
    rows: Vec<Vec<Label>>,
) {
    let room = usize::from(area.height.saturating_sub(1));
    let above = (list.cursor + 1).saturating_sub(room.max(1));
    let table = Table {
        heading: scene.look.heading(),
        cursor: Some((list.cursor - above, MARKED)),
        rows: rows.into_iter().skip(above).take(room).collect(),
        ..table
    };
    table.draw(buffer, area);
}
