//! The first rows: the group, the connections, the services.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::canvas::{Align, Label, put, put_all, take_top};
use super::look::{LABEL, VALUE};
use super::scene::Scene;
use crate::control::{DesiredState, ServiceState};
use crate::top::format::{NONE, clock, moment, whole_seconds};
use crate::view::body::{Connection, ConnectionState, Role, Source, Stats};

/// Draws the group, how long it was observed, and the time of the numbers.
pub(super) fn title(scene: Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let Stats { source: Source { group, topic, .. }, uptime_seconds, at, .. } =
        &scene.snapshot.stats;
    let style = VALUE;
    let names = format!("group {group}  topic {topic}");
    let time = at.as_ref().map_or(NONE, |at| clock(at.as_str()));
    let times = format!("  up {}  {time} UTC", whole_seconds(*uptime_seconds));
    let mut left = area;
    left.width = left.width.saturating_sub(super::canvas::width(&times));
    put(buffer, left, Align::Left, &Label::new(names, style));
    put(buffer, area, Align::Right, &Label::new(times, style));
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

fn connection(scene: Scene<'_>, name: &str, connection: &Connection) -> Vec<Label> {
    let look = scene.look;
    let Connection { state, since, detail, address } = connection;
    let state_label = match state {
        ConnectionState::Connected => "connected",
        ConnectionState::Failing => "failing",
        ConnectionState::Unreachable => "unreachable",
        ConnectionState::Unknown => "connecting",
    };
    let since = since.as_ref().map(|since| format!(" since {}", time(scene, since.as_str())));
    let mut labels = vec![
        Label::new(name, LABEL),
        Label::new(state_label, look.connection(*state)),
        since.unwrap_or_default().into(),
        Label::new(format!("  {address}"), LABEL),
    ];
    if let Some(detail) = detail {
        labels.push(Label::new(format!("  {detail}"), look.odd()));
    }
    labels
}

/// Returns the desired state of a role, the operator, and how many instances have followed.
fn role(scene: Scene<'_>, name: &str, role: &Role) -> Vec<Label> {
    let look = scene.look;
    let Role { command: DesiredState { desired, by, at }, instances } = role;
    let mut labels = vec![Label::new(name, LABEL)];
    let is_paused = *desired == ServiceState::Paused;
    labels.push(Label::new(desired.as_str(), if is_paused { look.odd() } else { look.good() }));
    if !instances.is_empty() {
        let following = instances.iter().filter(|instance| instance.state == *desired).count();
        labels.push(format!(" {following}/{}", instances.len()).into());
    }
    if is_paused {
        let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let at = at.as_ref().map(|at| format!(" {}", time(scene, at.as_str()))).unwrap_or_default();
        labels.push(Label::new(format!("{by}{at}"), LABEL));
    }
    labels
}

fn time(scene: Scene<'_>, time: &str) -> String {
    moment(time, scene.snapshot.stats.at())
}
