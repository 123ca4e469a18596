//! The first rows: what is watched, and whether it is there.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::Scene;
use super::canvas::{Align, Words, put, put_all, take_top};
use super::look::{LABEL, VALUE};
use crate::top::words::{NONE, clock, moment, whole_seconds};
use crate::view::body::{Connection, ConnectionState, Role, Stats};

/// Draws what is watched, since when, and as of when the numbers are.
pub(super) fn title(scene: Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let Stats { group, topic, uptime_seconds, at, .. } = &scene.snapshot.stats;
    let style = VALUE;
    let names = format!("group {group}  topic {topic}");
    let time = at.as_deref().map_or(NONE, clock);
    let times = format!("  up {}  {time} UTC", whole_seconds(*uptime_seconds));
    let mut left = area;
    left.width = left.width.saturating_sub(super::canvas::width(&times));
    put(buffer, left, Align::Left, &Words::new(names, style));
    put(buffer, area, Align::Right, &Words::new(times, style));
}

/// Draws the connections, and who is to work.
pub(super) fn connections(scene: Scene<'_>, buffer: &mut Buffer, area: &mut Rect) {
    let connections = &scene.snapshot.stats.connections;
    for (name, connection) in
        [("broker   ", &connections.broker), ("registry ", &connections.registry)]
    {
        put_all(buffer, take_top(area, 1), &self::connection(scene, name, connection));
    }
    let control = &scene.snapshot.control;
    let mut words = role(scene, "generators ", &control.generator);
    words.push("  ".into());
    words.extend(role(scene, "processors ", &control.processor));
    put_all(buffer, take_top(area, 1), &words);
}

fn connection(scene: Scene<'_>, name: &str, connection: &Connection) -> Vec<Words> {
    let look = scene.look;
    let Connection { state, since, detail, address } = connection;
    let word = match state {
        ConnectionState::Connected => "connected",
        ConnectionState::Failing => "failing",
        ConnectionState::Unreachable => "unreachable",
        ConnectionState::Unknown => "connecting",
    };
    let since = since.as_deref().map(|since| format!(" since {}", time(scene, since)));
    let mut words = vec![
        Words::new(name, LABEL),
        Words::new(word, look.connection(*state)),
        since.unwrap_or_default().into(),
        Words::new(format!("  {address}"), LABEL),
    ];
    if let Some(detail) = detail {
        words.push(Words::new(format!("  {detail}"), look.odd()));
    }
    words
}

/// Says what all services of a role are to do, by whose word, and how many do it.
fn role(scene: Scene<'_>, name: &str, role: &Role) -> Vec<Words> {
    let look = scene.look;
    let Role { desired, by, at, instances } = role;
    let mut words = vec![Words::new(name, LABEL)];
    if desired.is_empty() {
        words.push(NONE.into());
        return words;
    }
    let is_paused = *desired == "paused";
    words.push(Words::new(*desired, if is_paused { look.odd() } else { look.good() }));
    if !instances.is_empty() {
        let following = instances.iter().filter(|instance| instance.state == *desired).count();
        words.push(format!(" {following}/{}", instances.len()).into());
    }
    if is_paused {
        let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let at = at.as_deref().map(|at| format!(" {}", time(scene, at))).unwrap_or_default();
        words.push(Words::new(format!("{by}{at}"), LABEL));
    }
    words
}

fn time(scene: Scene<'_>, time: &str) -> String {
    moment(time, scene.snapshot.stats.at())
}
