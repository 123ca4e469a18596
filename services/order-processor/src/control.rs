//! `order-processor control`: stops and starts generators and processors, and shows which of them run.
//!
//! A word is written to the control topic, and then watched until everybody has followed it: every instance that lives. A
//! processor lives as long as it is a member of the group, however silent it is; a generator, and a processor of which that
//! is not known, as long as it gives signs of life. A member that is a processor and has said nothing yet has not followed
//! either.

mod report;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use control_topic::record::{Role, RunState};
use control_topic::view::{ControlView, Instance};
use control_topic::{Follower, Missing, command};
use kafka_client::cluster::Cluster;
use kafka_client::error::chain;
use kafka_client::groups::describe_group;
use service_runtime::Context;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub use self::report::{ControlReport, InstanceReport, RoleReport};
use crate::dlq::OperatorArguments;
use crate::output::{Closed, Output};
use crate::settings::ProcessorSettings;

/// How long the topic may take to be read.
const READING_MAX: Duration = Duration::from_secs(15);
/// Pause between two looks at the group while somebody has not followed.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What is done; without a word, what holds is shown.
#[derive(Clone, Debug, Subcommand)]
pub enum ControlCommand {
    /// Lets nothing more be produced or processed; what is under way comes to its end.
    Stop {
        /// Who is told, and by whom.
        #[command(flatten)]
        told: ToldArguments,
    },
    /// Lets them go on where they were.
    Start {
        /// Who is told, and by whom.
        #[command(flatten)]
        told: ToldArguments,
    },
}

/// Who is told, and by whom.
#[derive(Clone, Debug, Args)]
pub struct ToldArguments {
    /// Which services.
    #[arg(value_enum, default_value_t = Target::All)]
    target: Target,
    /// How many seconds everybody may take to follow.
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
    settings: ProcessorSettings,
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
    settings: &ProcessorSettings,
    asked: Option<ControlCommand>,
    is_json: bool,
) -> anyhow::Result<()> {
    let cluster = settings.cluster();
    let topic = settings.topics.control_topic.as_str();
    let follower = Follower::start(cluster.clone(), topic, Missing::Leave);
    let mut view = follower.view();
    let told = match asked {
        None => None,
        Some(ControlCommand::Stop { told }) => Some((RunState::Paused, told)),
        Some(ControlCommand::Start { told }) => Some((RunState::Running, told)),
    };
    let Some((state, told)) = told else {
        read(&mut view, 0).await?;
        let members = members(&cluster, settings).await;
        return print(&view.borrow(), members.as_ref(), is_json);
    };
    let (roles, by) = (told.target.roles(), told.operator.name());
    let replication_factor = settings.topics.replication_factor;
    let commanded = command(&cluster, topic, replication_factor, roles, state, by)
        .await
        .with_context(|| format!("write to topic {topic}"))?;
    read(&mut view, commanded.next_offset).await?;
    let waited = Duration::from_secs(told.wait);
    let left = timeout(waited, followed(&cluster, settings, &mut view, roles, state)).await;
    let members = members(&cluster, settings).await;
    print(&view.borrow(), members.as_ref(), is_json)?;
    if left.is_err() {
        let names = laggards(&view.borrow(), members.as_ref(), roles, state);
        if !names.is_empty() {
            bail!("not {state} after {} s: {}", told.wait, names.join(", "));
        }
    }
    Ok(())
}

/// Waits until the topic was read, at least up to an offset.
async fn read(view: &mut watch::Receiver<ControlView>, next_offset: i64) -> anyhow::Result<()> {
    let is_there = |view: &ControlView| {
        view.refusal().is_some() || (view.is_read() && next_offset <= view.next_offset())
    };
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
    settings: &ProcessorSettings,
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
async fn members(cluster: &Cluster, settings: &ProcessorSettings) -> Option<BTreeSet<String>> {
    match describe_group(cluster, &settings.group.group_id).await {
        Ok(group) => {
            let ours = group.members.into_iter().filter(|m| m.client_id == env!("CARGO_PKG_NAME"));
            Some(ours.map(|member| member.member_id).collect())
        }
        Err(error) => {
            tracing::debug!(error = %chain(&error), "cannot see who is in the group");
            None
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
    // What it said before the last stop or start may not be so any more.
    let follows = |instance: &Instance| instance.standing.state == state && instance.is_current;
    let lags = |role: Role, instance: &&Instance| {
        !follows(instance) && report::is_alive(view, role, instance, members, now)
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
    roles.iter().flat_map(of_role).chain(silent).collect()
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
    fn who_does_something_else_or_says_nothing_has_not_followed() {
        let now = Instant::now().into_std();
        let mut view = ControlView::from_offset(0);
        for (role, name, state, member_id) in [
            (Role::Generator, "g", RunState::Running, None),
            (Role::Processor, "a", RunState::Paused, Some("m1")),
            (Role::Processor, "b", RunState::Running, Some("m2")),
            (Role::Processor, "dead", RunState::Running, Some("m0")),
        ] {
            let member_id = member_id.map(str::to_owned);
            let standing = Some(Standing { state, since_ms: None, member_id });
            let name = name.to_owned();
            view.apply(Entry::Instance { role, name, standing }, 1, now);
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
    fn what_was_said_before_a_start_and_a_stop_does_not_count_after_them() {
        let now = Instant::now().into_std();
        let mut view = ControlView::from_offset(0);
        let said = |state| {
            let standing = Standing { state, since_ms: None, member_id: Some("m1".to_owned()) };
            let name = "a".to_owned();
            Entry::Instance { role: Role::Processor, name, standing: Some(standing) }
        };
        let word =
            |state| Entry::Desired(Role::Processor, Some(Desired { state, ..Desired::default() }));
        let members = BTreeSet::from(["m1".to_owned()]);
        let lags = |view: &ControlView| {
            laggards(view, Some(&members), &[Role::Processor], RunState::Paused)
        };
        view.apply(word(RunState::Paused), 1, now);
        view.apply(said(RunState::Paused), 2, now);
        assert!(lags(&view).is_empty());

        view.apply(word(RunState::Running), 3, now);
        view.apply(word(RunState::Paused), 4, now);
        assert_eq!(lags(&view), ["processor a"]);
        view.apply(said(RunState::Paused), 5, now);
        assert!(lags(&view).is_empty());
    }

    #[test]
    fn all_are_both() {
        assert_eq!(Target::All.roles(), [Role::Generator, Role::Processor]);
        assert_eq!(Target::Processor.roles(), [Role::Processor]);
        assert_eq!(Target::Generator.roles(), [Role::Generator]);
    }
}
