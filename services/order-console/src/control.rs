//! `order-console control`: pauses and resumes generators and processors, and shows the state of each.
//!
//! A command is written to the control topic, then the reports are read to their end, and watched until every instance that
//! lives has followed: its report names the command and does what the command says. A processor lives as long as it is a
//! member of the group, however silent it is; a generator, and a processor of which that is not known, as long as it gives
//! signs of life. A member that is a processor and has said nothing yet has not followed either.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use control_topic::record::{Role, RunState};
use control_topic::view::{ControlView, Instance};
use control_topic::{Follower, command, ends, forget};
use kafka_client::cluster::Cluster;
use kafka_client::error::chain;
use kafka_client::groups::describe_group;
use service_runtime::Context;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub use self::report::{ControlReport, InstanceReport, RoleReport};
use crate::dlq::OperatorArguments;
use crate::output::{Closed, Output};
use crate::settings::ConsoleSettings;
use kafka_client::retry::while_retriable;

/// How long the topic may take to be read.
const READING_MAX: Duration = Duration::from_secs(15);
/// Pause between two looks at the group while somebody has not followed.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The command; without one, the state is shown.
#[derive(Clone, Debug, Subcommand)]
pub enum ControlCommand {
    /// Pauses services: they begin nothing, finish the work in flight and commit it.
    Pause {
        /// Which services, and the operator.
        #[command(flatten)]
        arguments: TargetArguments,
    },
    /// Resumes services where they were.
    Resume {
        /// Which services, and the operator.
        #[command(flatten)]
        arguments: TargetArguments,
    },
}

/// Which services, and the operator.
#[derive(Clone, Debug, Args)]
pub struct TargetArguments {
    /// Which services.
    #[arg(value_enum, default_value_t = Target::All)]
    target: Target,
    /// How many seconds the services may take to follow.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    wait: u64,
    #[command(flatten)]
    operator: OperatorArguments,
}

/// Which services are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Those that produce orders.
    Generator,
    /// Those that process them.
    Processor,
    /// Both.
    All,
}

