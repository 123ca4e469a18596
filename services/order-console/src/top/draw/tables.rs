//! Partitions, members and the latest orders.

use std::collections::BTreeMap;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Span;
use service_runtime::grouped;

use super::Scene;
use super::canvas::{Column, Table, put, take_top};
use super::look::LABEL;
use crate::text::Align;
use crate::top::format::{NONE, count, duration, member, member_short, moment, money};
use crate::top::state::Sort;
use crate::view::body::{Member, MemberState, Partition, Snapshot};

const PARTITIONS: &[Column] = &[
    Column::left("PARTITION", 16, 0),
    Column::right("LAG", 9, 1),
    Column::right("BEHIND", 10, 2),
    Column::right("WAITING", 8, 3),
    Column::right("ORDERS", 11, 4),
    Column::right("AVERAGE", 9, 6),
    Column::right("DEAD", 8, 7),
    Column::left("MEMBER", 8, 5),
    Column::right("RETRIES", 9, 8),
    Column::right("COMMITTED", 13, 9),
    Column::right("LOG END", 13, 10),
];
const MEMBERS: &[Column] = &[
    Column::left("MEMBER", 24, 0),
    Column::left("STATE", 8, 1),
    Column::right("LAG", 9, 2),
    Column::left("PARTITIONS", 20, 3),
    Column::left("HOST", 15, 4),
    Column::left("SINCE", 11, 5),
];
const ORDERS: &[Column] = &[
    Column::left("RECENT ORDERS", 15, 0),
    Column::left("TIME", 11, 2),
    Column::left("PRODUCT", 16, 1),
    Column::right("PRICE", 9, 3),
    Column::left("WHY", 17, 4),
    Column::left("WHERE", 18, 5),
    Column::left("ORDER", 36, 6),
];

/// Draws the partitions in the order that was chosen.
pub(super) fn partitions(scene: Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let Snapshot { stats, group, .. } = scene.snapshot;
    let sort = scene.state.sort;
    let (all, room) = (stats.partitions.len(), usize::from(area.height.saturating_sub(1)));
    let above = scene.state.scroll.min(all.saturating_sub(room));
    let row = |partition: &&Partition| {
        let holder = partition.member.as_deref().map(|id| member_short(id, group));
        let no_member = || Span::styled("none", scene.look.bad());
        let mark = if partition.complete { "" } else { "*" };
        vec![
            name(scene.snapshot, &partition.topic, partition.partition).into(),
            count(partition.lag).into(),
            duration(partition.lag_seconds).into(),
            grouped(partition.waiting).into(),
            format!("{}{mark}", grouped(partition.orders)).into(),
            money(partition.average).into(),
            grouped(partition.dead_letters).into(),
            holder.map_or_else(no_member, Span::from),
            grouped(partition.retries).into(),
            count(partition.committed_offset).into(),
            count(partition.log_end).into(),
        ]
    };
    let sorted = sort.sorted(&stats.partitions);
    let shown: Vec<&Partition> = sorted.into_iter().skip(above).take(room).collect();
    let part = if all <= room {
        all.to_string()
    } else {
        format!("{}–{}/{all}", above + 1, above + shown.len())
    };
    let columns: Vec<Column> = PARTITIONS.iter().map(|column| marked(*column, sort)).collect();
    let name = format!("PARTITIONS{} {part}", if sort == Sort::Partition { "▾" } else { "" });
    let rows = shown.iter().map(row).collect();
    Table { name, rows, ..Table::new(&columns, scene.look) }.draw(buffer, area);
}

fn marked(column: Column, sort: Sort) -> Column {
    let title = match (sort, column.title) {
        (Sort::Lag, "LAG") => "LAG▾",
        (Sort::Behind, "BEHIND") => "BEHIND▾",
        (Sort::Orders, "ORDERS") => "ORDERS▾",
        (Sort::Waiting, "WAITING") => "WAITING▾",
        (Sort::DeadLetters, "DEAD") => "DEAD▾",
        (_, title) => title,
    };
    Column { title, ..column }
}

/// Names a partition: the orders' topic is in the title, and any other is the group's replay topic.
fn name(snapshot: &Snapshot, topic: &str, partition: i32) -> String {
    format!("{} {partition}", topic_name(snapshot, topic))
}

fn topic_name(snapshot: &Snapshot, topic: &str) -> &'static str {
    if topic == snapshot.stats.source.topic { "orders" } else { "replay" }
}

pub(super) fn members(scene: Scene<'_>, buffer: &mut Buffer, mut area: Rect) {
    let Snapshot { stats, group, .. } = scene.snapshot;
    let at = stats.at;
    let room = usize::from(area.height.saturating_sub(1));
    let name = format!("MEMBERS {} {}", group.members.len(), group.state);
    let rows = group
        .members
        .iter()
        .take(room)
        .map(|held| {
            let state = match held.state {
                MemberState::Running => "running",
                MemberState::Paused => "paused",
                MemberState::Unknown => NONE,
            };
            vec![
                member(held).into(),
                Span::styled(state, scene.look.member(held.state)),
                count(held.lag).into(),
                held_by(scene.snapshot, held).into(),
                held.host.as_str().into(),
                held.since.map_or_else(|| NONE.to_owned(), |since| moment(since, at)).into(),
            ]
        })
        .collect();
    Table { name, rows, ..Table::new(MEMBERS, scene.look) }.draw(buffer, area);
    if group.members.is_empty() && at.is_some() {
        take_top(&mut area, 1);
        let label = Span::styled("no members: no orders are processed", scene.look.bad());
        put(buffer, area, Align::Left, &label);
    }
}

fn held_by(snapshot: &Snapshot, member: &Member) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for tp in &member.partitions {
        let topic = topic_name(snapshot, &tp.topic);
        topics.entry(topic).or_default().push(tp.partition.to_string());
    }
    let topics = topics.iter().map(|(topic, numbers)| format!("{topic} {}", numbers.join(" ")));
    topics.collect::<Vec<_>>().join(", ")
}

/// Draws the latest orders, and what has become of them.
pub(super) fn orders(scene: Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let room = usize::from(area.height.saturating_sub(1));
    let at = scene.snapshot.stats.at;
    let rows = scene
        .snapshot
        .orders
        .orders
        .iter()
        .take(room)
        .map(|order| {
            let status = match order.attempts {
                Some(attempts) => format!("{} {attempts}", order.status.as_str()),
                None => order.status.as_str().to_owned(),
            };
            let note = || Span::styled(order.note.as_deref().unwrap_or(NONE), LABEL);
            let place = name(scene.snapshot, &order.topic, order.partition);
            vec![
                Span::styled(status, scene.look.status(order.status)),
                moment(order.produced_at, at).into(),
                order.product.as_deref().map_or_else(note, Span::from),
                money(order.price).into(),
                order.error_type.as_deref().unwrap_or_default().into(),
                format!("{place} @{}", order.offset).into(),
                order.order_id.as_deref().unwrap_or(NONE).into(),
            ]
        })
        .collect();
    Table { wide: 2, rows, ..Table::new(ORDERS, scene.look) }.draw(buffer, area);
}
