//! `dlq replay`: dead letters are sent again, each once.
//!
//! Under the lock, in this order: the actions are read, then where replays go is read to its end, then letters are sent
//! that are not there. Whatever ends a run, at any point, the next one begins by reading what was sent, so nothing has to
//! be written down beside it. The dead-letter topic is read twice, once to count and once to send, so that no letter has to
//! be held: only identities are.

mod choice;
pub(crate) mod lock;
mod original;
mod record;
mod sending;
mod summary;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use dead_letter::actions::Action;
use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::error::ClientError;
use kafka_client::exact_writer::ExactWriter;
use serde::Serialize;
use service_runtime::Progress;
use uuid::Uuid;

use self::choice::{Choice, Trace, Verdict, partition_for};
use self::lock::RunLock;
pub(crate) use self::lock::{Busy, Others};
use self::original::Found;
use self::record::{Stamper, replay};
use self::sending::{Courier, Delivered, Pace, Parcel};
use self::summary::{Plan, Summary};
use crate::dlq::filter::Filter;
use crate::dlq::letter::Letter;
use crate::dlq::reading::Stopped;
use crate::dlq::topic_log::TopicLog;
use crate::dlq::{Overview, dead_letters};
use crate::output::Output;
use kafka_client::retry::while_retriable;
use service_runtime::now_ms;

/// Records that may wait to be sent together, in bytes.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most topics of which the number of partitions is remembered.
const SOURCES_MAX: usize = 1_000;

/// Where letters are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To the group's own replay topic.
    ReplayTopic,
    /// To the orders' topic, where every group sees them.
    Source,
}

/// Whether letters are sent or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They are sent.
    Send,
    /// They are counted.
    DryRun,
}

/// What an operator asks for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) filter: Filter,
    pub(crate) limit: u64,
    pub(crate) replays_max: u32,
    pub(crate) destination: Destination,
    pub(crate) dropped: Vec<String>,
    /// Time between two letters.
    pub(crate) interval: Option<Duration>,
    pub(crate) mode: Mode,
    pub(crate) others: Others,
    pub(crate) by: String,
    pub(crate) is_json: bool,
}

/// What a replay came to.
pub(crate) struct Report {
    target: TopicLog,
    plan: Plan,
    /// Absent where nothing was to be sent.
    delivered: Option<Delivered>,
    /// Why it ended before everything was sent.
    outcome: anyhow::Result<()>,
}

/// The same in numbers of letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// Those that were meant.
    matching: u64,
    /// Those of them that were to be sent.
    chosen: u64,
    sent: u64,
    /// Those that were not to be sent, by reason.
    left_alone: BTreeMap<&'static str, u64>,
    /// Those that could not be sent.
    failed: u64,
}

impl Report {
    /// Counts what it came to, and tells why it ended before everything was sent, if it did.
    pub(crate) fn tally(self) -> (Tally, anyhow::Result<()>) {
        let Plan { chosen, left, .. } = self.plan;
        let delivered = self.delivered.unwrap_or_default();
        let left_alone: BTreeMap<&str, u64> =
            left.into_iter().map(|(reason, letters)| (reason.as_str(), letters)).collect();
        let tally = Tally {
            matching: chosen + left_alone.values().sum::<u64>(),
            chosen,
            sent: delivered.sent,
            left_alone,
            failed: delivered.failed(),
        };
        (tally, self.outcome)
    }
}

/// Sends letters again, or counts those that would be, and prints what it came to.
///
/// # Errors
/// When another run has the lock, when the cluster does not answer for long, or when letters could not be sent.
pub(crate) async fn run(mut overview: Overview, request: &Request) -> anyhow::Result<()> {
    let Report { target, plan, delivered, outcome } = execute(&mut overview, request).await?;
    let failed = delivered.as_ref().map_or(0, Delivered::failed);
    print(&Summary { request, target: &target, plan, delivered })?;
    if outcome.as_ref().is_err_and(anyhow::Error::is::<Stopped>) {
        crate::dlq::talk("stopped; what was not sent is still a dead letter");
        return Ok(());
    }
    outcome?;
    ensure!(failed == 0, "{} could not be sent", dead_letters(failed));
    Ok(())
}

/// Sends letters again, or counts those that would be.
///
/// # Errors
/// When another run has the lock, or when the cluster does not answer before anything was sent.
pub(crate) async fn execute(overview: &mut Overview, request: &Request) -> anyhow::Result<Report> {
    if request.mode == Mode::DryRun {
        overview.read_sent().await?;
        let mut run = Run::new(overview, request).await?;
        let plan = run.plan(overview, None).await?;
        return Ok(Report { target: run.target, plan, delivered: None, outcome: Ok(()) });
    }
    overview.journal.create(&overview.settings).await?;
    let mut lock = RunLock::acquire(&mut overview.journal, &request.by, request.others).await?;
    let report = locked(overview, request, &mut lock).await;
    lock.release(&mut overview.journal).await;
    report
}

