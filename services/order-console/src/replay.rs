//! A replay sends dead letters again, each once.
//!
//! A run takes the lock, reads the actions topic, reads the topic that replays go to up to its end, and then sends the
//! letters that are not there. The next run begins by reading what was sent, so a run may end at any point without writing
//! down how far it came. A run reads the dead-letter topic twice, once to count and once to send, so it keeps only
//! identities, and up to 4 MiB of records on their way.

mod choice;
mod lock;
mod original;
mod plan;
mod record;
mod request;
mod sending;

use std::collections::BTreeMap;

use anyhow::Context as _;
use dead_letter::actions::Action;
use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::error::ClientError;
use kafka_client::retry::while_retriable;
use serde::Serialize;
use service_runtime::{Progress, now_ms};
use utoipa::ToSchema;
use uuid::Uuid;

use self::choice::{Choice, partition_for};
use self::lock::{Notify, RunLock};
use self::original::Found;
use self::record::replay;
use self::sending::{Pace, ReplayRecord, ReplaySender};
use crate::dlq::letter::Letter;
use crate::dlq::queue::DeadLetterQueue;
use crate::dlq::topic_log::TopicLog;

pub(crate) use self::lock::Busy;
pub(crate) use self::plan::Plan;
pub(crate) use self::request::{REPLAYS_MAX, Request};
pub(crate) use self::sending::Delivered;

/// Records that may wait to be sent together, in bytes.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most topics whose number of partitions is remembered.
const SOURCES_MAX: usize = 1_000;

/// The result of a replay.
pub(crate) struct Report {
    /// The topic that the letters go to.
    pub(crate) topic: String,
    pub(crate) plan: Plan,
    /// Absent after a dry run.
    pub(crate) delivered: Option<Delivered>,
    /// Why it ended before everything was sent.
    pub(crate) outcome: anyhow::Result<()>,
}

/// The result of a replay in numbers of letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Tally {
    matching: u64,
    /// Those of the matching that are to be sent.
    chosen: u64,
    sent: u64,
    /// How many were left alone, by reason.
    left_alone: BTreeMap<&'static str, u64>,
    failed: u64,
}

impl Report {
    /// Returns the counts, and why the run ended before everything was sent, if it did.
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

/// Sends letters again, or counts those that would be.
pub(crate) async fn execute(
    queue: &mut DeadLetterQueue,
    request: &Request,
    notify: Notify<'_>,
) -> anyhow::Result<Report> {
    if request.dry_run {
        queue.read_sent().await?;
        let mut run = Run::new(queue, request).await?;
        let plan = run.plan(queue, None).await?;
        return Ok(Report { topic: run.target.name, plan, delivered: None, outcome: Ok(()) });
    }
    queue.actions.create(&queue.settings).await?;
    let mut lock = RunLock::acquire(&mut queue.actions, request, notify).await?;
    let report = locked(queue, request, &mut lock).await;
    lock.release(&mut queue.actions).await;
    report
}

async fn locked(
    queue: &mut DeadLetterQueue,
    request: &Request,
    lock: &mut RunLock,
) -> anyhow::Result<Report> {
    queue.read_sent().await?;
    record_found(queue).await?;
    let mut run = Run::new(queue, request).await?;
    let plan = run.plan(queue, Some(lock)).await?;
    let is_to_source = request.to_source && plan.chosen > 0;
    if is_to_source {
        announce(queue, &run.target).await?;
    }
    let (delivered, ends, outcome) = run.send(queue, plan.chosen, lock).await;
    if is_to_source
        && outcome.is_ok()
        && let Err(error) = move_on(queue, ends).await
    {
        // The sent letters are recorded. Without this the next run reads more than it has to.
        tracing::warn!("the end of this replay could not be recorded: {error:#}");
    }
    Ok(Report { topic: run.target.name, plan, delivered: Some(delivered), outcome })
}

/// Records the letters that a killed run has replayed to the orders' own topic.
async fn record_found(queue: &mut DeadLetterQueue) -> anyhow::Result<()> {
    let found = std::mem::take(&mut queue.sent.unrecorded);
    queue.actions.record_replayed(&found).await?;
    let ends = queue.sent.source_ends.clone();
    move_on(queue, ends).await
}

/// Records, before anything is sent to the orders' own topic, the offsets from which on it may hold replays.
async fn announce(queue: &mut DeadLetterQueue, target: &TopicLog) -> anyhow::Result<()> {
    let decisions = queue.actions.decisions();
    let starts: Vec<Action> = target
        .ranges
        .iter()
        .filter(|(partition, _)| decisions.to_source_from(target.id, **partition).is_none())
        .map(|(partition, range)| to_source(target.id, *partition, range.end))
        .collect();
    queue.actions.write_all(&starts).await
}

/// Records that every replay below `ends` in the orders' own topic is recorded, where there may be any.
async fn move_on(queue: &mut DeadLetterQueue, ends: BTreeMap<i32, i64>) -> anyhow::Result<()> {
    let Some(topic_id) = queue.sent.source_id else { return Ok(()) };
    queue.actions.catch_up().await?;
    let decisions = queue.actions.decisions();
    let is_ahead = |(partition, end): &(i32, i64)| {
        decisions.to_source_from(topic_id, *partition).is_some_and(|from| from < *end)
    };
    let moved: Vec<Action> = ends
        .into_iter()
        .filter(is_ahead)
        .map(|(partition, end)| to_source(topic_id, partition, end))
        .collect();
    queue.actions.write_all(&moved).await
}

fn to_source(topic_id: Uuid, partition: i32, from: i64) -> Action {
    Action::ToSource { topic_id, partition, from }
}

struct Run<'a> {
    request: &'a Request,
    choice: Choice,
    target: TopicLog,
    /// The number of partitions of the topics in which records failed.
    sources: BTreeMap<String, Option<i32>>,
}

