//! `order-console dlq`: the dead-letter queue as a place to work.
//!
//! | command | what it does | writes to |
//! |---|---|---|
//! | `list`, `show`, `export` | read the dead-letter topic to the end it has when they start | – |
//! | `watch` | follows it | – |
//! | `replay` | sends letters again | the group's replay topic (or the orders' own), the lock |
//! | `dismiss`, `release` | write down what an operator decided | the actions topic |
//!
//! Reading order: [`dead_letter::cause`] says why a record is a dead letter, whoever wrote it; `letter` is such a record,
//! `filter` says which are meant, `standing` what has become of them, [`dead_letter::actions`] what operators decided.
//! `walk` reads them once each (over `reading`), and each command is a file. `replay` is the one that must not err; its
//! picture is in its `sending`.
//!
//! Memory: of a letter only its identity is held, some 40 bytes, and as much for each that was replayed or dismissed;
//! besides, a few fetches of 1 MiB, and in a replay up to 4 MiB of records on their way.

mod arguments;
pub(crate) mod board;
pub(crate) mod decoded;
mod dismiss;
mod export;
pub(crate) mod filter;
pub(crate) mod identities;
pub(crate) mod journal;
pub(crate) mod letter;
mod list;
pub(crate) mod reading;
pub(crate) mod render;
mod show;
pub(crate) mod standing;
pub(crate) mod topic_log;
pub(crate) mod walk;
mod watch;

use std::collections::BTreeMap;
use std::io::Write as _;

use dead_letter::actions::Action;
use kafka_client::cluster::Cluster;
use service_runtime::{Console, Context, grouped};
use tokio_util::sync::CancellationToken;

pub use self::arguments::{
    ChosenArguments, DlqCommand, FilterArguments, OperatorArguments, ReplayArguments, StateArgument,
};
pub(crate) use self::decoded::{Decoded, Decoder};
use self::filter::Filter;
pub use self::filter::{Key, Moment, ParseMomentError};
use self::journal::Journal;
pub(crate) use self::letter::{Desk, Letter};
pub use self::letter::{ParsePlaceError, Place};

pub(crate) use self::render::bytes as bytes_for_people;
use self::standing::{Sent, State};
use self::topic_log::TopicLog;
use self::walk::Walk;
use self::watch::Watching;
use crate::output::{Closed, Output};
use crate::replay;
use crate::settings::ConsoleSettings;
use service_runtime::now_ms;

/// Runs one of the commands.
///
/// # Errors
/// When the cluster does not answer, when there is no such letter, or when a replay could not do what it was asked to.
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
            let overview = Overview::read(settings, context).await?;
            list::run(&overview, &filter.filter(now_ms), state.map(State::from), json).await
        }
        DlqCommand::Show { place, topic, partition, offset, json } => {
            let places = place.into_iter().collect();
            let filter = Filter { partition, topic, offset, places, ..Filter::default() };
            let overview = Overview::read(settings, context).await?;
            show::run(&overview, &filter, &mut decoder, json).await
        }
        DlqCommand::Watch { filter, from_beginning, limit, json } => {
            let overview = Overview::open(settings, context).await?;
            let watching = Watching {
                filter: filter.filter(now_ms),
                from: arguments::watch_from(from_beginning),
                limit: limit.unwrap_or(u64::MAX),
                is_json: json,
            };
            watch::run(&overview, &mut decoder, &watching).await
        }
        DlqCommand::Replay(arguments) => {
            let overview = Overview::open(settings, context).await?;
            replay::run(overview, &arguments.request(now_ms)).await
        }
        DlqCommand::Dismiss { chosen, reason, undo: _, operator } => {
            let overview = Overview::open(settings, context).await?;
            dismiss::run(overview, &chosen.dismissal(reason, &operator, now_ms)).await
        }
        DlqCommand::Release { operator } => release(settings, context, operator.name()).await,
        DlqCommand::Export { places, filter, state, limit } => {
            let overview = Overview::read(settings, context).await?;
            let filter = Filter { places: places.into_iter().collect(), ..filter.filter(now_ms) };
            let limit = limit.unwrap_or(u64::MAX);
            export::run(&overview, &filter, state.map(State::from), limit).await
        }
    }
}

