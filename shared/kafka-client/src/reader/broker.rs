//! The fetch loop of one broker: plan a request for partitions with room, deliver the response, repeat.
//!
//! Several requests are in flight at once, each on its own connection and for different partitions, so responses arrive while
//! an earlier one is delivered. A partition is in one request at a time, and only while its channel has room. Partitions
//! that have caught up with their log share a quiet request, which waits at the broker for new records. A partition
//! whose data the broker reads slowly has a request of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use pacing::{Backoff, ReportLimit};
use tokio::sync::mpsc;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::config::{OnFetch, ReaderConfig};
use super::damage::Next;
use super::fetched::Fetched;
use super::request::{Wanted, request, rotated};
use super::response::{self, Asked, ERROR_PAUSE, Outcome, Read};
use super::sources::{DENIAL_PAUSE_MAX, REPORTS, Shared, Source};
use crate::api::StreamedCall as _;
use crate::cluster::Cluster;
use crate::connection::{Connection, ConnectionError};
use crate::error::{ClientError, chain};

/// Requests in flight at once. One of them may be quiet.
const REQUESTS_IN_FLIGHT_MAX: usize = 3;
/// How long a quiet request waits for a partition with a full channel: its worker may be taking the last fetch.
const GATHER_WAIT: Duration = Duration::from_millis(2);
/// How long the broker may wait for records if the request leaves partitions out, or if its partitions may have no data.
const SHORT_WAIT: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(100));
/// A connection that broke earlier than this after a request was not idle.
const IDLE_MIN: Duration = Duration::from_secs(1);
/// Pauses between connection attempts.
const CONNECT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// The next request: its partitions, and those it leaves out.
#[derive(Debug, Default)]
struct Plan {
    wanted: BTreeMap<TopicPartition, Wanted>,
    /// Whether all of them have caught up, so that the broker will wait for new records.
    is_quiet: bool,
    /// How long the broker may look for data, if the request is for one slow partition.
    slow_wait: Option<Duration>,
    /// Whether the ends of all their logs are known.
    has_ends: bool,
    /// The full channels of partitions that are left out.
    starved: Vec<mpsc::Sender<Fetched>>,
    /// When the first partition that is left out after an error may be fetched again.
    due: Option<Instant>,
}

/// A request in flight.
#[derive(Debug)]
struct InFlight {
    wanted: BTreeMap<TopicPartition, Wanted>,
    is_quiet: bool,
    is_slow: bool,
}

/// The connection of a request, and its outcome for each partition.
type Responded = Result<(Connection, Vec<(TopicPartition, Outcome)>), ClientError>;

/// The partitions that one broker leads.
struct BrokerReader {
    leader: NodeId,
    cluster: Cluster,
    config: ReaderConfig,
    shared: Arc<Shared>,
    in_flight: BTreeMap<task::Id, InFlight>,
    responses: JoinSet<Responded>,
    /// Connections without a request in flight.
    spare: Vec<Connection>,
    rotation: usize,
    short_wait: Backoff,
    /// Until when a quiet request waits.
    held_until: Option<Instant>,
    backoff: Backoff,
    report: ReportLimit,
}

/// Reads the partitions that broker `leader` leads, until the task is dropped.
pub(super) async fn read(
    leader: NodeId,
    cluster: Cluster,
    config: ReaderConfig,
    shared: Arc<Shared>,
) {
    let mut reader = BrokerReader {
        leader,
        cluster,
        config,
        shared: Arc::clone(&shared),
        in_flight: BTreeMap::new(),
        responses: JoinSet::new(),
        spare: Vec::new(),
        rotation: 0,
        short_wait: SHORT_WAIT,
        held_until: None,
        backoff: CONNECT_BACKOFF,
        report: REPORTS,
    };
    loop {
        let mut changed = Box::pin(shared.changed.notified());
        changed.as_mut().enable();
        let plan = reader.plan();
        if reader.can_send(&plan) {
            reader.send(plan);
            continue;
        }
        // With the most requests in flight, only a response makes room for another one.
        let is_free = reader.in_flight.len() < REQUESTS_IN_FLIGHT_MAX;
        let held_until = reader.held_until.filter(|_| is_free);
        tokio::select! {
            Some(responded) = reader.responses.join_next_with_id() => reader.on_response(responded).await,
            () = changed, if is_free => {}
            () = room(plan.starved), if is_free => {}
            () = until(plan.due), if is_free => {}
            () = until(held_until) => {}
        }
    }
}

