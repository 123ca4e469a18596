//! `order-console dlq`: the dead letters of the group, on the command line.

mod arguments;
mod export;
mod json;
mod list;
mod replay;
mod show;
mod watch;

use dead_letter::actions::Action;
use service_runtime::{Context, grouped, now_ms};

pub use self::arguments::DlqCommand;
use super::output::{Closed, print};
use crate::dlq::action_log::ActionLog;
use crate::dlq::decoded::Decoder;
use crate::dlq::dismiss::{self, Changes};
use crate::dlq::filter::Filter;
use crate::dlq::follow::{Follow, From};
use crate::dlq::queue::DeadLetterQueue;
use crate::settings::ConsoleSettings;
use crate::text::dead_letters;

/// Runs one of the commands.
///
/// # Errors
/// When the cluster does not answer, when there is no such letter, or when a replay could not send everything.
pub async fn run(
    settings: ConsoleSettings,
    context: Context,
    command: DlqCommand,
) -> anyhow::Result<()> {
    match execute(settings, context, command).await {
        Err(error) if error.is::<Closed>() => Ok(()),
        outcome => outcome,
    }
}

async fn execute(
    settings: ConsoleSettings,
    context: Context,
    command: DlqCommand,
) -> anyhow::Result<()> {
    let mut decoder = Decoder::new(&settings);
    match command {
        DlqCommand::List { filter, state, json } => {
            let queue = DeadLetterQueue::read(settings, context).await?;
            list::run(&queue, &filter, state, json).await
        }
        DlqCommand::Show { place, topic, partition, offset, json } => {
            let filter = Filter { partition, topic, offset, ..Filter::default() };
            let filter = filter.at(place.as_slice());
            let queue = DeadLetterQueue::read(settings, context).await?;
            show::run(&queue, &filter, &mut decoder, json).await
        }
        DlqCommand::Watch { filter, from_beginning, limit, json } => {
            let queue = DeadLetterQueue::open(settings, context).await?;
            let from = if from_beginning { From::Beginning } else { From::End };
            let mut follow = Follow::start(&queue, from);
            let limit = limit.unwrap_or(u64::MAX);
            watch::run(&mut follow, &filter, limit, &mut decoder, json).await
        }
        DlqCommand::Replay { request, json } => {
            let queue = DeadLetterQueue::open(settings, context).await?;
            replay::run(queue, &request, json).await
        }
        DlqCommand::Dismiss(request) => {
            let queue = DeadLetterQueue::open(settings, context).await?;
            dismiss(queue, &request).await
        }
        DlqCommand::Release(operator) => release(settings, context, operator.by).await,
        DlqCommand::Export { places, filter, state, limit } => {
            let queue = DeadLetterQueue::read(settings, context).await?;
            export::run(&queue, &filter.at(&places), state, limit.unwrap_or(u64::MAX)).await
        }
    }
}

async fn dismiss(mut queue: DeadLetterQueue, request: &dismiss::Request) -> anyhow::Result<()> {
    let Changes { changed, others } = dismiss::execute(&mut queue, request).await?;
    let verb = if request.undo { "reopened" } else { "dismissed" };
    let mut text = format!("{verb}: {}\n", dead_letters(changed));
    if others > 0 {
        let wanted = request.wanted().as_str();
        text.extend(["left alone: ", &grouped(others), " that are not ", wanted, "\n"]);
    }
    print(&text)
}

async fn release(settings: ConsoleSettings, context: Context, by: String) -> anyhow::Result<()> {
    let mut actions = ActionLog::open(&settings.cluster(), &settings, &context.stop).await?;
    actions.create(&settings).await?;
    actions.write(&[Action::Released { at_ms: now_ms(), by }]).await?;
    print(&format!("released: group {}\n", settings.group.group_id))
}