impl Target {
    /// Returns the roles that are meant.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Generator => &[Role::Generator],
            Self::Processor => &[Role::Processor],
            Self::All => &Role::ALL,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the cluster does not answer, the topic takes no word, or somebody has not followed in time.
pub async fn run(
    settings: ConsoleSettings,
    context: Context,
    command: Option<ControlCommand>,
    is_json: bool,
) -> anyhow::Result<()> {
    let executed = context.stop.run_until_cancelled(execute(&settings, command, is_json)).await;
    match executed.unwrap_or_else(|| bail!("interrupted")) {
        Err(error) if error.is::<Closed>() => Ok(()),
        outcome => outcome,
    }
}

async fn execute(
    settings: &ConsoleSettings,
    asked: Option<ControlCommand>,
    is_json: bool,
) -> anyhow::Result<()> {
    let cluster = settings.cluster();
    let topic = settings.topics.control_topic.as_str();
    let follower = Follower::start(cluster.clone(), topic);
    let mut view = follower.view();
    let arguments = match asked {
        None => None,
        Some(ControlCommand::Pause { arguments }) => Some((RunState::Paused, arguments)),
        Some(ControlCommand::Resume { arguments }) => Some((RunState::Running, arguments)),
    };
    let Some((state, arguments)) = arguments else {
        read(&mut view, &BTreeMap::new()).await?;
        let members = members(&cluster, settings).await;
        return print(&view.borrow(), members.as_ref(), is_json);
    };
    let (roles, by) = (arguments.target.roles(), arguments.operator.name());
    let replication_factor = settings.topics.replication_factor;
    command(&cluster, topic, replication_factor, roles, state, by)
        .await
        .with_context(|| format!("write to topic {topic}"))?;
    // What is reported before these ends includes every instance that may have begun without having read the command.
    let ends =
        while_retriable(|| ends(&cluster, topic)).await.context("find the end of the reports")?;
    read(&mut view, &ends).await?;
    let waited = Duration::from_secs(arguments.wait);
    let left = timeout(waited, followed(&cluster, settings, &mut view, roles, state)).await;
    let members = members(&cluster, settings).await;
    let seen = view.borrow().clone();
    print(&seen, members.as_ref(), is_json)?;
    forget_the_dead(&cluster, topic, &seen, members.as_ref()).await;
    if left.is_err() {
        let names = laggards(&seen, members.as_ref(), roles, state);
        if !names.is_empty() {
            bail!("not {state} after {} s: {}", arguments.wait, names.join(", "));
        }
    }
    Ok(())
}

/// Waits until the topic was read, at least up to these ends of its partitions.
async fn read(
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

/// Waits until every instance that lives does what it is told.
async fn followed(
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

/// Returns the ids of the group's members that are processors, and no guests; `None` where nobody says.
async fn members(cluster: &Cluster, settings: &ConsoleSettings) -> Option<BTreeSet<String>> {
    match describe_group(cluster, &settings.group.group_id).await {
        Ok(group) => {
            let client_id = Role::Processor.client_id();
            let ours = group.members.into_iter().filter(|member| member.client_id == client_id);
            Some(ours.map(|member| member.member_id).collect())
        }
        Err(error) => {
            tracing::debug!(error = %chain(&error), "cannot see who is in the group");
            None
        }
    }
}

/// Takes out of the topic what instances reported that have been dead for long. What fails is left to the next command.
async fn forget_the_dead(
    cluster: &Cluster,
    topic: &str,
    view: &ControlView,
    members: Option<&BTreeSet<String>>,
) {
    let now = Instant::now().into_std();
    for role in Role::ALL {
        let is_dead = |instance: &&Instance| {
            view.is_forgotten(instance, now)
                && !report::is_alive(view, role, instance, members, now)
        };
        let dead: Vec<&Instance> = view.instances(role).filter(is_dead).collect();
        if let Err(error) = forget(cluster, topic, role, &dead).await {
            tracing::debug!(%error, "the reports of dead instances stay in the control topic");
        }
    }
}

/// Returns who lives and does something else than `state`, or has not said what it does since that is wanted.
fn laggards(
    view: &ControlView,
    members: Option<&BTreeSet<String>>,
    roles: &[Role],
    state: RunState,
) -> Vec<String> {
    let now = Instant::now().into_std();
    let lags = |role: Role, instance: &&Instance| {
        // What it said before it read the last command may not be so any more.
        let follows = instance.standing.state == state && view.is_current(role, instance);
        !follows && report::is_alive(view, role, instance, members, now)
    };
    let of_role = |role: &Role| {
        let role = *role;
        view.instances(role)
            .filter(move |instance| lags(role, instance))
            .map(move |instance| format!("{role} {}", instance.name))
    };
    let has_spoken = |member_id: &&String| {
        let mut instances = view.instances(Role::Processor);
        instances.any(|instance| instance.standing.member_id.as_ref() == Some(member_id))
    };
    let silent = members.into_iter().flatten().filter(|member_id| !has_spoken(member_id));
    let silent = silent.filter(|_| roles.contains(&Role::Processor));
    let silent = silent.map(|member_id| format!("member {member_id}, which says nothing"));
    let unknown = [
        (view.is_young(now), "instances that have not reported yet to a topic this young"),
        (view.is_overfull(), "instances beyond those that can be shown"),
    ];
    let unknown = unknown.into_iter().filter(|(is_so, _)| *is_so).map(|(_, who)| who.to_owned());
    roles.iter().flat_map(of_role).chain(silent).chain(unknown).collect()
}

fn print(
    view: &ControlView,
    members: Option<&BTreeSet<String>>,
    is_json: bool,
) -> anyhow::Result<()> {
    let report = ControlReport::of(view, members, Instant::now().into_std());
    let mut output = Output::new();
    if is_json {
        output.line(&serde_json::to_string(&report).context("write JSON")?)?;
    } else {
        output.text(&report.table())?;
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use control_topic::record::{Desired, Entry, Standing};

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
            let standing = Some(Standing { state, member_id, ..Standing::default() });
            let name = name.to_owned();
            apply(&mut view, Entry::Instance { role, name, standing });
        }
        let members = BTreeSet::from(["m1", "m2", "m3"].map(str::to_owned));
        let lags = |roles: &[Role], state| laggards(&view, Some(&members), roles, state);
        let unheard = "member m3, which says nothing";
        assert_eq!(lags(&[Role::Processor], RunState::Paused), ["processor b", unheard]);
        assert_eq!(lags(&[Role::Processor], RunState::Running), ["processor a", unheard]);
        assert_eq!(lags(&[Role::Generator], RunState::Paused), ["generator g"]);
        assert!(lags(&[Role::Generator], RunState::Running).is_empty());
    }

    #[test]
    fn a_report_from_before_a_resume_and_a_pause_does_not_count_after_them() {
        let mut view = old_topic();
        let said = |state, command: &str| {
            let (command, member_id) = (Some(command.to_owned()), Some("m1".to_owned()));
            let standing = Some(Standing { state, command, member_id, since_ms: None });
            Entry::Instance { role: Role::Processor, name: "a".to_owned(), standing }
        };
        let word = |state, id: &str| {
            let desired = Desired { id: Some(id.to_owned()), state, ..Desired::default() };
            Entry::Desired(Role::Processor, Some(desired))
        };
        let members = BTreeSet::from(["m1".to_owned()]);
        let lags = |view: &ControlView| {
            laggards(view, Some(&members), &[Role::Processor], RunState::Paused)
        };
        apply(&mut view, word(RunState::Paused, "1"));
        apply(&mut view, said(RunState::Paused, "1"));
        assert!(lags(&view).is_empty());

        apply(&mut view, word(RunState::Running, "2"));
        apply(&mut view, word(RunState::Paused, "3"));
        apply(&mut view, said(RunState::Paused, "1"));
        assert_eq!(lags(&view), ["processor a"], "it has paused, but may have run since");
        apply(&mut view, said(RunState::Running, "3"));
        assert_eq!(lags(&view), ["processor a"]);
        apply(&mut view, said(RunState::Paused, "3"));
        assert!(lags(&view).is_empty());
    }

    #[test]
    fn one_of_many_that_does_not_follow_is_named() {
        const INSTANCES: i64 = 5_000;
        let mut view = old_topic();
        for number in 0..INSTANCES {
            let state = if number == 0 { RunState::Running } else { RunState::Paused };
            let standing = Some(Standing { state, ..Standing::default() });
            let (role, name) = (Role::Generator, number.to_string());
            let now = Instant::now().into_std();
            view.apply(1, Entry::Instance { role, name, standing }, 60_000 + number, now);
        }
        let lags = laggards(&view, None, &[Role::Generator], RunState::Paused);
        assert_eq!(lags, ["generator 0"]);
    }

    #[test]
    fn nobody_has_followed_while_instances_may_be_unknown() {
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

    #[test]
    fn all_are_both() {
        assert_eq!(Target::All.roles(), [Role::Generator, Role::Processor]);
        assert_eq!(Target::Processor.roles(), [Role::Processor]);
        assert_eq!(Target::Generator.roles(), [Role::Generator]);
    }
}