impl BrokerReader {
    /// Returns the next request: partitions that lag together with those that have caught up, or one slow partition while
    /// no other slow one is in flight.
    fn plan(&self) -> Plan {
        let mut plan = Plan { is_quiet: true, has_ends: true, ..Plan::default() };
        let now = Instant::now();
        let is_under_way = |tp: &TopicPartition, addition: u64| {
            let mut in_flight = self.in_flight.values();
            in_flight.any(|flight| flight.wanted.get(tp).is_some_and(|w| w.addition == addition))
        };
        let mut sources = self.shared.sources();
        sources.retain(|_, source| !source.sender.is_closed());
        for (tp, source) in sources.iter() {
            let is_ours = source.leader == Some(self.leader) && !source.stopped;
            if !is_ours || is_under_way(tp, source.addition) {
                continue;
            }
            if let Some(due) = source.not_before.filter(|due| *due > now) {
                plan.due = Some(plan.due.map_or(due, |earlier| earlier.min(due)));
            } else if source.sender.capacity() == 0 {
                plan.starved.push(source.sender.clone());
            } else {
                plan.is_quiet &= source.is_caught_up();
                plan.has_ends &= source.ends.is_some();
                plan.wanted.insert(tp.clone(), source.wanted(&self.config));
            }
        }
        drop(sources);
        self.separate_slow(&mut plan);
        plan
    }

    /// Reduces a plan to one slow partition, or to the partitions that are not slow.
    fn separate_slow(&self, plan: &mut Plan) {
        let slow = plan.wanted.values().filter(|wanted| wanted.wait.is_some()).count();
        let Some(turn) = self.rotation.checked_rem(slow) else { return };
        if self.in_flight.values().any(|flight| flight.is_slow) {
            plan.wanted.retain(|_, wanted| wanted.wait.is_none());
            return;
        }
        let mut slow = plan.wanted.iter().filter(|(_, wanted)| wanted.wait.is_some());
        let Some((tp, wanted)) = slow.nth(turn) else { return };
        plan.slow_wait = wanted.wait;
        plan.is_quiet = false;
        plan.wanted = BTreeMap::from([(tp.clone(), wanted.clone())]);
    }

    /// Returns whether the planned request can be sent now.
    fn can_send(&mut self, plan: &Plan) -> bool {
        if plan.wanted.is_empty() || self.in_flight.len() >= REQUESTS_IN_FLIGHT_MAX {
            return false;
        }
        if !plan.is_quiet {
            return true;
        }
        if self.in_flight.values().any(|flight| flight.is_quiet) {
            return false;
        }
        let now = Instant::now();
        plan.starved.is_empty() || *self.held_until.get_or_insert(now + GATHER_WAIT) <= now
    }

    /// Sends a request on its own connection.
    fn send(&mut self, plan: Plan) {
        let Plan { wanted, is_quiet, slow_wait, has_ends, starved, due } = plan;
        self.held_until = None;
        let is_complete = starved.is_empty() && due.is_none() && self.in_flight.is_empty();
        let wait = match (is_quiet, is_complete) {
            (true, true) => self.config.wait_max,
            (true, false) => self.short_wait.peek().min(self.config.wait_max),
            // The broker has data and answers as soon as it has read it.
            (false, _) if has_ends => slow_wait.unwrap_or(self.config.wait_max),
            (false, _) => SHORT_WAIT.peek().min(self.config.wait_max),
        };
        self.rotation = self.rotation.wrapping_add(1);
        let fetch = Fetch {
            leader: self.leader,
            cluster: self.cluster.clone(),
            config: self.config.clone(),
            wanted: wanted.clone(),
            rotation: self.rotation,
            wait,
        };
        let id = self.responses.spawn(fetch.run_observed(self.spare.pop())).id();
        self.in_flight.insert(id, InFlight { wanted, is_quiet, is_slow: slow_wait.is_some() });
    }

