//! One broker's fetch loop: plan a request from what has room, long-poll, hand on, again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use kafka_group::TopicPartition;
use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::response::{self, Outcome};
use super::{Fetched, ReaderConfig, Shared, Wanted};
use crate::api::Call;
use crate::cluster::{Cluster, NodeId, topic_name};
use crate::connection::Connection;
use crate::error::{ClientError, chain};

/// The first version of Fetch that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// Isolation level that ends at the last stable offset.
const READ_COMMITTED: i8 = 1;
/// How long the broker may hold back an answer while some partition waits for room: first, and at most.
const STARVED_WAIT: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// Pause before a broker is connected to again, first and at most.
const CONNECT_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What the next request asks for, and what it leaves out.
#[derive(Debug, Default)]
struct Plan {
    wanted: BTreeMap<TopicPartition, Wanted>,
    /// Channels of partitions that are left out because they are full.
    starved: Vec<mpsc::Sender<Fetched>>,
    /// When a partition that is left out after an error may be asked for again.
    due: Option<Instant>,
}

/// Reads whatever broker `leader` leads, until the task is dropped.
pub(super) async fn read(
    leader: NodeId,
    cluster: Cluster,
    config: ReaderConfig,
    shared: Arc<Shared>,
) {
    let mut connection: Option<Connection> = None;
    let mut backoff = CONNECT_BACKOFF.0;
    let mut starved_wait = STARVED_WAIT.0;
    loop {
        let mut changed = Box::pin(shared.changed.notified());
        changed.as_mut().enable();
        let plan = plan(&shared, leader);
        if plan.wanted.is_empty() {
            idle(plan, changed).await;
            continue;
        }
        let wait = if plan.starved.is_empty() {
            config.wait_max
        } else {
            starved_wait.min(config.wait_max)
        };
        let kept = connection.take();
        let fetched = async {
            let mut link = connect(kept, leader, &cluster).await?;
            let version = link.version::<messages::FetchRequest>()?;
            let request = request(&plan.wanted, &config, wait, version);
            let answer = link.call(&request, wait + cluster.config().request_timeout).await?;
            Ok::<_, ClientError>((link, answer))
        };
        tokio::pin!(fetched);
        let fetched = loop {
            tokio::select! {
                biased;
                fetched = &mut fetched => break Some(fetched),
                // A partition that was added meanwhile does not wait for the end of this long poll.
                () = changed.as_mut() => {
                    changed = Box::pin(shared.changed.notified());
                    changed.as_mut().enable();
                    if asks_for_more(&shared, leader, &plan.wanted) {
                        break None;
                    }
                }
            }
        };
        match fetched {
            None => {}
            Some(Ok((link, answer))) => {
                connection = Some(link);
                backoff = CONNECT_BACKOFF.0;
                let delivered = deliver(&shared, &plan.wanted, answer);
                starved_wait =
                    if delivered { STARVED_WAIT.0 } else { (starved_wait * 2).min(STARVED_WAIT.1) };
            }
            Some(Err(error)) => {
                if error.is_retriable() {
                    tracing::debug!(leader, error = %chain(&error), "fetch failed");
                } else {
                    tracing::error!(leader, error = %chain(&error), "cannot read from this broker");
                }
                sleep(backoff).await;
                backoff = (backoff * 2).min(CONNECT_BACKOFF.1);
                release(&shared, leader);
            }
        }
    }
}

/// Waits until a partition is added, a full channel has room, or an error's pause is over.
async fn idle(plan: Plan, changed: impl Future<Output = ()>) {
    let room = async {
        if plan.starved.is_empty() {
            std::future::pending::<()>().await;
        }
        // The permit goes back at once: the plan made next sees the room.
        drop(
            select_all(plan.starved.into_iter().map(|sender| Box::pin(sender.reserve_owned())))
                .await,
        );
    };
    let due = async {
        match plan.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = changed => {}
        () = room => {}
        () = due => {}
    }
}

fn plan(shared: &Shared, leader: NodeId) -> Plan {
    let mut plan = Plan::default();
    let now = Instant::now();
    let mut sources = shared.sources();
    sources.retain(|_, source| !source.sender.is_closed());
    for (tp, source) in sources.iter() {
        if source.leader != Some(leader) || source.halted {
            continue;
        }
        if let Some(due) = source.not_before.filter(|due| *due > now) {
            plan.due = Some(plan.due.map_or(due, |earlier| earlier.min(due)));
        } else if source.sender.capacity() == 0 {
            plan.starved.push(source.sender.clone());
        } else {
            let wanted = Wanted {
                topic_id: source.topic_id,
                position: source.position,
                addition: source.addition,
            };
            plan.wanted.insert(tp.clone(), wanted);
        }
    }
    plan
}

