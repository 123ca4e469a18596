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
use super::output::{Closed, Output};
use crate::dlq::action_log::ActionLog;
use crate::dlq::decoded::Decoder;
use crate::dlq::dismiss::{self, Changes, Mode};
use crate::dlq::filter::Filter;
use crate::dlq::letter_state::LetterState;
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
    let now_ms = now_ms();
    let mut decoder = Decoder::new(&settings);
    match command {
        DlqCommand::List { filter, state, json } => {
            let queue = DeadLetterQueue::read(settings, context).await?;
            list::run(&queue, &filter.filter(now_ms), state.map(LetterState::from), json).await
        }
        DlqCommand::Show { place, topic, partition, offset, json } => {
            let places = place.into_iter().collect();
            let filter = Filter { partition, topic, offset, places, ..Filter::default() };
            let queue = DeadLetterQueue::read(settings, context).await?;
            show::run(&queue, &filter, &mut decoder, json).await
        }
        DlqCommand::Watch { filter, from_beginning, limit, json } => {
            let queue = DeadLetterQueue::open(settings, context).await?;
            let options = watch::Options {
                filter: filter.filter(now_ms),
                from: arguments::watch_from(from_beginning),
                limit: limit.unwrap_or(u64::MAX),
                is_json: json,
            };
            watch::run(&queue, &mut decoder, &options).await
        }
        DlqCommand::Replay(arguments) => {
            let queue = DeadLetterQueue::open(settings, context).await?;
            replay::run(queue, &arguments.request(now_ms), arguments.is_json()).await
        }
        DlqCommand::Dismiss { chosen, reason, undo: _, operator } => {
            let queue = DeadLetterQueue::open(settings, context).await?;
            dismiss(queue, &chosen.dismissal(reason, &operator, now_ms)).await
        }
        DlqCommand::Release { operator } => release(settings, context, operator.name()).await,
        DlqCommand::Export { places, filter, state, limit } => {
            let queue = DeadLetterQueue::read(settings, context).await?;
            let filter = Filter { places: places.into_iter().collect(), ..filter.filter(now_ms) };
            let limit = limit.unwrap_or(u64::MAX);
            export::run(&queue, &filter, state.map(LetterState::from), limit).await
        }
    }
}

async fn dismiss(mut queue: DeadLetterQueue, request: &dismiss::Request) -> anyhow::Result<()> {
    let Changes { changed, others } = dismiss::execute(&mut queue, request, Mode::Write).await?;
    let verb = if request.reason.is_some() { "dismissed" } else { "reopened" };
    let mut output = Output::new();
    output.line(&format!("{verb}: {}", dead_letters(changed)))?;
    if others > 0 {
        let wanted = request.wanted().as_str();
        output.line(&format!("left alone: {} that are not {wanted}", grouped(others)))?;
    }
    output.flush()
}

async fn release(settings: ConsoleSettings, context: Context, by: String) -> anyhow::Result<()> {
    let mut actions = ActionLog::open(&settings.cluster(), &settings, &context.stop).await?;
    actions.create(&settings).await?;
    actions.write(&[Action::Released { at_ms: now_ms(), by }]).await?;
    let mut output = Output::new();
    output.line(&format!("released: group {}", settings.group.group_id))?;
    output.flush()
}