    /// Delivers what a request has returned; after an error the next plan asks again.
    async fn on_response(&mut self, responded: Result<(task::Id, Responded), JoinError>) {
        let (id, responded) = match responded {
            Ok((id, responded)) => (
                id,
                responded.map_err(|error| {
                    let is_usual = error.is_retriable();
                    (is_usual, chain(&error))
                }),
            ),
            Err(error) => (error.id(), Err((false, error.to_string()))),
        };
        let Some(flight) = self.in_flight.remove(&id) else { return };
        match responded {
            Ok((connection, outcomes)) => {
                self.spare.push(connection);
                self.backoff.reset();
                self.report.reset();
                let delivered = deliver(&self.shared, &flight.wanted, outcomes);
                if flight.is_quiet && delivered {
                    self.short_wait.reset();
                } else if flight.is_quiet {
                    self.short_wait.advance();
                }
            }
            Err((is_usual, error)) => {
                let leader = self.leader;
                if self.report.is_due() {
                    if is_usual {
                        tracing::warn!(
                            leader,
                            error,
                            "cannot fetch from this broker, trying again"
                        );
                    } else {
                        tracing::error!(leader, error, "cannot read from this broker");
                    }
                }
                self.responses.shutdown().await;
                self.in_flight.clear();
                self.spare.clear();
                self.backoff.wait().await;
                release(&self.shared, leader);
            }
        }
    }
}

impl Source {
    pub(super) fn wanted(&self, config: &ReaderConfig) -> Wanted {
        Wanted {
            topic_id: self.topic_id,
            position: self.place.position,
            asked: self.place.asked(),
            room: self.place.room(config.partition_bytes_max),
            wait: self.place.wait(),
            is_findable: self.place.is_findable(),
            is_urgent: self.place.is_searching(),
            addition: self.addition,
        }
    }

    /// Returns whether the last response had no more records to read.
    fn is_caught_up(&self) -> bool {
        self.ends.is_some_and(|(last_stable, _)| last_stable <= self.place.position)
    }
}

/// A request to one broker.
struct Fetch {
    leader: NodeId,
    cluster: Cluster,
    config: ReaderConfig,
    wanted: BTreeMap<TopicPartition, Wanted>,
    rotation: usize,
    wait: Duration,
}

impl Fetch {
    /// Runs, and reports the duration to the observer.
    async fn run_observed(self, spare: Option<Connection>) -> Responded {
        let (begun, on_fetch) = (Instant::now(), self.config.on_fetch.clone());
        let responded = self.run(spare).await;
        if let Some(OnFetch(observe)) = on_fetch {
            observe(begun.elapsed(), responded.as_ref().err());
        }
        responded
    }