/// Returns whether a partition of `leader` could be asked for that `wanted` does not contain in this addition.
fn asks_for_more(
    shared: &Shared,
    leader: NodeId,
    wanted: &BTreeMap<TopicPartition, Wanted>,
) -> bool {
    plan(shared, leader)
        .wanted
        .iter()
        .any(|(tp, source)| wanted.get(tp).is_none_or(|asked| asked.addition != source.addition))
}

async fn connect(
    kept: Option<Connection>,
    leader: NodeId,
    cluster: &Cluster,
) -> Result<Connection, ClientError> {
    if let Some(connection) = kept {
        return Ok(connection);
    }
    let address = cluster.address(leader).ok_or_else(|| {
        ClientError::refused("name a leader's address", ResponseError::LeaderNotAvailable)
    })?;
    Ok(cluster.connect(&address).await?)
}

/// Gives up the leadership of `leader` for all its partitions: the supervisor looks it up again.
fn release(shared: &Shared, leader: NodeId) {
    for source in shared.sources().values_mut() {
        if source.leader == Some(leader) {
            source.leader = None;
        }
    }
    shared.leaderless.notify_one();
}

fn request(
    wanted: &BTreeMap<TopicPartition, Wanted>,
    config: &ReaderConfig,
    wait: Duration,
    version: i16,
) -> messages::FetchRequest {
    let mut topics: BTreeMap<(&str, Uuid), Vec<messages::fetch_request::FetchPartition>> =
        BTreeMap::new();
    for (tp, source) in wanted {
        let partition = messages::fetch_request::FetchPartition::default()
            .with_partition(tp.partition)
            .with_fetch_offset(source.position)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(config.partition_bytes_max);
        topics.entry((&tp.topic, source.topic_id)).or_default().push(partition);
    }
    let topics = topics
        .into_iter()
        .map(|((name, id), partitions)| {
            let topic = messages::fetch_request::FetchTopic::default().with_partitions(partitions);
            if version >= TOPIC_IDS_SINCE {
                topic.with_topic_id(id)
            } else {
                topic.with_topic(topic_name(name))
            }
        })
        .collect();
    messages::FetchRequest::default()
        .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(config.response_bytes_max)
        .with_isolation_level(READ_COMMITTED)
        // No fetch session (KIP-227): every request names all it wants.
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics)
}

/// Hands on what was answered; returns whether any batch was.
fn deliver(
    shared: &Shared,
    wanted: &BTreeMap<TopicPartition, Wanted>,
    answer: <messages::FetchRequest as Call>::Response,
) -> bool {
    let mut delivered = false;
    let mut leaderless = false;
    let outcomes = response::read(wanted, answer);
    let mut sources = shared.sources();
    for (tp, outcome) in outcomes {
        let Some(source) = sources.get_mut(&tp) else { continue };
        let asked = wanted.get(&tp).is_some_and(|asked| asked.addition == source.addition);
        if !asked {
            continue;
        }
        match outcome {
            Outcome::Batches(fetched) => {
                let ends = (fetched.last_stable_offset, fetched.high_watermark);
                let news = !fetched.batches.is_empty() || source.ends != Some(ends);
                delivered |= !fetched.batches.is_empty();
                let next_offset = fetched.next_offset;
                // Only this task sends, and the plan saw room; a closed channel is dropped by the next plan.
                if news && source.sender.try_send(Fetched::Batches(fetched)).is_ok() {
                    source.ends = Some(ends);
                    source.position = next_offset;
                }
            }
            Outcome::OutOfRange => {
                let position = source.position;
                source.halted = source.sender.try_send(Fetched::OutOfRange { position }).is_ok();
            }
            Outcome::FindLeader(error) => {
                tracing::debug!(%tp, ?error, "looking up the leader again");
                source.leader = None;
                leaderless = true;
            }
            Outcome::Wait { error, pause } => {
                tracing::warn!(%tp, ?error, "cannot be read at the moment, trying again");
                source.not_before = Some(Instant::now() + pause);
            }
        }
    }
    drop(sources);
    if leaderless {
        shared.leaderless.notify_one();
    }
    delivered
}