impl<'a> Run<'a> {
    async fn new(queue: &DeadLetterQueue, request: &'a Request) -> anyhow::Result<Self> {
        let orders = &queue.settings.topics.orders_topic;
        let only_from = request.to_source.then(|| orders.clone());
        let name = only_from.as_ref().unwrap_or(&queue.settings.group_topics.replay);
        let hint = "order-processor creates it when it starts; is CONSUMER_GROUP_ID the group's?";
        let target = TopicLog::expect(&queue.cluster, name, hint).await?;
        let choice = Choice {
            filter: request.selection.filter(),
            replays_max: request.replays_max,
            only_from,
            lost_before_ms: queue.sent.lost_before_ms,
        };
        Ok(Self { request, choice, target, sources: BTreeMap::new() })
    }

    async fn plan(
        &mut self,
        queue: &mut DeadLetterQueue,
        mut lock: Option<&mut RunLock>,
    ) -> anyhow::Result<Plan> {
        let mut plan = Plan::default();
        let limit = self.request.selection.limit.unwrap_or(u64::MAX);
        let mut walk = queue.walk(&self.choice.filter);
        while let Some(chunk) = walk.next().await? {
            if let Some(lock) = &mut lock {
                lock.keep(&mut queue.actions).await?;
            }
            for letter in walk.letters(&chunk) {
                if let Some(reason) = self.choice.judge(&letter, queue.state(&letter)) {
                    *plan.left.entry(reason).or_default() += 1;
                } else if plan.chosen < limit {
                    self.look_up_source(&queue.cluster, &letter).await?;
                    plan.add(&letter, self.partition(&letter, letter.key));
                }
            }
        }
        plan.skipped = walk.skipped;
        Ok(plan)
    }

    /// Sends the chosen letters. Returns the result, the offsets up to which the topic is known, and why the run ended.
    async fn send(
        &self,
        queue: &mut DeadLetterQueue,
        chosen: u64,
        lock: &mut RunLock,
    ) -> (Delivered, BTreeMap<i32, i64>, anyhow::Result<()>) {
        let sent = &queue.sent;
        let ends = if self.request.to_source { &sent.source_ends } else { &sent.replay_ends };
        let mut sender = ReplaySender {
            producer: queue.actions.producer().clone(),
            topic: &self.target.name,
            to_source: self.request.to_source,
            ends: ends.clone(),
            pace: self.request.interval.map(Pace::new),
            progress: Progress::start(chosen, "dead letters", &queue.console),
            delivered: Delivered::default(),
            queue,
            lock,
        };
        let outcome = self.send_by(&mut sender, chosen).await;
        sender.progress.finish();
        (sender.delivered, sender.ends, outcome)
    }

    async fn send_by(&self, sender: &mut ReplaySender<'_>, chosen: u64) -> anyhow::Result<()> {
        let mut left = chosen;
        let mut walk = sender.queue.walk(&self.choice.filter);
        while let Some(chunk) = walk.next().await? {
            let mut waiting: BTreeMap<i32, Vec<ReplayRecord>> = BTreeMap::new();
            let mut waiting_bytes = 0;
            for letter in walk.letters(&chunk) {
                let queue = &sender.queue;
                if left == 0 || self.choice.judge(&letter, queue.state(&letter)).is_some() {
                    continue;
                }
                left -= 1;
                let found = original::of(&letter, &queue.cluster, &queue.interrupt).await?;
                let original = match found {
                    Found::Whole(original) => original,
                    Found::Gone(why) => {
                        tracing::warn!("dead letter {} cannot be sent: {why}", letter.place);
                        sender.delivered.gone += 1;
                        continue;
                    }
                };
                let partition = self.partition(&letter, original.key.as_deref());
                let record = replay(&letter, original, &self.request.dropped, now_ms());
                waiting_bytes += record.encoded_bytes_max();
                let (identity, place) = (letter.identity.clone(), letter.place);
                waiting.entry(partition).or_default().push(ReplayRecord {
                    record,
                    identity,
                    place,
                });
                if waiting_bytes > WAITING_BYTES_MAX {
                    sender.send_all(&mut waiting).await?;
                    waiting_bytes = 0;
                }
            }
            sender.send_all(&mut waiting).await?;
            if left == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn partition(&self, letter: &Letter<'_>, key: Option<&[u8]>) -> i32 {
        let cause = &letter.cause;
        let count =
            cause.topic.as_ref().and_then(|topic| self.sources.get(topic).copied().flatten());
        partition_for(self.target.partition_count(), cause.partition.zip(count), key)
    }

    /// Looks up the number of partitions of the topic in which a record failed.
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
            // An invalid name, or a topic that this client may not describe.
            Err(ClientError::Refused { .. }) => None,
            Err(error) => return Err(error).context("describe the topics of the letters"),
        };
        self.sources.insert(topic.clone(), count);
        Ok(())
    }
}
