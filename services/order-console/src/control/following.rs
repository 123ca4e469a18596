//! Waits until every instance has followed a command.
//!
//! A command is written to the control topic. Then the reports are read to their end, and followed until every instance
//! that is alive has followed: its report names the command and has the state of the command. A member of the group that
//! is a processor and has not reported yet has not followed either.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use control_topic::forget;
use control_topic::record::{Role, RunState};
use control_topic::view::{ControlView, Instance};
use kafka_client::cluster::Cluster;
use kafka_client::error::chain;
use kafka_client::groups::describe_group;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::is_alive;
use crate::settings::ConsoleSettings;

/// How long a read of the topic may take.
const READING_MAX: Duration = Duration::from_secs(15);
/// Pause between two descriptions of the group while an instance has not followed.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Waits until the topic was read, at least up to these ends of its partitions.
pub(crate) async fn read(
    view: &mut watch::Receiver<ControlView>,
    ends: &BTreeMap<i32, i64>,
) -> anyhow::Result<()> {
    let is_there =
        |view: &ControlView| view.refusal().is_some() || (view.is_read() && view.has_reached(ends));
    let waited = timeout(READING_MAX, view.wait_for(is_there)).await;
    let seen = waited.context("the control topic does not answer")?.context("follow the topic")?;
    match seen.refusal() {
        None => Ok(()),
        Some(why) => bail!("the control topic may not be read: {why}"),
    }
}

/// Waits until every instance that is alive has reported `state`.
pub(crate) async fn followed(
    cluster: &Cluster,
    settings: &ConsoleSettings,
    view: &mut watch::Receiver<ControlView>,
    roles: &[Role],
    state: RunState,
) {
    loop {
        let members = members(cluster, settings).await;
        if laggards(&view.borrow_and_update(), members.as_ref(), roles, state).is_empty() {
            return;
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() {
                return;
            },
            () = sleep(LOOK_INTERVAL) => {}
        }
    }
}

/// Returns the ids of the group's members that are processors; `None` while the coordinator does not answer.
pub(crate) async fn members(
    cluster: &Cluster,
    settings: &ConsoleSettings,
) -> Option<BTreeSet<String>> {
    match describe_group(cluster, &settings.group.group_id).await {
        Ok(group) => {
            let client_id = Role::Processor.client_id();
            let ours = group.members.into_iter().filter(|member| member.client_id == client_id);
            Some(ours.map(|member| member.member_id).collect())
        }
        Err(error) => {
            tracing::debug!(error = %chain(&error), "cannot describe the group");
            None
        }
    }
}

/// Deletes the reports of instances that have been dead for long. The next command tries again what fails.
pub(crate) async fn forget_the_dead(
    cluster: &Cluster,
    topic: &str,
    view: &ControlView,
    members: Option<&BTreeSet<String>>,
) {
    let now = Instant::now().into_std();
    for role in Role::ALL {
        let is_dead = |instance: &&Instance| {
            view.is_forgotten(instance, now) && !is_alive(view, role, instance, members, now)
        };
        let dead: Vec<&Instance> = view.instances(role).filter(is_dead).collect();
        if let Err(error) = forget(cluster, topic, role, &dead).await {
            tracing::debug!(%error, "the reports of dead instances stay in the control topic");
        }
    }
}

/// Returns the instances that are alive and have not reported `state` since the last command.
pub(crate) fn laggards(
    view: &ControlView,
    members: Option<&BTreeSet<String>>,
    roles: &[Role],
    state: RunState,
) -> Vec<String> {
    let now = Instant::now().into_std();
    let lags = |role: Role, instance: &&Instance| {
        // A report from before the last command may be outdated.
        let follows = instance.report.state == state && view.is_current(role, instance);
        !follows && is_alive(view, role, instance, members, now)
    };
    let of_role = |role: &Role| {
        let role = *role;
        view.instances(role)
            .filter(move |instance| lags(role, instance))
            .map(move |instance| format!("{role} {}", instance.name))
    };
    let has_reported = |member_id: &&String| {
        let mut instances = view.instances(Role::Processor);
        instances.any(|instance| instance.report.member_id.as_ref() == Some(member_id))
    };
    let silent = members.into_iter().flatten().filter(|member_id| !has_reported(member_id));
    let silent = silent.filter(|_| roles.contains(&Role::Processor));
    let silent = silent.map(|member_id| format!("member {member_id}, which has not reported"));
    let unknown = [
        (view.is_young(now), "instances that have not reported yet to a topic this young"),
        (view.is_overfull(), "instances beyond those that can be shown"),
    ];
    let unknown = unknown.into_iter().filter(|(is_so, _)| *is_so).map(|(_, who)| who.to_owned());
    roles.iter().flat_map(of_role).chain(silent).chain(unknown).collect()
}

