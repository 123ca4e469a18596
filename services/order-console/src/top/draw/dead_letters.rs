//! The dead letters: by cause, and the newest of one.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use service_runtime::grouped;

use super::Scene;
use super::canvas::{Align, Column, Table, Words, put, take_top};
use super::look::{LABEL, MARKED, VALUE};
use crate::top::letters::{Board, Cause, Letter};
use crate::top::state::List;
use crate::top::words::{NONE, moment, money};

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
    let Some(board) = heading(scene, buffer, take_top(&mut area, 1), list, "") else { return };
    let row = |cause: &Cause| {
        vec![
            cause.error_type.as_str().into(),
            grouped(cause.letters).into(),
            grouped(cause.unresolved).into(),
            grouped(cause.replayed).into(),
            grouped(cause.dismissed).into(),
            moment(&cause.last, scene.snapshot.stats.at()).into(),
            cause.topic.as_deref().unwrap_or(NONE).into(),
            cause.message.as_deref().unwrap_or(NONE).into(),
        ]
    };
    let rows = board.causes.iter().map(row).collect();
    let wide = if area.width >= 120 { 7 } else { 0 };
    table(scene, buffer, area, list, Table { wide, ..nothing(CAUSES) }, rows);
}

/// Draws the newest letters of a cause.
pub(super) fn letters(scene: Scene<'_>, buffer: &mut Buffer, mut area: Rect) {
    let list = &scene.state.letters;
    let of = format!(" of {}", scene.state.error_type);
    let Some(board) = heading(scene, buffer, take_top(&mut area, 1), list, &of) else { return };
    let row = |letter: &Letter| {
        vec![
            letter.place.as_str().into(),
            letter.state.as_str().into(),
            moment(&letter.failed_at, scene.snapshot.stats.at()).into(),
            letter.attempts.map_or_else(|| NONE.to_owned(), grouped).into(),
            grouped(letter.replay_count).into(),
            letter.product.as_deref().unwrap_or(NONE).into(),
            money(letter.price).into(),
            letter.message.as_deref().unwrap_or(NONE).into(),
            letter.order_id.as_deref().unwrap_or(NONE).into(),
        ]
    };
    let rows = board.newest.iter().map(row).collect();
    table(scene, buffer, area, list, Table { wide: 7, ..nothing(LETTERS) }, rows);
}

/// Draws what is listed, and returns it if it is there.
fn heading<'a>(
    scene: Scene<'_>,
    buffer: &mut Buffer,
    area: Rect,
    list: &'a List,
    of: &str,
) -> Option<&'a Board> {
    let look = scene.look;
    let reading = if list.is_awaited { "  reading …" } else { "" };
    let (words, board) = match &list.answer {
        Some(Ok(board)) => {
            let Board { topic, letters, unresolved, replayed, dismissed, .. } = board;
            let counts = [
                (*letters, "dead letters"),
                (*unresolved, "unresolved"),
                (*replayed, "replayed"),
                (*dismissed, "dismissed"),
            ];
            let counts = counts.map(|(count, word)| format!("{} {word}", grouped(count)));
            let text = if of.is_empty() {
                format!("{topic}: {}{reading}", counts.join(", "))
            } else {
                format!("the newest{of}{reading} in {topic}")
            };
            (Words::new(text, VALUE), Some(board))
        }
        Some(Err(why)) => (Words::new(format!("cannot be read: {why}{reading}"), look.bad()), None),
        None => (Words::new(format!("dead letters{of}{reading}"), LABEL), None),
    };
    put(buffer, area, Align::Left, &words);
    board
}

fn nothing(columns: &[Column]) -> Table<'_> {
    Table {
        columns,
        wide: 0,
        name: columns.first().map_or("", |column| column.title).to_owned(),
        heading: Style::new(),
        cursor: None,
        rows: Vec::new(),
    }
}

/// Draws the rows around the marked one.
fn table(
    scene: Scene<'_>,
    buffer: &mut Buffer,
    area: Rect,
    list: &List,
    table: Table<'_>,
    rows: Vec<Vec<Words>>,
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
