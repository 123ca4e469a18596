//! The picture on the screen, of a snapshot and of the state. No IO.
//!
//! ```text
//!  title         group, topic, for how long it is watched, as of when
//!  connections   broker, registry, running and paused services
//!  numbers       and their chart
//!  partitions ┐
//!  members    ├  or the dead letters, or the keys
//!  orders     ┘
//!  message       if there is one
//!  keys          or a question
//! ```
//!
//! Where there is little room, the lower parts and the right columns are left out first. Only [`canvas`] writes
//! to the screen.

mod canvas;
mod chart;
mod dead_letters;
mod help;
mod look;
mod numbers;
mod status;
mod tables;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Span;

use self::canvas::{put, take_bottom, take_top};
use self::look::{LABEL, MARKED, VALUE};
use super::state::{Message, Pane, State};
use crate::text::Align;
use crate::view::body::Snapshot;

pub(crate) use self::look::Look;

/// What a picture shows.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) state: &'a State,
    pub(super) look: Look,
}

const KEYS: [(Pane, &str); 3] = [
    (Pane::Group, "q quit  p pause  r resume  s sort  d dead letters  ? help"),
    (Pane::Causes, "q quit  Esc back  Enter its letters  u read again  ? help"),
    (Pane::Letters, "q quit  Esc back  u read again  ? help"),
];

pub(super) fn draw(scene: Scene<'_>, buffer: &mut Buffer) {
    let Scene { state, look, .. } = scene;
    let mut area = buffer.area;
    let last = take_bottom(&mut area);
    match (&state.question, KEYS.iter().find(|(pane, _)| *pane == state.pane)) {
        (Some(command), _) => {
            put(buffer, last, Align::Left, &Span::styled(command.question(), MARKED));
        }
        (None, Some((_, keys))) => put(buffer, last, Align::Left, &Span::styled(*keys, LABEL)),
        (None, None) => {}
    }
    if let Some(message) = &state.message {
        let label = match message {
            Message::Done(text) => Span::styled(text.as_str(), VALUE),
            Message::Problem(text) => Span::styled(text.as_str(), look.odd()),
        };
        put(buffer, take_bottom(&mut area), Align::Left, &label);
    }
    status::title(scene, buffer, take_top(&mut area, 1));
    if state.is_help {
        return help::draw(buffer, area);
    }
    // The numbers matter most where there is little room.
    if area.height > numbers::HEIGHT {
        status::connections(scene, buffer, &mut area);
    }
    match state.pane {
        Pane::Group => group(scene, buffer, area),
        Pane::Causes => dead_letters::causes(scene, buffer, area),
        Pane::Letters => dead_letters::letters(scene, buffer, area),
    }
}

fn group(scene: Scene<'_>, buffer: &mut Buffer, mut area: Rect) {
    numbers::draw(scene, buffer, take_top(&mut area, numbers::HEIGHT));
    let Snapshot { stats, group, orders, .. } = scene.snapshot;
    let wanted = [stats.partitions.len(), group.members.len().max(1), orders.orders.len()];
    let [partitions, members, orders] = shares(area.height, wanted);
    tables::partitions(scene, buffer, take_top(&mut area, partitions));
    tables::members(scene, buffer, take_top(&mut area, members));
    tables::orders(scene, buffer, take_top(&mut area, orders));
}

/// Divides the room between partitions, members and orders, which have so many rows under their headings. Each gets a few
/// rows before one gets all of its rows. The rest goes to the orders.
fn shares(room: u16, rows: [usize; 3]) -> [u16; 3] {
    /// The least useful number of rows of a table, its heading included.
    const LEAST: [u16; 3] = [4, 3, 5];
    let wanted = rows.map(|rows| u16::try_from(rows.saturating_add(1)).unwrap_or(u16::MAX));
    let mut given = [0; 3];
    let mut left = room;
    for most in [LEAST, [room / 2, room / 4, room / 4], wanted] {
        for index in 0..3 {
            let more = most[index].min(wanted[index]).saturating_sub(given[index]).min(left);
            // A heading alone is useless.
            if given[index] + more >= 2 {
                given[index] += more;
                left -= more;
            }
        }
    }
    if given[2] > 0 {
        given[2] += left;
    }
    given
}

#[cfg(test)]
mod tests;