async fn locked(
    overview: &mut Overview,
    request: &Request,
    lock: &mut RunLock,
) -> anyhow::Result<Report> {
    overview.read_sent().await?;
    record_found(overview).await?;
    let mut run = Run::new(overview, request).await?;
    let plan = run.plan(overview, Some(lock)).await?;
    let is_to_source = request.destination == Destination::Source && plan.chosen > 0;
    if is_to_source {
        announce(overview, &run.target).await?;
    }
    let (delivered, ends, outcome) = run.send(overview, plan.chosen, lock).await;
    if is_to_source
        && outcome.is_ok()
        && let Err(error) = move_on(overview, ends).await
    {
        // What was sent is recorded: the next run reads more than it has to.
        tracing::warn!("the end of this replay could not be noted: {error:#}");
    }
    Ok(Report { target: run.target, plan, delivered: Some(delivered), outcome })
}

/// Notes which letters a run that was killed has replayed to the orders' own topic.
async fn record_found(overview: &mut Overview) -> anyhow::Result<()> {
    let found = std::mem::take(&mut overview.sent.unrecorded);
    overview.journal.record_replayed(&found).await?;
    let ends = overview.sent.source_ends.clone();
    move_on(overview, ends).await
}

/// Notes, before anything is sent to the orders' own topic, from where on replays are in it.
async fn announce(overview: &mut Overview, target: &TopicLog) -> anyhow::Result<()> {
    let decisions = overview.journal.decisions();
    let starts: Vec<Action> = target
        .ranges
        .iter()
        .filter(|(partition, _)| decisions.to_source_from(target.id, **partition).is_none())
        .map(|(partition, range)| to_source(target.id, *partition, range.end))
        .collect();
    overview.journal.write_all(&starts).await
}

/// Notes that every replay below `ends` in the orders' own topic is recorded, where any may be.
async fn move_on(overview: &mut Overview, ends: BTreeMap<i32, i64>) -> anyhow::Result<()> {
    let Some(topic_id) = overview.sent.source_id else { return Ok(()) };
    overview.journal.catch_up().await?;
    let decisions = overview.journal.decisions();
    let is_ahead = |(partition, end): &(i32, i64)| {
        decisions.to_source_from(topic_id, *partition).is_some_and(|from| from < *end)
    };
    let moved: Vec<Action> = ends
        .into_iter()
        .filter(is_ahead)
        .map(|(partition, end)| to_source(topic_id, partition, end))
        .collect();
    overview.journal.write_all(&moved).await
}

fn to_source(topic_id: Uuid, partition: i32, from: i64) -> Action {
    Action::ToSource { topic_id, partition, from }
}

fn print(summary: &Summary<'_>) -> anyhow::Result<()> {
    let mut output = Output::new();
    output.text(&summary.print())?;
    output.flush()
}

/// One replay.
struct Run<'a> {
    request: &'a Request,
    choice: Choice,
    target: TopicLog,
    /// How many partitions the topics have in which records failed.
    sources: BTreeMap<String, Option<i32>>,
}

impl<'a> Run<'a> {
    async fn new(overview: &Overview, request: &'a Request) -> anyhow::Result<Self> {
        let orders = &overview.settings.topics.orders_topic;
        let (name, only_from) = match request.destination {
            Destination::ReplayTopic => (overview.settings.group_topics.replay.clone(), None),
            Destination::Source => (orders.clone(), Some(orders.clone())),
        };
        let hint = "order-processor creates it when it starts; is CONSUMER_GROUP_ID the group's?";
        let target = TopicLog::expect(&overview.cluster, &name, hint).await?;
        let choice =
            Choice { filter: request.filter.clone(), replays_max: request.replays_max, only_from };
        Ok(Self { request, choice, target, sources: BTreeMap::new() })
    }

    /// Counts what is to be sent.
    async fn plan(
        &mut self,
        overview: &mut Overview,
        mut lock: Option<&mut RunLock>,
    ) -> anyhow::Result<Plan> {
        let mut plan = Plan::default();
        let mut walk = overview.walk(&self.request.filter);
        while let Some(chunk) = walk.next().await? {
            if let Some(lock) = &mut lock {
                lock.keep(&mut overview.journal).await?;
            }
            for letter in walk.letters(&chunk) {
                match self.judge(overview, &letter) {
                    Verdict::Send if plan.chosen < self.request.limit => {
                        self.look_up_source(&overview.cluster, &letter).await?;
                        plan.add(&letter, self.partition(&letter, letter.key));
                    }
                    Verdict::Send | Verdict::NotChosen => {}
                    Verdict::LeftAlone(reason) => plan.leave(reason),
                }
            }
        }
        plan.passed_over = walk.passed_over;
        Ok(plan)
    }

