//! The group's numbers.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Span;
use service_runtime::grouped;

use super::Scene;
use super::canvas::{put, take_left, take_top};
use super::chart;
use super::look::{LABEL, VALUE};
use crate::text::Align;
use crate::top::format::{count, decimal, duration, money, rate};
use crate::view::body::Stats;

/// Rows that the numbers take.
pub(super) const HEIGHT: u16 = 7;
/// Widths of a label, of a count, of the text beside it, and of a sum, whose last decimals may be cut.
const COUNT_LABEL: u16 = 12;
const COUNT: u16 = 13;
const ASIDE: u16 = 10;
const SUM: u16 = 16;
/// Labels of sums are shorter.
const SUM_LABEL: u16 = 9;
/// The narrowest chart that shows anything.
const CHART_MIN: u16 = 16;

/// A number with its name.
struct Number {
    label: &'static str,
    value: String,
    aside: String,
}

impl Number {
    fn new(label: &'static str, value: String) -> Self {
        Self { label, value, aside: String::new() }
    }

    fn beside(label: &'static str, value: String, aside: String) -> Self {
        Self { label, value, aside }
    }
}

/// Draws the numbers in two columns and the chart beside them; where there is no room for that, the most important ones.
pub(super) fn draw(scene: Scene<'_>, buffer: &mut Buffer, mut area: Rect) {
    const FIRST: u16 = COUNT_LABEL + COUNT + 1 + ASIDE;
    const SECOND: u16 = SUM_LABEL + SUM;
    let stats = &scene.snapshot.stats;
    if stats.at.is_none() {
        return put(buffer, area, Align::Left, &Span::styled("reading the cluster …", LABEL));
    }
    if area.width <= FIRST + SECOND || area.height < HEIGHT {
        return column(buffer, area, (COUNT_LABEL, COUNT), &most_important(stats));
    }
    let first = take_left(&mut area, FIRST);
    column(buffer, first, (COUNT_LABEL, COUNT), &flow(stats));
    take_left(&mut area, 1);
    let second = take_left(&mut area, SECOND);
    column(buffer, second, (SUM_LABEL, SUM), &outcome(stats));
    take_left(&mut area, 1);
    if area.width >= CHART_MIN {
        chart::draw(scene, buffer, area);
    }
}

fn flow(stats: &Stats) -> Vec<Number> {
    let Stats { produced, consumed, numbers, .. } = stats;
    vec![
        Number::beside("produced", grouped(produced.total), rate(produced.per_second)),
        Number::beside("consumed", grouped(consumed.total), rate(consumed.per_second)),
        lag(stats),
        Number::new("waiting", grouped(stats.waiting)),
        processed(stats),
        Number::new("dead letters", grouped(numbers.dead_letters)),
        Number::new("replayed", grouped(numbers.replayed)),
    ]
}

fn outcome(stats: &Stats) -> Vec<Number> {
    let numbers = &stats.numbers;
    vec![
        Number::new("average", money(numbers.average)),
        Number::new("last 100", money(numbers.recent_average)),
        Number::new("revenue", decimal(&stats.revenue)),
        Number::new("lowest", money(numbers.min)),
        Number::new("highest", money(numbers.max)),
        Number::new("retries", grouped(numbers.retries)),
    ]
}

fn most_important(stats: &Stats) -> Vec<Number> {
    let numbers = &stats.numbers;
    vec![
        Number::new("average", money(numbers.average)),
        Number::new("last 100", money(numbers.recent_average)),
        processed(stats),
        lag(stats),
        Number::new("dead letters", grouped(numbers.dead_letters)),
        Number::new("waiting", grouped(stats.waiting)),
        Number::new("revenue", decimal(&stats.revenue)),
    ]
}

fn lag(stats: &Stats) -> Number {
    Number::beside("lag", count(stats.lag), duration(stats.lag_seconds))
}

/// Numbers that do not reach back to the beginning of their logs are marked.
fn processed(stats: &Stats) -> Number {
    let aside = if stats.complete { "" } else { "incomplete" };
    Number::beside("processed", grouped(stats.numbers.orders), aside.to_owned())
}

fn column(
    buffer: &mut Buffer,
    mut area: Rect,
    (label_width, value_width): (u16, u16),
    numbers: &[Number],
) {
    for Number { label, value, aside } in numbers {
        let mut row = take_top(&mut area, 1);
        let label = Span::styled(*label, LABEL);
        put(buffer, take_left(&mut row, label_width), Align::Left, &label);
        let room = take_left(&mut row, value_width);
        put(buffer, room, Align::Right, &Span::styled(value.as_str(), VALUE));
        take_left(&mut row, 1);
        put(buffer, row, Align::Left, &aside.as_str().into());
    }
}