async fn release(settings: ConsoleSettings, context: Context, by: String) -> anyhow::Result<()> {
    let mut journal = Journal::open(&settings.cluster(), &settings, &context.stop).await?;
    journal.create(&settings).await?;
    journal.write(&[Action::Released { at_ms: now_ms(), by }]).await?;
    let mut output = Output::new();
    output.line(&format!("released: group {}", settings.group.group_id))?;
    output.flush()
}

/// The dead-letter topic of a group, and what is known about its letters.
pub(crate) struct Overview {
    pub(crate) cluster: Cluster,
    pub(crate) settings: ConsoleSettings,
    pub(crate) stop: CancellationToken,
    pub(crate) console: Console,
    pub(crate) dlq: TopicLog,
    pub(crate) desk: Desk,
    pub(crate) journal: Journal,
    pub(crate) sent: Sent,
}

impl Overview {
    /// Looks at the dead-letter topic and at what operators decided.
    pub(crate) async fn open(settings: ConsoleSettings, context: Context) -> anyhow::Result<Self> {
        let cluster = settings.cluster();
        let stop = context.stop;
        let hint = "is ORDERS_DLQ_TOPIC right?";
        let dlq = TopicLog::expect(&cluster, &settings.group.dlq_topic, hint).await?;
        let journal = Journal::open(&cluster, &settings, &stop).await?;
        let group = settings.group.group_id.clone();
        let desk = Desk { topic: dlq.name.clone(), topic_id: dlq.id, group };
        let (console, sent) = (context.console, Sent::default());
        Ok(Self { cluster, settings, stop, console, dlq, desk, journal, sent })
    }

    /// Looks at all that tells where letters stand.
    pub(crate) async fn read(settings: ConsoleSettings, context: Context) -> anyhow::Result<Self> {
        let mut overview = Self::open(settings, context).await?;
        overview.read_sent().await?;
        Ok(overview)
    }

    /// Reads what was replayed.
    pub(crate) async fn read_sent(&mut self) -> anyhow::Result<()> {
        let decisions = self.journal.decisions();
        self.sent = Sent::read(&self.cluster, &self.settings, decisions, &self.stop).await?;
        if self.sent.lost_before_ms.is_some() {
            tracing::warn!(
                topic = self.settings.group_topics.replay,
                "the oldest records of the replay topic were deleted: letters replayed before that look unresolved"
            );
        }
        Ok(())
    }

    /// Walks the letters that a filter may take: all, or where it names places, what is between those.
    pub(crate) fn walk(&self, filter: &Filter) -> Walk {
        let mut topic = self.dlq.clone();
        topic.ranges.retain(|partition, range| {
            *range = filter.narrow(*partition, range.clone());
            !range.is_empty()
        });
        Walk::new(&self.cluster, topic, &self.desk, &self.stop)
    }

    /// Returns where each partition of the dead-letter topic ends.
    pub(crate) fn ends(&self) -> BTreeMap<i32, i64> {
        self.dlq.ranges.iter().map(|(partition, range)| (*partition, range.end)).collect()
    }

    pub(crate) fn state(&self, letter: &Letter<'_>) -> State {
        self.sent.state(letter, self.journal.decisions())
    }
}

/// Says something to the operator, beside the data on standard output.
pub(crate) fn talk(words: &str) {
    // Nothing can be done about a closed stderr.
    writeln!(std::io::stderr(), "{words}").unwrap_or_default();
}

/// Returns a count of dead letters in words.
pub(crate) fn dead_letters(count: u64) -> String {
    format!("{} dead letter{}", grouped(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), text);
        }
    }
}