    /// Sends the request over a kept connection or a new one, and reads the response.
    ///
    /// A broker closes idle connections (`connections.max.idle.ms`), even while a fetch waits there. A fetch may be sent
    /// twice, so it spends the rest of its wait on a new connection.
    async fn run(self, spare: Option<Connection>) -> Responded {
        let (begun, mut wait) = (Instant::now(), self.wait);
        let mut spare = spare.and_then(Connection::if_open);
        loop {
            let asked_at = Instant::now();
            let is_spare = spare.is_some();
            let connection = match spare.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let answered = self.ask(connection, wait).await;
            wait = self.wait.saturating_sub(begun.elapsed());
            let was_idle = is_spare || (asked_at.elapsed() >= IDLE_MIN && !wait.is_zero());
            match answered {
                Err(ClientError::Unreachable(ConnectionError::Broken { .. })) if was_idle => {}
                answered => return answered,
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let address = self.cluster.known().address(self.leader).cloned().ok_or_else(|| {
            ClientError::refused("name a leader's address", ResponseError::LeaderNotAvailable)
        })?;
        Ok(self.cluster.connect(&address).await?)
    }

    async fn ask(&self, mut connection: Connection, wait: Duration) -> Responded {
        type Request = messages::FetchRequest;
        let version = connection.newest(Request::KEY, Request::VERSIONS)?;
        let order = rotated(&self.wanted, self.rotation);
        let request = request(&order, &self.wanted, &self.config, wait, version);
        let deadline = wait + self.cluster.config().request_timeout;
        let answer = connection.call_streamed(&request, version, deadline).await?;
        let asked = Asked { wanted: &self.wanted, first: order.first().copied(), wait };
        Ok((connection, response::read(&asked, &self.config, answer)))
    }
}

/// Waits until one of these channels has room.
async fn room(starved: Vec<mpsc::Sender<Fetched>>) {
    if starved.is_empty() {
        return std::future::pending().await;
    }
    let room = starved.into_iter().map(|sender| Box::pin(sender.reserve_owned()));
    // The permit is returned at once: the next plan sees the room.
    drop(select_all(room).await);
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Forgets that `leader` leads its partitions, so that the supervisor looks their leaders up again.
fn release(shared: &Shared, leader: NodeId) {
    for source in shared.sources().values_mut() {
        if source.leader == Some(leader) {
            source.leader = None;
        }
    }
    shared.leaderless.notify_one();
}

/// Applies the outcome of each partition; returns whether records were delivered.
pub(super) fn deliver(
    shared: &Shared,
    wanted: &BTreeMap<TopicPartition, Wanted>,
    outcomes: Vec<(TopicPartition, Outcome)>,
) -> bool {
    let mut delivered = false;
    let mut leaderless = false;
    let mut sources = shared.sources();
    for (tp, outcome) in outcomes {
        let Some(source) = sources.get_mut(&tp) else { continue };
        if wanted.get(&tp).is_none_or(|wanted| wanted.addition != source.addition) {
            continue;
        }
        match outcome {
            Outcome::Read(read) => delivered |= deliver_read(&tp, source, read),
            Outcome::Unreadable(error) => {
                tracing::debug!(%tp, ?error, "not readable");
                let next = source.place.step_back();
                apply(&tp, source, next);
            }
            Outcome::OutOfRange => {
                if source.place.out_of_range() {
                    let position = source.place.position;
                    let fetched = Fetched::OutOfRange { position };
                    source.stopped = source.sender.try_send(fetched).is_ok();
                } else {
                    apply(&tp, source, Next::Stuck(ERROR_PAUSE));
                }
            }
            Outcome::FindLeader(error) => {
                let is_lasting = source.denials.peek() == DENIAL_PAUSE_MAX;
                if is_lasting && source.report.is_due() {
                    let leader = source.leader;
                    tracing::warn!(%tp, leader, ?error, "the leader in the metadata denies its leadership, trying again");
                }
                source.leader = None;
                source.not_before = Some(Instant::now() + source.denials.advance());
                leaderless = true;
            }
            Outcome::Wait { error, pause } => {
                if source.report.is_due() {
                    tracing::warn!(%tp, ?error, "the partition cannot be read at the moment, trying again");
                }
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

/// Delivers what was read of one partition; returns whether there were batches.
fn deliver_read(tp: &TopicPartition, source: &mut Source, mut read: Read) -> bool {
    source.denials.reset();
    source.place.log_start = read.log_start_offset;
    let next = source.place.advance(&mut read.reading, read.found);
    apply(tp, source, next);
    let ends = (read.found.end, read.high_watermark);
    let has_any = !read.reading.batches.is_empty() || read.reading.damaged.is_some();
    if !has_any && source.ends == Some(ends) {
        return false;
    }
    // Only this task sends, and the plan saw room. The next plan drops a closed channel.
    if source.sender.try_send(Fetched::Batches(read.into_fetched())).is_ok() {
        source.ends = Some(ends);
    }
    has_any
}

/// Logs why a partition cannot be read on, and sets the pause before its next fetch.
fn apply(tp: &TopicPartition, source: &mut Source, next: Next) {
    let offset = source.place.position;
    match next {
        Next::GoOn => {}
        Next::Again { pause, reason } => {
            let asked = source.place.asked();
            if source.report.is_due() {
                tracing::warn!(%tp, offset, asked, reason, "the log cannot be read here, fetching again");
            }
            source.not_before = Some(Instant::now() + pause);
        }
        Next::Stuck(pause) => {
            tracing::error!(
                %tp, offset,
                "the broker returns no whole batch from here on, although its log goes on: the partition waits"
            );
            source.not_before = Some(Instant::now() + pause);
        }
    }
}
