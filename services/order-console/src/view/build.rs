//! Builds the snapshot from what was read.

use std::collections::BTreeMap;

use control_topic::record::{Role as ControlRole, RunState};
use control_topic::view::ControlView;
use kafka_client::groups::GroupDescription;
use kafka_core::TopicPartition;
use order_ledger::aggregate::Aggregate;
use tokio::time::Instant;

use super::body::{
    Control, Group, Member, MemberState, Partition, Role, Snapshot, Source, Stats,
    TopicPartitionBody,
};
use crate::control::{DesiredState, Instance};
use crate::group_snapshot::{GroupSnapshot, Unavailable};
use crate::settings::ConsoleSettings;
use crate::stats::{GroupStats, PartitionStats};

pub(super) fn nothing(settings: &ConsoleSettings) -> Snapshot {
    let group = settings.group.group_id.clone();
    let stats = Stats {
        version: env!("CARGO_PKG_VERSION"),
        source: Source {
            topic: settings.topics.orders_topic.clone(),
            group: group.clone(),
            replay_topic: settings.group_topics.replay.clone(),
        },
        revenue: Aggregate::default().sum().to_string(),
        lag: Some(0),
        complete: true,
        ..Stats::default()
    };
    let group = Group { group, state: Group::UNKNOWN.to_owned(), ..Group::default() };
    let control = control(&ControlView::default(), Instant::now());
    Snapshot { stats, group, control, ..Snapshot::default() }
}

/// Fills in the numbers of the group and its partitions.
pub(super) fn numbers(stats: &mut Stats, snapshot: &GroupSnapshot) {
    let group = GroupStats::of(snapshot);
    let partition = |partition: PartitionStats| Partition {
        topic: partition.topic,
        partition: partition.partition,
        orders: partition.numbers.orders,
        average: partition.numbers.average,
        retries: partition.numbers.retries,
        dead_letters: partition.numbers.dead_letters,
        waiting: partition.waiting,
        lag: partition.lag,
        lag_seconds: None,
        committed_offset: partition.committed_offset,
        log_end: partition.log_end,
        since: partition.since,
        truncated: partition.truncated,
        complete: partition.complete,
        member: None,
    };
    stats.waiting = group.partitions.iter().map(|partition| partition.waiting).sum();
    stats.partitions = group.partitions.into_iter().map(partition).collect();
    (stats.numbers, stats.revenue) = (group.numbers, group.sum);
    (stats.lag, stats.complete) = (group.lag, group.complete);
    stats.consumed.total = group.records;
}

/// Lists what is unavailable, the first few one by one.
pub(super) fn list(missing: &[Unavailable]) -> String {
    const NAMED_MAX: usize = 3;
    let named = missing.iter().take(NAMED_MAX).map(Unavailable::to_string);
    let more = missing.len().saturating_sub(NAMED_MAX);
    let more = (more > 0).then(|| format!("{more} more"));
    named.chain(more).collect::<Vec<_>>().join("; ")
}

/// Returns the log ends of a topic's partitions: the last known ones where they are unknown.
pub(super) fn ends(
    topic: &str,
    snapshot: &GroupSnapshot,
    before: &BTreeMap<TopicPartition, i64>,
) -> BTreeMap<TopicPartition, i64> {
    let of_topic = snapshot.partitions().into_iter().filter(|tp| tp.topic.as_ref() == topic);
    let end = |tp: TopicPartition| {
        let known = snapshot.log_ends.get(&tp).or_else(|| before.get(&tp)).copied();
        let end = known.or_else(|| snapshot.committed_offset(&tp)).unwrap_or(0);
        (tp, end)
    };
    of_topic.map(end).collect()
}

/// Returns the longest delay; `None` while one may be unknown.
pub(super) fn longest(partitions: &[Partition]) -> Option<f64> {
    partitions
        .iter()
        .map(|partition| partition.lag_seconds)
        .try_fold(0.0_f64, |longest, seconds| Some(longest.max(seconds?)))
}

pub(super) fn assign(partitions: &mut [Partition], group: &GroupDescription) {
    for partition in partitions {
        let tp = tp(&partition.topic, partition.partition);
        let holds = |member: &&kafka_client::groups::GroupMember| {
            member.partitions.as_ref().is_some_and(|held| held.contains(&tp))
        };
        let member = group.members.iter().find(holds);
        partition.member = member.map(|member| member.member_id.clone());
    }
}

/// Returns the group with the states that its members report.
pub(super) fn group(
    group_id: &str,
    group: &GroupDescription,
    partitions: &[Partition],
    control: &Control,
) -> Group {
    let members = group.members.iter().map(|member| {
        let held = member.partitions.clone().unwrap_or_default();
        let is_held =
            |partition: &&Partition| held.contains(&tp(&partition.topic, partition.partition));
        let lag = partitions.iter().filter(is_held).map(|partition| partition.lag).sum();
        let reported = control
            .processor
            .instances
            .iter()
            .find(|instance| instance.member_id.as_ref() == Some(&member.member_id));
        Member {
            member_id: member.member_id.clone(),
            client_id: member.client_id.clone(),
            instance_id: member.instance_id.clone(),
            host: member.host.trim_start_matches('/').to_owned(),
            partitions: held
                .into_iter()
                .map(|tp| TopicPartitionBody {
                    topic: tp.topic.to_string(),
                    partition: tp.partition,
                })
                .collect(),
            lag,
            state: match reported {
                None => MemberState::Unknown,
                Some(instance) if instance.state == RunState::Paused => MemberState::Paused,
                Some(_) => MemberState::Running,
            },
            since: reported.and_then(|instance| instance.since),
        }
    });
    Group {
        group: group_id.to_owned(),
        state: group.state.clone(),
        assignor: group.assignor.clone(),
        coordinator: Some(group.coordinator.clone()),
        members: members.collect(),
    }
}

/// Returns the commands, and the instances that are alive.
pub(super) fn control(view: &ControlView, now: Instant) -> Control {
    let role = |role: ControlRole| {
        let alive = view.instances(role).filter(|instance| view.is_alive(instance, now.into_std()));
        let instances = alive.map(Instance::of).collect();
        Role { command: DesiredState::of(view.desired(role)), instances }
    };
    let (generator, processor) = (role(ControlRole::Generator), role(ControlRole::Processor));
    Control { read_only: false, generator, processor }
}

pub(super) fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_delay_is_known_only_if_every_delay_is() {
        let of = |seconds: &[Option<f64>]| {
            let partition = |lag_seconds: &Option<f64>| Partition {
                lag_seconds: *lag_seconds,
                ..Partition::default()
            };
            longest(&seconds.iter().map(partition).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Some(0.0));
        assert_eq!(of(&[Some(1.5), Some(0.0), Some(2.5)]), Some(2.5));
        assert_eq!(of(&[Some(1.5), None]), None);
    }
}