    /// Sends what was chosen, and returns what became of it, up to where the topic is known, and why it ended.
    async fn send(
        &self,
        overview: &mut Overview,
        chosen: u64,
        lock: &mut RunLock,
    ) -> (Delivered, BTreeMap<i32, i64>, anyhow::Result<()>) {
        let ends = match self.request.destination {
            Destination::ReplayTopic => &overview.sent.replay_ends,
            Destination::Source => &overview.sent.source_ends,
        };
        let mut courier = Courier {
            cluster: overview.cluster.clone(),
            writer: ExactWriter::new(overview.cluster.clone()),
            topic: self.target.name.clone(),
            group: overview.desk.group.clone(),
            destination: self.request.destination,
            ends: ends.clone(),
            pace: self.request.interval.map(Pace::new),
            progress: Progress::start(chosen, "dead letters", &overview.console),
            stop: overview.stop.clone(),
            delivered: Delivered::default(),
        };
        let outcome = self.send_by(&mut courier, overview, chosen, lock).await;
        courier.progress.finish();
        (courier.delivered, courier.ends, outcome)
    }

    async fn send_by(
        &self,
        courier: &mut Courier,
        overview: &mut Overview,
        chosen: u64,
        lock: &mut RunLock,
    ) -> anyhow::Result<()> {
        let run = Uuid::from_u128(rand::random());
        let mut stampers: BTreeMap<i32, Stamper> = BTreeMap::new();
        let mut left = chosen;
        let mut walk = overview.walk(&self.request.filter);
        while let Some(chunk) = walk.next().await? {
            let mut waiting: BTreeMap<i32, Vec<Parcel>> = BTreeMap::new();
            let mut waiting_bytes = 0;
            for letter in walk.letters(&chunk) {
                let verdict = self.judge(overview, &letter);
                if left == 0 || verdict != Verdict::Send {
                    continue;
                }
                left -= 1;
                let found = original::of(&letter, &overview.cluster, &overview.stop).await?;
                let original = match found {
                    Found::Whole(original) => original,
                    Found::Gone(why) => {
                        tracing::warn!("dead letter {} cannot be sent: {why}", letter.place);
                        courier.delivered.gone += 1;
                        continue;
                    }
                };
                let partition = self.partition(&letter, original.key.as_deref());
                let stamper = stampers
                    .entry(partition)
                    .or_insert_with(|| Stamper::new(format!("{run}-{partition}")));
                let record = replay(&letter, original, &self.request.dropped, stamper, now_ms());
                waiting_bytes += record.encoded_bytes_max();
                let (identity, place) = (letter.identity.clone(), letter.place);
                waiting.entry(partition).or_default().push(Parcel { record, identity, place });
                if waiting_bytes > WAITING_BYTES_MAX {
                    courier.send_all(&mut waiting, &mut overview.journal, lock).await?;
                    waiting_bytes = 0;
                }
            }
            courier.send_all(&mut waiting, &mut overview.journal, lock).await?;
            if left == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn judge(&self, overview: &Overview, letter: &Letter<'_>) -> Verdict {
        let may_be_lost = overview.sent.may_have_lost(letter);
        let trace = if may_be_lost { Trace::MayBeLost } else { Trace::Kept };
        self.choice.judge(letter, overview.state(letter), trace)
    }

    fn partition(&self, letter: &Letter<'_>, key: Option<&[u8]>) -> i32 {
        let cause = &letter.cause;
        let count =
            cause.topic.as_ref().and_then(|topic| self.sources.get(topic).copied().flatten());
        partition_for(self.target.partition_count(), cause.partition.zip(count), key)
    }

    /// Learns how many partitions the topic has in which a record failed.
    async fn look_up_source(
        &mut self,
        cluster: &Cluster,
        letter: &Letter<'_>,
    ) -> anyhow::Result<()> {
        let Some(topic) = &letter.cause.topic else { return Ok(()) };
        if self.sources.contains_key(topic) || self.sources.len() == SOURCES_MAX {
            return Ok(());
        }
        let names = [topic.as_str()];
        let count = match while_retriable(|| cluster.metadata(&names)).await {
            Ok(described) => described.get(topic).map(TopicMetadata::partition_count),
            // A name that is none, or a topic that may not be looked at.
            Err(ClientError::Refused { .. }) => None,
            Err(error) => return Err(error).context("describe the topics of the letters"),
        };
        self.sources.insert(topic.clone(), count);
        Ok(())
    }
}
