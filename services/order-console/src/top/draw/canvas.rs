//! The only way to the screen: texts come from topics, so what a terminal would act on is replaced, and what has no room
//! is cut.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;
use service_runtime::printable;

use super::look::Look;
use crate::text::Align;

const GAP: u16 = 1;

/// Cuts `height` rows off the top of `area`, or what there is of them.
pub(super) fn take_top(area: &mut Rect, height: u16) -> Rect {
    let height = height.min(area.height);
    let top = Rect { height, ..*area };
    area.y += height;
    area.height -= height;
    top
}

/// Cuts the last row off `area`, where there is one.
pub(super) fn take_bottom(area: &mut Rect) -> Rect {
    let height = area.height.min(1);
    area.height -= height;
    Rect { y: area.y + area.height, height, ..*area }
}

/// Cuts `width` columns off the left of `area`, or what there is of them.
pub(super) fn take_left(area: &mut Rect, width: u16) -> Rect {
    let width = width.min(area.width);
    let left = Rect { width, ..*area };
    area.x += width;
    area.width -= width;
    left
}

pub(super) fn width(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}

/// Returns as much of a text as has room, with a mark where something is missing.
fn cut(text: &str, room: u16) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut left = room.saturating_sub(1);
    for character in text.chars() {
        let needed = width(character.encode_utf8(&mut [0; 4]));
        if left < needed {
            break;
        }
        left -= needed;
        cut.push(character);
    }
    cut.push('…');
    cut
}

/// Writes a text into the first row of `area`.
pub(super) fn put(buffer: &mut Buffer, area: Rect, align: Align, text: &Span<'_>) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let (style, text) = (text.style, cut(&printable(&text.content), area.width));
    let x = match align {
        Align::Left => area.x,
        Align::Right => area.x + area.width.saturating_sub(width(&text)),
    };
    buffer.set_stringn(x, area.y, text, usize::from(area.width), style);
}

/// Writes texts one after the other into the first row of `area`.
pub(super) fn put_all(buffer: &mut Buffer, mut area: Rect, all: &[Span<'_>]) {
    for text in all {
        put(buffer, area, Align::Left, text);
        take_left(&mut area, width(&printable(&text.content)));
    }
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) width: u16,
    pub(super) align: Align,
    /// Columns of higher ranks are left out first where there is no room.
    pub(super) rank: u8,
}

impl Column {
    pub(super) const fn left(title: &'static str, width: u16, rank: u8) -> Self {
        Self { title, width, align: Align::Left, rank }
    }

    pub(super) const fn right(title: &'static str, width: u16, rank: u8) -> Self {
        Self { title, width, align: Align::Right, rank }
    }
}

/// Rows under headings, as many columns of them as have room.
pub(super) struct Table<'a> {
    pub(super) columns: &'a [Column],
    /// The column that takes what room is left.
    pub(super) wide: usize,
    /// What the headings begin with, in place of the first column's.
    pub(super) name: String,
    pub(super) heading: Style,
    /// The row that is marked.
    pub(super) cursor: Option<(usize, Style)>,
    pub(super) rows: Vec<Vec<Span<'a>>>,
}

impl<'a> Table<'a> {
    /// Returns a table without rows, whose first column is the wide one.
    pub(super) fn new(columns: &'a [Column], look: Look) -> Self {
        let name = columns.first().map_or("", |column| column.title).to_owned();
        let heading = look.heading();
        Self { columns, wide: 0, name, heading, cursor: None, rows: Vec::new() }
    }

    pub(super) fn draw(&self, buffer: &mut Buffer, mut area: Rect) {
        let widths = self.widths(area.width);
        let mut heading = take_top(&mut area, 1);
        buffer.set_style(heading.intersection(buffer.area), self.heading);
        for (index, (column, width)) in self.columns.iter().zip(&widths).enumerate() {
            let title = if index == 0 { self.name.as_str() } else { column.title };
            let room = take_left(&mut heading, *width);
            put(buffer, room, column.align, &Span::styled(title, self.heading));
            take_left(&mut heading, if *width > 0 { GAP } else { 0 });
        }
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = take_top(&mut area, 1);
            let whole = line;
            for ((text, column), width) in row.iter().zip(self.columns).zip(&widths) {
                put(buffer, take_left(&mut line, *width), column.align, text);
                take_left(&mut line, if *width > 0 { GAP } else { 0 });
            }
            if let Some((at, style)) = self.cursor
                && at == index
            {
                buffer.set_style(whole.intersection(buffer.area), style);
            }
        }
    }

    /// Returns how wide each column is; 0 is left out.
    fn widths(&self, room: u16) -> Vec<u16> {
        let mut order: Vec<usize> = (0..self.columns.len()).collect();
        order.sort_by_key(|index| self.columns[*index].rank);
        let mut widths = vec![0; self.columns.len()];
        let mut left = room;
        for index in order {
            let gap = if left == room { 0 } else { GAP };
            let needed = self.columns[index].width + gap;
            if left < needed && left < room {
                break;
            }
            widths[index] = self.columns[index].width.min(left);
            left = left.saturating_sub(needed);
        }
        if let Some(width) = widths.get_mut(self.wide)
            && *width > 0
        {
            *width += left;
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] =
        &[Column::left("NAME", 6, 0), Column::right("COUNT", 5, 1), Column::left("NOTE", 8, 2)];

    fn drawn(width: u16, rows: Vec<Vec<Span<'_>>>) -> Vec<String> {
        let table = Table { rows, ..Table::new(COLUMNS, Look::Plain) };
        let area = Rect::new(0, 0, width, 3);
        let mut buffer = Buffer::empty(area);
        table.draw(&mut buffer, area);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..3).map(line).map(|line: String| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn columns_that_have_no_room_are_left_out_and_the_wide_one_takes_the_rest() {
        let rows = || vec![vec!["orders".into(), "7".into(), "a note".into()]];
        assert_eq!(drawn(24, rows()), ["NAME      COUNT NOTE", "orders        7 a note", ""]);
        assert_eq!(drawn(14, rows()), ["NAME     COUNT", "orders       7", ""]);
        assert_eq!(drawn(4, rows()), ["NAME", "ord…", ""]);
        assert_eq!(drawn(0, rows()), ["", "", ""]);
    }

    #[test]
    fn control_characters_are_replaced_and_wide_characters_are_cut_whole() {
        let rows = |text: &'static str| vec![vec![text.into()]];
        assert_eq!(drawn(12, rows("\x1b[2J\n\u{9b}"))[1], "\u{fffd}[2J\u{fffd}\u{fffd}");
        assert_eq!(drawn(12, rows("a\u{202e}b"))[1], "a\u{fffd}b");
        assert_eq!(cut("日本語日本語", 6), "日本…");
        assert_eq!(width(&cut("日本語", 5)), 5);
    }
}
