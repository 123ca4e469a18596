//! `order-console control`: pauses and resumes generators and processors, and shows the state of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use control_topic::record::{Role, RunState};
use control_topic::view::ControlView;
use control_topic::{Follower, ends};
use kafka_client::retry::while_retriable;
use service_runtime::{Context, printable};
use tokio::time::{Instant, timeout};

use super::output::{self, Closed, print_json};
use crate::control::following::{followed, forget_the_dead, laggards, members, read};
use crate::control::{ControlReport, DesiredState, InstanceStatus, Target, command};
use crate::operator::Operator;
use crate::settings::ConsoleSettings;
use crate::text::{Align, table};

/// The command; without one, the state is shown.
#[derive(Clone, Debug, Subcommand)]
pub enum ControlCommand {
    /// Pauses services: they begin nothing, finish the work in flight and commit it.
    Pause(TargetArguments),
    /// Resumes services where they were.
    Resume(TargetArguments),
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
    operator: Operator,
}

/// Runs the command.
///
/// # Errors
/// When the cluster does not answer, the topic cannot be written, or an instance has not followed in time.
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
    let (state, arguments) = match asked {
        None => {
            read(&mut view, &BTreeMap::new()).await?;
            let members = members(&cluster, settings).await;
            return print(&view.borrow(), members.as_ref(), is_json);
        }
        Some(ControlCommand::Pause(arguments)) => (RunState::Paused, arguments),
        Some(ControlCommand::Resume(arguments)) => (RunState::Running, arguments),
    };
    let (roles, by) = (arguments.target.roles(), arguments.operator.by);
    command(settings, roles, state, by).await.with_context(|| format!("write to topic {topic}"))?;
    // Every instance that began without having read the command has reported below these ends.
    let ends =
        while_retriable(|| ends(&cluster, topic)).await.context("find the end of the reports")?;
    read(&mut view, &ends).await?;
    let waited = Duration::from_secs(arguments.wait);
    let in_time = timeout(waited, followed(&cluster, settings, &mut view, roles, state)).await;
    let members = members(&cluster, settings).await;
    let seen = view.borrow().clone();
    print(&seen, members.as_ref(), is_json)?;
    forget_the_dead(&cluster, topic, &seen, members.as_ref()).await;
    if in_time.is_err() {
        let names = laggards(&seen, members.as_ref(), roles, state);
        if !names.is_empty() {
            bail!("not {state} after {} s: {}", arguments.wait, names.join(", "));
        }
    }
    Ok(())
}

fn print(
    view: &ControlView,
    members: Option<&BTreeSet<String>>,
    is_json: bool,
) -> anyhow::Result<()> {
    let report = ControlReport::of(view, members, Instant::now().into_std());
    if is_json { print_json(&report) } else { output::print(&tables(&report)) }
}

/// Returns a table of the roles, and one of the instances if there are any.
fn tables(report: &ControlReport) -> String {
    let roles = [(Role::Generator, &report.generator), (Role::Processor, &report.processor)];
    let mut rows = vec![row(["ROLE", "IS TO BE", "BY", "SINCE"])];
    rows.extend(roles.iter().map(|(role, report)| {
        let DesiredState { desired, by, at } = &report.command;
        let (by, at) = (by.as_deref().map(printable), at.map(|at| at.to_string()));
        row([role.as_str(), desired.as_str(), text(by.as_deref()), text(at.as_deref())])
    }));
    let mut tables = table(&[Align::Left; 4], &rows);
    let mut rows = vec![row(["ROLE", "INSTANCE", "IS", "SINCE", "MEMBER"])];
    for (role, report) in roles {
        rows.extend(report.instances.iter().map(
            |InstanceStatus { instance, alive, silent_seconds }| {
                let is = if *alive {
                    instance.state.as_str().to_owned()
                } else {
                    format!("gone, silent for {silent_seconds} s")
                };
                let (name, member) =
                    (printable(&instance.name), instance.member_id.as_deref().map(printable));
                let since = instance.since.map(|since| since.to_string());
                row([role.as_str(), &name, &is, text(since.as_deref()), text(member.as_deref())])
            },
        ));
    }
    if rows.len() > 1 {
        tables.push('\n');
        tables.push_str(&table(&[Align::Left; 5], &rows));
    }
    tables
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn text(cell: Option<&str>) -> &str {
    cell.unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::tests::view;
    use control_topic::SILENCE_MAX;

    #[test]
    fn a_table_has_no_control_characters_and_says_how_long_an_instance_is_silent() {
        let now = Instant::now().into_std();
        let later = now + SILENCE_MAX + Duration::from_secs(1);
        let lines = tables(&ControlReport::of(&view(now), None, later));
        assert!(
            lines.contains("processor  paused    kim\u{fffd}  1970-01-01T00:00:02.000Z"),
            "{lines}"
        );
        assert!(lines.contains("gone, silent for 16 s  1970-01-01T00:00:01.000Z  m1"), "{lines}");
    }
}
