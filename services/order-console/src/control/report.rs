//! What the control topic says, for people and for programs.

use std::collections::BTreeSet;
use std::time::Instant;

use control_topic::record::{Role, time_text};
use control_topic::view::{ControlView, Instance};
use serde::Serialize;
use service_runtime::printable;

use crate::dlq::render::{Align, table};

/// What is wanted of whom, and who does what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControlReport {
    /// The services that produce orders.
    pub generator: RoleReport,
    /// The services that process them.
    pub processor: RoleReport,
}

/// What is wanted of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoleReport {
    /// `running` or `paused`.
    pub desired: &'static str,
    /// Who wants it; nobody where it was never said.
    pub by: Option<String>,
    /// Since when, in RFC 3339.
    pub at: Option<String>,
    /// The instances that have not said that they ended, by name.
    pub instances: Vec<InstanceReport>,
}

/// What an instance says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceReport {
    /// Its name.
    pub name: String,
    /// `running` or `paused`.
    pub state: &'static str,
    /// Since when, in RFC 3339.
    pub since: Option<String>,
    /// Which member of the group it is.
    pub member_id: Option<String>,
    /// Whether a processor is in the group; where that is not known, and of a generator, whether it gives signs of life.
    pub alive: bool,
    /// For how long it has given no sign of life, in seconds, by the broker's clock.
    pub silent_seconds: u64,
}

impl ControlReport {
    /// Reports a view; `members` are the member ids of the processors' group, `None` where they are not known.
    pub fn of(view: &ControlView, members: Option<&BTreeSet<String>>, now: Instant) -> Self {
        let role = |role: Role| {
            let desired = view.desired(role);
            let instance = |instance: &Instance| InstanceReport {
                name: instance.name.clone(),
                state: instance.standing.state.as_str(),
                since: instance.standing.since_ms.and_then(time_text),
                member_id: instance.standing.member_id.clone(),
                alive: is_alive(view, role, instance, members, now),
                silent_seconds: view.silence(instance, now).as_secs(),
            };
            RoleReport {
                desired: desired.state.as_str(),
                by: desired.by.clone(),
                at: desired.at_ms.and_then(time_text),
                instances: view.instances(role).map(instance).collect(),
            }
        };
        Self { generator: role(Role::Generator), processor: role(Role::Processor) }
    }

    /// Returns it as tables: of the roles, and of the instances, if there are any.
    pub(super) fn table(&self) -> String {
        let roles = [(Role::Generator, &self.generator), (Role::Processor, &self.processor)];
        let mut rows = vec![row(["ROLE", "IS TO BE", "BY", "SINCE"])];
        rows.extend(roles.iter().map(|(role, report)| {
            let by = report.by.as_deref().map(printable);
            row([role.as_str(), report.desired, text(by.as_ref()), text(report.at.as_ref())])
        }));
        let mut tables = table(&[Align::Left; 4], &rows);
        let mut rows = vec![row(["ROLE", "INSTANCE", "IS", "SINCE", "MEMBER"])];
        for (role, report) in roles {
            rows.extend(report.instances.iter().map(|instance| {
                let is = if instance.alive {
                    instance.state.to_owned()
                } else {
                    format!("gone, silent for {} s", instance.silent_seconds)
                };
                let (name, member) =
                    (printable(&instance.name), instance.member_id.as_deref().map(printable));
                let since = text(instance.since.as_ref());
                row([role.as_str(), &name, &is, since, text(member.as_ref())])
            }));
        }
        if rows.len() > 1 {
            tables.push('\n');
            tables.push_str(&table(&[Align::Left; 5], &rows));
        }
        tables
    }
}

/// Returns whether an instance lives: a member of the group does, however silent it is, and who is not known to be one while
/// it gives signs.
pub(super) fn is_alive(
    view: &ControlView,
    role: Role,
    instance: &Instance,
    members: Option<&BTreeSet<String>>,
    now: Instant,
) -> bool {
    match (role, members, &instance.standing.member_id) {
        (Role::Processor, Some(members), Some(member_id)) => members.contains(member_id),
        // Nobody knows, or it has not joined yet.
        (Role::Processor | Role::Generator, _, _) => view.is_alive(instance, now),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn text(cell: Option<&String>) -> &str {
    cell.map_or("-", String::as_str)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use control_topic::SILENCE_MAX;
    use control_topic::record::{Desired, Entry, RunState, Standing};
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_are_told_what_is_wanted_and_who_lives() {
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
    fn people_see_no_control_characters_and_how_long_somebody_is_silent() {
        let now = tokio::time::Instant::now().into_std();
        let later = now + SILENCE_MAX + Duration::from_secs(1);
        let lines = ControlReport::of(&view(now), None, later).table();
        assert!(
            lines.contains("processor  paused    kim\u{fffd}  1970-01-01T00:00:02.000Z"),
            "{lines}"
        );
        assert!(lines.contains("gone, silent for 16 s  1970-01-01T00:00:01.000Z  m1"), "{lines}");
    }

    #[test]
    fn a_member_of_the_group_lives_however_silent_it_is() {
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

    fn view(now: Instant) -> ControlView {
        let mut view = ControlView::default();
        let by = Some("kim\u{7}".to_owned());
        let desired = Desired { state: RunState::Paused, at_ms: Some(2_000), by, id: None };
        view.apply(0, Entry::Desired(Role::Processor, Some(desired)), 2_000, now);
        for (name, member_id) in [("a", "m1"), ("b", "m2")] {
            let standing = Standing {
                state: RunState::Paused,
                since_ms: Some(1_000),
                member_id: Some(member_id.to_owned()),
                command: None,
            };
            let (role, name) = (Role::Processor, name.to_owned());
            view.apply(1, Entry::Instance { role, name, standing: Some(standing) }, 2_000, now);
        }
        view
    }
}
