//! The keys.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Span;

use super::canvas::{put, take_left, take_top};
use super::look::VALUE;
use crate::text::Align;

/// Room for the names of keys.
const KEY: u16 = 14;

const KEYS: &[(&str, &str)] = &[
    ("q  Ctrl-C", "quit"),
    ("p  r", "pause and resume all processors of the group; asks first"),
    ("P  R", "pause and resume all generators; asks first"),
    ("s", "sort the partitions: by lag, delay, number, orders, waiting, dead"),
    ("↑ ↓ PgUp PgDn", "move in the partitions, or in the dead letters"),
    ("d", "the dead letters by cause; d or Esc leads back"),
    ("Enter", "the newest dead letters of a cause; Esc leads back"),
    ("u", "read the dead letters again"),
    ("?", "these keys; any key leads back"),
    ("", ""),
    ("up", "how long this has been watching; the time is that of the numbers"),
    ("running 2/3", "two of the three services that live do so"),
    ("consumed", "orders processed and dead letters"),
    ("lag, behind", "records to come, and how long ago the next of them was produced"),
    ("waiting", "records that wait for a retry, or behind one"),
    ("incomplete *", "counted since a later offset than the first; stats --json has it"),
];

pub(super) fn draw(buffer: &mut Buffer, mut area: Rect) {
    for (key, meaning) in KEYS {
        let mut row = take_top(&mut area, 1);
        put(buffer, take_left(&mut row, KEY), Align::Left, &Span::styled(*key, VALUE));
        put(buffer, row, Align::Left, &(*meaning).into());
    }
}
