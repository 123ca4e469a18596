//! The first rows: the group, the connections, the services.

use control_topic::record::RunState;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Span;

use super::Scene;
use super::canvas::{put, put_all, take_top};
use super::look::{LABEL, VALUE};
use crate::control::DesiredState;
use crate::text::Align;
use crate::top::format::{NONE, clock, moment, whole_seconds};
use crate::view::body::{Connection, ConnectionState, Role, Source, Stats};

/// Draws the group, how long it was observed, and the time of the numbers.
pub(super) fn title(scene: Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let Stats { source: Source { group, topic, .. }, uptime_seconds, at, .. } =
        &scene.snapshot.stats;
    let style = VALUE;
    let names = format!("group {group}  topic {topic}");
    let time = at.map_or_else(|| NONE.to_owned(), clock);
    let times = format!("  up {}  {time} UTC", whole_seconds(*uptime_seconds));
    let mut left = area;
    left.width = left.width.saturating_sub(super::canvas::width(&times));
    put(buffer, left, Align::Left, &Span::styled(names, style));
    put(buffer, area, Align::Right, &Span::styled(times, style));
}

/// Draws the connections, and the state of the services.
pub(super) fn connections(scene: Scene<'_>, buffer: &mut Buffer, area: &mut Rect) {
    let connections = &scene.snapshot.stats.connections;
    for (name, connection) in
        [("broker   ", &connections.broker), ("registry ", &connections.registry)]
    {
        put_all(buffer, take_top(area, 1), &self::connection(scene, name, connection));
    }
    let control = &scene.snapshot.control;
    let mut labels = role(scene, "generators ", &control.generator);
    labels.push("  ".into());
    labels.extend(role(scene, "processors ", &control.processor));
    put_all(buffer, take_top(area, 1), &labels);
}

fn connection<'a>(scene: Scene<'_>, name: &'a str, connection: &Connection) -> Vec<Span<'a>> {
    let look = scene.look;
    let Connection { state, since, detail, address } = connection;
    let state_label = match state {
        ConnectionState::Connected => "connected",
        ConnectionState::Failing => "failing",
        ConnectionState::Unreachable => "unreachable",
        ConnectionState::Unknown => "connecting",
    };
    let since = since.map(|since| format!(" since {}", moment(since, scene.snapshot.stats.at)));
    let mut labels = vec![
        Span::styled(name, LABEL),
        Span::styled(state_label, look.connection(*state)),
        since.unwrap_or_default().into(),
        Span::styled(format!("  {address}"), LABEL),
    ];
    if let Some(detail) = detail {
        labels.push(Span::styled(format!("  {detail}"), look.odd()));
    }
    labels
}

/// Returns the desired state of a role, the operator, and how many instances have followed.
fn role<'a>(scene: Scene<'_>, name: &'a str, role: &Role) -> Vec<Span<'a>> {
    let look = scene.look;
    let Role { command: DesiredState { desired, by, at }, instances } = role;
    let mut labels = vec![Span::styled(name, LABEL)];
    let is_paused = *desired == RunState::Paused;
    labels.push(Span::styled(desired.as_str(), if is_paused { look.odd() } else { look.good() }));
    if !instances.is_empty() {
        let following = instances.iter().filter(|instance| instance.state == *desired).count();
        labels.push(format!(" {following}/{}", instances.len()).into());
    }
    if is_paused {
        let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let at =
            at.map(|at| format!(" {}", moment(at, scene.snapshot.stats.at))).unwrap_or_default();
        labels.push(Span::styled(format!("{by}{at}"), LABEL));
    }
    labels
}
