//! How the averages have moved.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::text::Span;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget as _};

use super::Scene;
use super::canvas::{put, put_all, take_bottom, take_left, take_top, width};
use super::look::LABEL;
use crate::text::Align;
use crate::top::format::{NONE, money, whole_seconds};
use crate::view::body::{History, Point};

/// The shortest time that the chart is wide, in points.
const POINTS_MIN: u32 = 60;
/// From here on there is room to say how long the history is.
const LEGEND_WIDTH: u16 = 26;
/// Room above and below the lines, as a share of what they span.
const MARGIN: f64 = 0.05;

pub(super) fn draw(scene: Scene<'_>, buffer: &mut Buffer, mut area: Rect) {
    let look = scene.look;
    let history = &scene.snapshot.history;
    let (all_style, recent_style) = look.lines();
    let heading = take_top(&mut area, 1);
    let all = line(history, |point| point.average);
    let recent = line(history, |point| point.recent_average);
    let Some((low, high)) = span(all.iter().chain(&recent)) else {
        return put_all(buffer, heading, &[Span::styled(format!("average {NONE}"), LABEL)]);
    };
    let legend = [Span::styled("━all", all_style), Span::styled(" ∙last 100", recent_style)];
    put_all(buffer, heading, &legend);
    if LEGEND_WIDTH <= heading.width {
        put(buffer, heading, Align::Right, &Span::styled(seen_for(history), LABEL));
    }
    let points = u32::try_from(history.points.len()).unwrap_or(u32::MAX).max(POINTS_MIN);
    let [low_label, high_label] = [low, high].map(|bound| money(Some(bound)));
    let mut labels = take_left(&mut area, width(&low_label).max(width(&high_label)));
    take_left(&mut area, 1);
    put(buffer, take_bottom(&mut labels), Align::Right, &Span::styled(low_label, LABEL));
    put(buffer, labels, Align::Right, &Span::styled(high_label, LABEL));
    // The latest are drawn first, so that the line that moves less is not hidden.
    let chart = Chart::new(vec![
        Dataset::default()
            .marker(Marker::Dot)
            .graph_type(GraphType::Scatter)
            .style(recent_style)
            .data(&recent),
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(all_style)
            .data(&all),
    ])
    .x_axis(Axis::default().bounds([-f64::from(points), 0.0]))
    .y_axis(Axis::default().bounds([low, high]));
    chart.render(area.intersection(buffer.area), buffer);
}

/// Returns the points of a line; the latest is at 0.
fn line(history: &History, value: impl Fn(&Point) -> Option<f64>) -> Vec<(f64, f64)> {
    let newest_first = history.points.iter().rev().zip(0_u32..);
    newest_first.filter_map(|(point, age)| Some((-f64::from(age), value(point)?))).collect()
}

/// Returns what the chart reaches from and to: a little more than the points do.
fn span<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> Option<(f64, f64)> {
    let values = points.map(|(_, value)| *value).filter(|value| value.is_finite());
    let (low, high) = values.fold(None, |span: Option<(f64, f64)>, value| {
        let (low, high) = span.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })?;
    let margin = ((high - low) * MARGIN).max(0.01);
    Some((low - margin, high + margin))
}

fn seen_for(history: &History) -> String {
    let points = u64::try_from(history.points.len()).unwrap_or(u64::MAX);
    whole_seconds(points.saturating_mul(history.interval_ms) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_reaches_a_little_beyond_its_lines() {
        assert_eq!(span([].iter()), None);
        assert_eq!(span([(0.0, f64::NAN)].iter()), None);
        assert_eq!(span([(0.0, 5.0)].iter()), Some((4.99, 5.01)));
        assert_eq!(span([(0.0, 200.0), (-1.0, 100.0)].iter()), Some((95.0, 205.0)));
    }

    #[test]
    fn the_latest_point_is_at_the_right_end() {
        let point = |average| Point { average, ..Point::default() };
        let points = vec![point(Some(1.0)), point(None), point(Some(3.0))];
        let history = History { interval_ms: 1_000, points };
        assert_eq!(line(&history, |point| point.average), [(0.0, 3.0), (-2.0, 1.0)]);
        assert_eq!(seen_for(&history), "3 s");
    }
}
