//! One broker's fetch loop: plan a request from what has room, long-poll, hand on, again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use kafka_group::TopicPartition;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    self,
    fetch_request::{FetchPartition, FetchTopic},
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::response::{self, Asked, ERROR_PAUSE, Outcome, Read};
use super::trouble::Next;
use super::{Fetched, FetchedBatches, ReaderConfig, Shared, Source, Wanted};
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
    let mut turn = 0;
    loop {
        let mut changed = Box::pin(shared.changed.notified());
        changed.as_mut().enable();
        let plan = plan(&shared, leader, &config);
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
        let order = in_turn(&plan.wanted, turn);
        turn = turn.wrapping_add(1);
        let first = order.first().copied();
        let fetched = async {
            let mut link = connect(kept, leader, &cluster).await?;
            let version = link.version::<messages::FetchRequest>()?;
            let request = request(&order, &plan.wanted, &config, wait, version);
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
                    if asks_for_more(&shared, leader, &config, &plan.wanted) {
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
                let asked = Asked { wanted: &plan.wanted, first, config: &config };
                let delivered = deliver(&shared, asked, answer);
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

fn plan(shared: &Shared, leader: NodeId, config: &ReaderConfig) -> Plan {
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
                position: source.place.position,
                asked: source.place.asked(),
                room: source.place.room(config.partition_bytes_max),
                is_urgent: source.place.is_in_trouble(),
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
    config: &ReaderConfig,
    wanted: &BTreeMap<TopicPartition, Wanted>,
) -> bool {
    plan(shared, leader, config)
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

/// Returns the partitions in the order in which they are asked for. A broker fills its response in this order, and only
/// the first partition with news gets a batch that is larger than the room left: each has to be the first by turns.
fn in_turn(wanted: &BTreeMap<TopicPartition, Wanted>, turn: usize) -> Vec<&TopicPartition> {
    let mut order: Vec<&TopicPartition> = wanted.keys().collect();
    let start = turn.checked_rem(order.len()).unwrap_or(0);
    order.rotate_left(start);
    order.sort_by_key(|tp| wanted.get(tp).is_none_or(|source| !source.is_urgent));
    order
}

fn request(
    order: &[&TopicPartition],
    wanted: &BTreeMap<TopicPartition, Wanted>,
    config: &ReaderConfig,
    wait: Duration,
    version: i16,
) -> messages::FetchRequest {
    let mut room_max = config.response_bytes_max;
    let mut partitions: Vec<((&str, Uuid), Vec<FetchPartition>)> = Vec::new();
    for (tp, source) in order.iter().filter_map(|tp| wanted.get_key_value(*tp)) {
        room_max = room_max.max(source.room);
        let topic = (tp.topic.as_ref(), source.topic_id);
        let partition = FetchPartition::default()
            .with_partition(tp.partition)
            .with_fetch_offset(source.asked)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(source.room);
        match partitions.iter_mut().find(|(other, _)| *other == topic) {
            Some((_, partitions)) => partitions.push(partition),
            None => partitions.push((topic, vec![partition])),
        }
    }
    let topics = partitions
        .into_iter()
        .map(|((name, id), partitions)| {
            let topic = FetchTopic::default().with_partitions(partitions);
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
        .with_max_bytes(room_max)
        .with_isolation_level(READ_COMMITTED)
        // No fetch session (KIP-227): every request names all it wants.
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics)
}

/// Hands on what was answered; returns whether anything was.
fn deliver(
    shared: &Shared,
    asked: Asked<'_>,
    answer: <messages::FetchRequest as Call>::Response,
) -> bool {
    let mut delivered = false;
    let mut leaderless = false;
    let outcomes = response::read(asked, answer);
    let mut sources = shared.sources();
    for (tp, outcome) in outcomes {
        let Some(source) = sources.get_mut(&tp) else { continue };
        if asked.wanted.get(&tp).is_none_or(|wanted| wanted.addition != source.addition) {
            continue;
        }
        match outcome {
            Outcome::Read(read) => delivered |= hand_on(&tp, source, read),
            Outcome::Unreadable(error) => {
                tracing::debug!(%tp, ?error, "not readable");
                let next = source.place.step_back();
                heed(&tp, source, next);
            }
            Outcome::OutOfRange => {
                if source.place.out_of_range() {
                    let position = source.place.position;
                    let fetched = Fetched::OutOfRange { position };
                    source.halted = source.sender.try_send(fetched).is_ok();
                } else {
                    heed(&tp, source, Next::Stuck(ERROR_PAUSE));
                }
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

/// Hands on what could be read of one partition; returns whether there was anything.
fn hand_on(tp: &TopicPartition, source: &mut Source, read: Read) -> bool {
    let Read { mut reading, found, aborted, high_watermark, log_start_offset } = read;
    source.place.log_start = log_start_offset;
    let next = source.place.advance(&mut reading, found);
    heed(tp, source, next);
    let ends = (found.end, high_watermark);
    let has_any = !reading.batches.is_empty() || reading.damaged.is_some();
    if !has_any && source.ends == Some(ends) {
        return false;
    }
    let fetched = FetchedBatches {
        batches: reading.batches,
        damaged: reading.damaged,
        aborted,
        next_offset: reading.next_offset,
        last_stable_offset: found.end,
        high_watermark,
        log_start_offset,
    };
    // Only this task sends, and the plan saw room; a channel that is closed is dropped by the next plan.
    if source.sender.try_send(Fetched::Batches(fetched)).is_ok() {
        source.ends = Some(ends);
    }
    has_any
}

/// Says what is wrong with a log, and waits before it is asked for again.
fn heed(tp: &TopicPartition, source: &mut Source, next: Next) {
    let offset = source.place.position;
    match next {
        Next::GoOn => {}
        Next::Again { pause, reason } => {
            let asked = source.place.asked();
            tracing::warn!(%tp, offset, asked, reason, "the log cannot be read here, looking again");
            source.not_before = Some(Instant::now() + pause);
        }
        Next::Stuck(pause) => {
            tracing::error!(
                %tp, offset,
                "the broker's log is damaged here, and nothing tells where it goes on: the partition waits"
            );
            source.not_before = Some(Instant::now() + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[(&str, i32)]) -> BTreeMap<TopicPartition, Wanted> {
        let one = |(topic, partition): &(&str, i32)| {
            let topic_id = Uuid::from_u128(if *topic == "orders" { 1 } else { 2 });
            let wanted =
                Wanted { topic_id, position: 7, asked: 5, room: 99, is_urgent: false, addition: 1 };
            (TopicPartition::new(*topic, *partition), wanted)
        };
        names.iter().map(one).collect()
    }

    #[test]
    fn each_partition_is_the_first_of_a_request_by_turns() {
        let mut wanted = wanted(&[("orders", 0), ("orders", 1), ("replay", 0), ("replay", 1)]);
        let firsts = |wanted: &BTreeMap<_, _>| -> Vec<String> {
            (0..5).map(|turn| in_turn(wanted, turn)[0].to_string()).collect()
        };
        assert_eq!(firsts(&wanted), ["orders-0", "orders-1", "replay-0", "replay-1", "orders-0"]);
        wanted.get_mut(&TopicPartition::new("replay", 0)).unwrap().is_urgent = true;
        assert_eq!(firsts(&wanted), ["replay-0"; 5], "it has to be");
        assert!(in_turn(&BTreeMap::new(), 3).is_empty());
    }

    #[test]
    fn a_request_names_each_topic_once_and_begins_with_the_partition_whose_turn_it_is() {
        let wanted = wanted(&[("orders", 0), ("orders", 1), ("replay", 0)]);
        let order = in_turn(&wanted, 1);
        let config = ReaderConfig { response_bytes_max: 50, ..ReaderConfig::default() };
        let request = request(&order, &wanted, &config, Duration::from_millis(9), 13);
        let topics: Vec<(u128, Vec<i32>)> = request
            .topics
            .iter()
            .map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| partition.partition);
                (topic.topic_id.as_u128(), partitions.collect())
            })
            .collect();
        assert_eq!(topics, [(1, vec![1, 0]), (2, vec![0])]);
        let partition = &request.topics[0].partitions[0];
        assert_eq!((partition.fetch_offset, partition.partition_max_bytes), (5, 99));
        assert_eq!(request.max_bytes, 99, "at least what one partition may need");
    }
}
