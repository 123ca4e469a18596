//! The dead letters: by cause, and the newest of one.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Span;
use service_runtime::grouped;

use super::Scene;
use super::canvas::{Column, Table, put, take_top};
use super::look::{LABEL, MARKED, VALUE};
use crate::dlq::causes::{CauseReport, LetterCounts};
use crate::dlq::query::LetterList;
use crate::text::Align;
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
    let rows = found
        .report
        .causes
        .iter()
        .map(|cause| {
            vec![
                cause.error_type.as_str().into(),
                grouped(cause.counts.letters).into(),
                grouped(cause.counts.unresolved).into(),
                grouped(cause.counts.replayed).into(),
                grouped(cause.counts.dismissed).into(),
                moment(cause.last, scene.snapshot.stats.at).into(),
                cause.topic.as_deref().unwrap_or(NONE).into(),
                cause.message.as_deref().unwrap_or(NONE).into(),
            ]
        })
        .collect();
    let wide = if area.width >= 120 { 7 } else { 0 };
    draw(buffer, area, list, Table { wide, rows, ..Table::new(CAUSES, scene.look) });
}

pub(super) fn letters(scene: Scene<'_>, buffer: &mut Buffer, mut area: Rect) {
    let list = &scene.state.letters;
    let of = format!(" of {}", scene.state.error_type);
    let Some(found) = heading(scene, buffer, take_top(&mut area, 1), list, &of) else { return };
    let rows = found
        .newest
        .iter()
        .map(|letter| {
            vec![
                letter.place.to_string().into(),
                letter.state.as_str().into(),
                moment(letter.failed_at, scene.snapshot.stats.at).into(),
                letter.attempts.map_or_else(|| NONE.to_owned(), grouped).into(),
                grouped(letter.replay_count).into(),
                letter.order.product.as_deref().unwrap_or(NONE).into(),
                money(letter.order.price).into(),
                letter.message.as_deref().unwrap_or(NONE).into(),
                letter.order.order_id.as_deref().unwrap_or(NONE).into(),
            ]
        })
        .collect();
    draw(buffer, area, list, Table { wide: 7, rows, ..Table::new(LETTERS, scene.look) });
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
            (Span::styled(text, VALUE), Some(found))
        }
        Some(Err(why)) => {
            (Span::styled(format!("cannot be read: {why}{reading}"), look.bad()), None)
        }
        None => (Span::styled(format!("dead letters{of}{reading}"), LABEL), None),
    };
    put(buffer, area, Align::Left, &heading);
    found
}

/// Draws the rows around the cursor.
fn draw(buffer: &mut Buffer, area: Rect, list: &List, mut table: Table<'_>) {
    let room = usize::from(area.height.saturating_sub(1));
    let above = (list.cursor + 1).saturating_sub(room.max(1));
    table.cursor = Some((list.cursor - above, MARKED));
    table.rows = table.rows.into_iter().skip(above).take(room).collect();
    table.draw(buffer, area);
}
