//! Makes what is shown of what was read.

use std::collections::BTreeMap;

use control_topic::record::{Role as ControlRole, RunState};
use control_topic::view::ControlView;
use dead_letter::rfc3339;
use kafka_client::groups::GroupDescription;
use kafka_core::TopicPartition;
use order_ledger::aggregate::{Aggregate, Micros};
use order_ledger::checkpoint::PartitionState;
use tokio::time::Instant;

use super::body::{
    Control, Group, Instance, Member, MemberState, Numbers, Partition, Role, Snapshot, Stats,
    TopicPartitionBody,
};
use crate::group_snapshot::{GroupSnapshot, Unavailable};
use crate::settings::ConsoleSettings;

/// Returns what is known before anything was read.
pub(super) fn nothing(settings: &ConsoleSettings) -> Snapshot {
    let group = settings.group.group_id.clone();
    let stats = Stats {
        version: env!("CARGO_PKG_VERSION"),
        topic: settings.topics.orders_topic.clone(),
        group: group.clone(),
        replay_topic: settings.group_topics.replay.clone(),
        numbers: numbers_of(&Aggregate::default()),
        lag: Some(0),
        complete: true,
        ..Stats::default()
    };
    let group = Group { group, state: Group::UNKNOWN.to_owned(), ..Group::default() };
    let control = control(&ControlView::default(), Instant::now());
    Snapshot { stats, group, control, ..Snapshot::default() }
}

/// Fills in the group's and the partitions' numbers, and how many records it has consumed.
pub(super) fn numbers(stats: &mut Stats, reading: &GroupSnapshot) {
    let mut group = Aggregate::default();
    stats.partitions.clear();
    for tp in reading.partitions() {
        let checkpoint = reading.states.get(&tp);
        let aggregate = checkpoint.map(|state| state.aggregate().clone()).unwrap_or_default();
        group.merge(&aggregate);
        let waiting = checkpoint.map_or(0, PartitionState::incomplete);
        stats.partitions.push(Partition {
            topic: tp.topic.to_string(),
            partition: tp.partition,
            orders: aggregate.orders(),
            average: aggregate.average().map(Micros::as_f64),
            retries: aggregate.retries(),
            dead_letters: aggregate.dead_letters(),
            waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
            lag: reading.lag(&tp),
            lag_seconds: None,
            committed_offset: reading.committed_offset(&tp),
            log_end: reading.log_ends.get(&tp).copied(),
            since: checkpoint.map(PartitionState::since),
            complete: reading.is_complete(&tp, checkpoint),
            member: None,
        });
    }
    stats.numbers = numbers_of(&group);
    stats.waiting = stats.partitions.iter().map(|partition| partition.waiting).sum();
    stats.lag = reading.total_lag();
    stats.complete = stats.partitions.iter().all(|partition| partition.complete);
    stats.consumed.total = group.records();
}

/// Names what is unavailable, the first few one by one.
pub(super) fn list(missing: &[Unavailable]) -> String {
    const NAMED_MAX: usize = 3;
    let named = missing.iter().take(NAMED_MAX).map(Unavailable::to_string);
    let more = missing.len().saturating_sub(NAMED_MAX);
    let more = (more > 0).then(|| format!("{more} more"));
    named.chain(more).collect::<Vec<_>>().join("; ")
}

/// Returns where the logs of a topic's partitions end: at least where they were known to end, while that is unknown.
pub(super) fn ends(
    topic: &str,
    reading: &GroupSnapshot,
    before: &BTreeMap<TopicPartition, i64>,
) -> BTreeMap<TopicPartition, i64> {
    let of_topic = reading.partitions().into_iter().filter(|tp| tp.topic.as_ref() == topic);
    let end = |tp: TopicPartition| {
        let known = reading.log_ends.get(&tp).or_else(|| before.get(&tp)).copied();
        let end = known.or_else(|| reading.committed_offset(&tp)).unwrap_or(0);
        (tp, end)
    };
    of_topic.map(end).collect()
}

fn numbers_of(aggregate: &Aggregate) -> Numbers {
    Numbers {
        orders: aggregate.orders(),
        revenue: aggregate.sum().to_string(),
        average: aggregate.average().map(Micros::as_f64),
        recent_average: aggregate.recent_average().map(Micros::as_f64),
        min: aggregate.min(),
        max: aggregate.max(),
        retries: aggregate.retries(),
        dead_letters: aggregate.dead_letters(),
        duplicates: aggregate.duplicates(),
        replayed: aggregate.replayed(),
    }
}

/// Returns the longest delay; `None` while one that there is may not be known.
pub(super) fn longest(partitions: &[Partition]) -> Option<f64> {
    partitions
        .iter()
        .map(|partition| partition.lag_seconds)
        .try_fold(0.0_f64, |longest, seconds| Some(longest.max(seconds?)))
}

/// Names the member that has each partition.
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

/// Returns the group with what its members say of themselves.
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
        let said = control
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
            state: match said {
                None => MemberState::Unknown,
                Some(said) if said.state == RunState::Paused.as_str() => MemberState::Paused,
                Some(_) => MemberState::Running,
            },
            since: said.and_then(|said| said.since.clone()),
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

/// Returns who is to work, and who does, of those that live.
pub(super) fn control(view: &ControlView, now: Instant) -> Control {
    let role = |role: ControlRole| {
        let desired = view.desired(role);
        let alive = view.instances(role).filter(|instance| view.is_alive(instance, now.into_std()));
        Role {
            desired: desired.state.as_str(),
            by: desired.by.clone(),
            at: desired.at_ms.map(rfc3339),
            instances: alive
                .map(|instance| Instance {
                    name: instance.name.clone(),
                    state: instance.standing.state.as_str(),
                    since: instance.standing.since_ms.map(rfc3339),
                    member_id: instance.standing.member_id.clone(),
                })
                .collect(),
        }
    };
    Control {
        read_only: false,
        generator: role(ControlRole::Generator),
        processor: role(ControlRole::Processor),
    }
}

/// Names a partition.
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
