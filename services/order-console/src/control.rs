//! The state of generators and processors, as the control topic has it.
//!
//! A processor is alive while it is a member of the group, even if it does not report. A generator is alive while it
//! reports, and so is a processor while the members of the group are unknown.

pub(crate) mod following;

use std::collections::BTreeSet;
use std::time::Instant;

use clap::ValueEnum;
use control_topic::CommandError;
use control_topic::record::{Desired, Role, RunState};
use control_topic::view::{self, ControlView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::{Object, ObjectBuilder, Type};

use crate::settings::ConsoleSettings;
use crate::time::Time;

/// The services that a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    /// Those that produce orders.
    Generator,
    /// Those that process them.
    Processor,
    /// Both.
    All,
}

/// The last command to a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct DesiredState {
    #[schema(schema_with = run_state)]
    pub(crate) desired: RunState,
    /// The operator; null while there was no command.
    pub(crate) by: Option<String>,
    /// Since when it is in effect.
    pub(crate) at: Option<Time>,
}

/// The state that an instance reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Instance {
    pub(crate) name: String,
    #[schema(schema_with = run_state)]
    pub(crate) state: RunState,
    pub(crate) since: Option<Time>,
    /// The id of a processor as a member of the group.
    pub(crate) member_id: Option<String>,
}

/// The last command to each role, and the state of each instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ControlReport {
    pub(crate) generator: RoleStatus,
    pub(crate) processor: RoleStatus,
}

/// The last command to a role, and the state of its instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RoleStatus {
    #[serde(flatten)]
    pub(crate) command: DesiredState,
    /// The instances that have not reported their end, by name.
    pub(crate) instances: Vec<InstanceStatus>,
}

/// The state of an instance, and whether it is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct InstanceStatus {
    #[serde(flatten)]
    pub(crate) instance: Instance,
    pub(crate) alive: bool,
    /// Time since its last report, in seconds, by the broker's clock.
    pub(crate) silent_seconds: u64,
}

impl Target {
    pub(crate) fn roles(self) -> &'static [Role] {
        match self {
            Self::Generator => &[Role::Generator],
            Self::Processor => &[Role::Processor],
            Self::All => &Role::ALL,
        }
    }
}

/// Commands all services of `roles` to run or to pause, in the name of `by`.
///
/// # Errors
/// As [`control_topic::command`].
pub(crate) async fn command(
    settings: &ConsoleSettings,
    roles: &[Role],
    state: RunState,
    by: String,
) -> Result<(), CommandError> {
    let topics = &settings.topics;
    let (topic, replication_factor) = (&topics.control_topic, topics.replication_factor);
    let cluster = settings.cluster();
    control_topic::command(&cluster, topic, replication_factor, roles, state, by).await.map(drop)
}

/// Returns whether an instance is alive: a processor while it is a member of the group, any other while it reports.
fn is_alive(
    view: &ControlView,
    role: Role,
    instance: &view::Instance,
    members: Option<&BTreeSet<String>>,
    now: Instant,
) -> bool {
    match (role, members, &instance.report.member_id) {
        (Role::Processor, Some(members), Some(member_id)) => members.contains(member_id),
        // The members are unknown, or it has not joined yet.
        (Role::Processor | Role::Generator, _, _) => view.is_alive(instance, now),
    }
}

/// Describes a [`RunState`].
fn run_state() -> Object {
    let states = [RunState::Running, RunState::Paused].map(RunState::as_str);
    let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(states));
    schema.description(Some("Whether a service works.")).build()
}

impl DesiredState {
    pub(crate) fn of(desired: &Desired) -> Self {
        let Desired { state, by, at_ms, .. } = desired;
        Self { desired: *state, by: by.clone(), at: at_ms.map(Time::of) }
    }
}

impl Instance {
    pub(crate) fn of(instance: &view::Instance) -> Self {
        Self {
            name: instance.name.clone(),
            state: instance.report.state,
            since: instance.report.since_ms.map(Time::of),
            member_id: instance.report.member_id.clone(),
        }
    }
}

impl ControlReport {
    /// Reports a view; `members` are the member ids of the processors' group, `None` where they are unknown.
    pub(crate) fn of(view: &ControlView, members: Option<&BTreeSet<String>>, now: Instant) -> Self {
        let instance = |role, instance: &view::Instance| InstanceStatus {
            instance: Instance::of(instance),
            alive: is_alive(view, role, instance, members, now),
            silent_seconds: view.silence(instance, now).as_secs(),
        };
        let role = |role: Role| RoleStatus {
            command: DesiredState::of(view.desired(role)),
            instances: view.instances(role).map(|found| instance(role, found)).collect(),
        };
        Self { generator: role(Role::Generator), processor: role(Role::Processor) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use control_topic::SILENCE_MAX;
    use control_topic::record::{Entry, InstanceReport};
    use serde_json::json;

    use super::*;

    #[test]
    fn json_has_the_commands_and_which_instances_are_alive() {
        let now = tokio::time::Instant::now().into_std();
        let report = ControlReport::of(&view(now), Some(&BTreeSet::from(["m1".to_owned()])), now);
        let paused = |name: &str, member: &str, alive: bool| {
            json!({"name": name, "state": "paused", "since": "1970-01-01T00:00:01.000Z", "member_id": member,
                "alive": alive, "silent_seconds": 0})
        };
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            json!({
                "generator": {"desired": "running", "by": null, "at": null, "instances": []},
                "processor": {
                    "desired": "paused", "by": "kim\u{7}", "at": "1970-01-01T00:00:02.000Z",
                    "instances": [paused("a", "m1", true), paused("b", "m2", false)],
                },
            })
        );
    }

    #[test]
    fn a_member_of_the_group_is_alive_even_if_it_does_not_report() {
        let now = tokio::time::Instant::now().into_std();
        let later = now + SILENCE_MAX + Duration::from_secs(1);
        let (view, members) = (view(now), BTreeSet::from(["m1".to_owned()]));
        let alive = |members, now| {
            let instances = ControlReport::of(&view, members, now).processor.instances;
            [0, 1].map(|place| instances[place].alive)
        };
        assert_eq!(alive(Some(&members), now), [true, false]);
        assert_eq!(alive(Some(&members), later), [true, false]);
        assert_eq!(alive(None, now), [true, true]);
        assert_eq!(alive(None, later), [false, false]);
    }

    #[test]
    fn all_are_both() {
        assert_eq!(Target::All.roles(), [Role::Generator, Role::Processor]);
        assert_eq!(Target::Processor.roles(), [Role::Processor]);
        assert_eq!(Target::Generator.roles(), [Role::Generator]);
    }

    /// Returns a view of two processors that kim has paused; their names need escaping.
    pub(crate) fn view(now: Instant) -> ControlView {
        let mut view = ControlView::default();
        let by = Some("kim\u{7}".to_owned());
        let desired = Desired { state: RunState::Paused, at_ms: Some(2_000), by, id: None };
        view.apply(0, Entry::Desired(Role::Processor, Some(desired)), 2_000, now);
        for (name, member_id) in [("a", "m1"), ("b", "m2")] {
            let report = InstanceReport {
                state: RunState::Paused,
                since_ms: Some(1_000),
                member_id: Some(member_id.to_owned()),
                command: None,
            };
            let (role, name) = (Role::Processor, name.to_owned());
            view.apply(1, Entry::Instance { role, name, report: Some(report) }, 2_000, now);
        }
        view
    }
}