#[cfg(test)]
mod tests {
    use control_topic::record::{Desired, Entry, InstanceReport};

    use super::*;

    #[test]
    fn an_instance_in_another_state_or_without_a_report_has_not_followed() {
        let mut view = old_topic();
        for (role, name, state, member_id) in [
            (Role::Generator, "g", RunState::Running, None),
            (Role::Processor, "a", RunState::Paused, Some("m1")),
            (Role::Processor, "b", RunState::Running, Some("m2")),
            (Role::Processor, "dead", RunState::Running, Some("m0")),
        ] {
            let member_id = member_id.map(str::to_owned);
            let report = Some(InstanceReport { state, member_id, ..InstanceReport::default() });
            let name = name.to_owned();
            apply(&mut view, Entry::Instance { role, name, report });
        }
        let members = BTreeSet::from(["m1", "m2", "m3"].map(str::to_owned));
        let lags = |roles: &[Role], state| laggards(&view, Some(&members), roles, state);
        let silent = "member m3, which has not reported";
        assert_eq!(lags(&[Role::Processor], RunState::Paused), ["processor b", silent]);
        assert_eq!(lags(&[Role::Processor], RunState::Running), ["processor a", silent]);
        assert_eq!(lags(&[Role::Generator], RunState::Paused), ["generator g"]);
        assert!(lags(&[Role::Generator], RunState::Running).is_empty());
    }

    #[test]
    fn a_report_from_before_a_resume_and_a_pause_does_not_count_after_them() {
        let mut view = old_topic();
        let reported = |state, id: &str| {
            let (command, member_id) = (Some(id.to_owned()), Some("m1".to_owned()));
            let report = Some(InstanceReport { state, command, member_id, since_ms: None });
            Entry::Instance { role: Role::Processor, name: "a".to_owned(), report }
        };
        let command = |state, id: &str| {
            let desired = Desired { id: Some(id.to_owned()), state, ..Desired::default() };
            Entry::Desired(Role::Processor, Some(desired))
        };
        let members = BTreeSet::from(["m1".to_owned()]);
        let lags = |view: &ControlView| {
            laggards(view, Some(&members), &[Role::Processor], RunState::Paused)
        };
        apply(&mut view, command(RunState::Paused, "1"));
        apply(&mut view, reported(RunState::Paused, "1"));
        assert!(lags(&view).is_empty());

        apply(&mut view, command(RunState::Running, "2"));
        apply(&mut view, command(RunState::Paused, "3"));
        apply(&mut view, reported(RunState::Paused, "1"));
        assert_eq!(lags(&view), ["processor a"], "it has paused, but may have run since");
        apply(&mut view, reported(RunState::Running, "3"));
        assert_eq!(lags(&view), ["processor a"]);
        apply(&mut view, reported(RunState::Paused, "3"));
        assert!(lags(&view).is_empty());
    }

    #[test]
    fn one_of_many_that_does_not_follow_is_named() {
        const INSTANCES: i64 = 5_000;
        let mut view = old_topic();
        for number in 0..INSTANCES {
            let state = if number == 0 { RunState::Running } else { RunState::Paused };
            let report = Some(InstanceReport { state, ..InstanceReport::default() });
            let (role, name) = (Role::Generator, number.to_string());
            let now = Instant::now().into_std();
            view.apply(1, Entry::Instance { role, name, report }, 60_000 + number, now);
        }
        let lags = laggards(&view, None, &[Role::Generator], RunState::Paused);
        assert_eq!(lags, ["generator 0"]);
    }

    #[test]
    fn no_command_is_followed_while_instances_may_be_unknown() {
        let mut view = ControlView::default();
        apply(&mut view, Entry::Desired(Role::Generator, None));
        let lags = laggards(&view, None, &[Role::Generator], RunState::Paused);
        assert_eq!(lags, ["instances that have not reported yet to a topic this young"]);
    }

    /// A view of a topic that has been there for a minute.
    fn old_topic() -> ControlView {
        let mut view = ControlView::default();
        let now = Instant::now().into_std();
        view.apply(0, Entry::Desired(Role::Generator, None), 0, now);
        view
    }

    fn apply(view: &mut ControlView, entry: Entry) {
        view.apply(0, entry, 60_000, Instant::now().into_std());
    }
}
