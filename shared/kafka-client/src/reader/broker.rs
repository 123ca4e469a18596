//! One broker's fetch loop: plan requests from what has room, hand on what comes, again.
//!
//! Several requests are under way at once, each on a connection of its own and for other partitions: while one response is
//! worked on, the next ones are on their way. A partition is in one request at a time, and only while its channel has
//! room. Partitions that have caught up with their log are asked for together, in a quiet request that waits at the
//! broker for news. A partition whose data the broker needs long to read is asked for alone.

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

use super::request::{in_turn, request};
use super::response::{self, Asked, ERROR_PAUSE, Outcome, Read};
use super::trouble::Next;
use super::{DENIAL_PAUSE_MAX, Fetched, OnFetch, REPORTS, ReaderConfig, Shared, Source, Wanted};
use crate::cluster::Cluster;
use crate::connection::{Connection, ConnectionError};
use crate::error::{ClientError, chain};

/// Requests that are under way at once. One of them may be quiet.
const LANES: usize = 3;
/// How long a quiet request is held back for a partition whose channel is still full: its worker is taking the last
/// fetch at this moment.
const COMPANY_WAIT: Duration = Duration::from_millis(2);
/// How long the broker may hold back the answer to a request that cannot name all partitions or whose partitions may
/// have no data: first, and at most.
const BRIEF_WAIT: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(100));
/// A connection that breaks after less than that was not idle.
const IDLE_MIN: Duration = Duration::from_secs(1);
/// Pause before a broker is connected to again, first and at most.
const CONNECT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// What the next request asks for, and what it leaves out.
#[derive(Debug, Default)]
struct Plan {
    wanted: BTreeMap<TopicPartition, Wanted>,
    /// Whether all of them have caught up, so that the broker will wait for news.
    is_quiet: bool,
    /// How long the broker may look for the data of the one partition, if that is slow.
    slow_wait: Option<Duration>,
    /// Whether the ends of all their logs are known.
    has_ends: bool,
    /// Channels of partitions that are left out because they are full.
    starved: Vec<mpsc::Sender<Fetched>>,
    /// When a partition that is left out after an error may be asked for again.
    due: Option<Instant>,
}

/// A request that is under way.
#[derive(Debug)]
struct Flight {
    wanted: BTreeMap<TopicPartition, Wanted>,
    is_quiet: bool,
    is_slow: bool,
}

/// The connection that a request went over, and what came of it.
type Landed = Result<(Connection, Vec<(TopicPartition, Outcome)>), ClientError>;

/// Reads whatever one broker leads.
struct BrokerReader {
    leader: NodeId,
    cluster: Cluster,
    config: ReaderConfig,
    shared: Arc<Shared>,
    flights: BTreeMap<task::Id, Flight>,
    landing: JoinSet<Landed>,
    /// Connections that no request is under way on.
    spare: Vec<Connection>,
    turn: usize,
    brief_wait: Backoff,
    /// Until when a quiet request is held back.
    held_until: Option<Instant>,
    backoff: Backoff,
    report: ReportLimit,
}

/// Reads whatever broker `leader` leads, until the task is dropped.
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
        flights: BTreeMap::new(),
        landing: JoinSet::new(),
        spare: Vec::new(),
        turn: 0,
        brief_wait: BRIEF_WAIT,
        held_until: None,
        backoff: CONNECT_BACKOFF,
        report: REPORTS,
    };
    loop {
        let mut changed = Box::pin(shared.changed.notified());
        changed.as_mut().enable();
        let plan = reader.plan();
        if reader.has_lane_for(&plan) {
            reader.send(plan);
            continue;
        }
        // Where no lane is left, nothing but a landing helps.
        let is_free = reader.flights.len() < LANES;
        let held_until = reader.held_until.filter(|_| is_free);
        tokio::select! {
            Some(landed) = reader.landing.join_next_with_id() => reader.land(landed).await,
            () = changed, if is_free => {}
            () = room(plan.starved), if is_free => {}
            () = until(plan.due), if is_free => {}
            () = until(held_until) => {}
        }
    }
}

impl BrokerReader {
    /// Returns what can be asked for: partitions that are behind with, if there are any, those that have caught up; or
    /// one slow partition, while no other one is under way.
    fn plan(&self) -> Plan {
        let mut plan = Plan { is_quiet: true, has_ends: true, ..Plan::default() };
        let now = Instant::now();
        let is_under_way = |tp: &TopicPartition, addition: u64| {
            let mut flights = self.flights.values();
            flights.any(|flight| flight.wanted.get(tp).is_some_and(|w| w.addition == addition))
        };
        let mut sources = self.shared.sources();
        sources.retain(|_, source| !source.sender.is_closed());
        for (tp, source) in sources.iter() {
            let is_ours = source.leader == Some(self.leader) && !source.halted;
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
        self.part_slow(&mut plan);
        plan
    }

    /// Leaves of a plan only one slow partition, or only those that are not slow.
    fn part_slow(&self, plan: &mut Plan) {
        let slow = plan.wanted.values().filter(|wanted| wanted.wait.is_some()).count();
        let Some(turn) = self.turn.checked_rem(slow) else { return };
        if self.flights.values().any(|flight| flight.is_slow) {
            plan.wanted.retain(|_, wanted| wanted.wait.is_none());
            return;
        }
        let mut slow = plan.wanted.iter().filter(|(_, wanted)| wanted.wait.is_some());
        let Some((tp, wanted)) = slow.nth(turn) else { return };
        plan.slow_wait = wanted.wait;
        plan.is_quiet = false;
        plan.wanted = BTreeMap::from([(tp.clone(), wanted.clone())]);
    }

    /// Returns whether a request can be sent now.
    fn has_lane_for(&mut self, plan: &Plan) -> bool {
        if plan.wanted.is_empty() || self.flights.len() >= LANES {
            return false;
        }
        if !plan.is_quiet {
            return true;
        }
        if self.flights.values().any(|flight| flight.is_quiet) {
            return false;
        }
        let now = Instant::now();
        plan.starved.is_empty() || *self.held_until.get_or_insert(now + COMPANY_WAIT) <= now
    }

    /// Sends a request on a lane of its own.
    fn send(&mut self, plan: Plan) {
        let Plan { wanted, is_quiet, slow_wait, has_ends, starved, due } = plan;
        self.held_until = None;
        let is_complete = starved.is_empty() && due.is_none() && self.flights.is_empty();
        let wait = match (is_quiet, is_complete) {
            (true, true) => self.config.wait_max,
            (true, false) => self.brief_wait.peek().min(self.config.wait_max),
            // The broker has data and answers as soon as it has read them.
            (false, _) if has_ends => slow_wait.unwrap_or(self.config.wait_max),
            (false, _) => BRIEF_WAIT.peek().min(self.config.wait_max),
        };
        self.turn = self.turn.wrapping_add(1);
        let fetch = Fetch {
            leader: self.leader,
            cluster: self.cluster.clone(),
            config: self.config.clone(),
            wanted: wanted.clone(),
            turn: self.turn,
            wait,
        };
        let id = self.landing.spawn(fetch.run_told(self.spare.pop())).id();
        self.flights.insert(id, Flight { wanted, is_quiet, is_slow: slow_wait.is_some() });
    }

    /// Hands on what a request has brought, and tries again later what it has not.
    async fn land(&mut self, landed: Result<(task::Id, Landed), JoinError>) {
        let (id, landed) = match landed {
            Ok((id, landed)) => (
                id,
                landed.map_err(|error| {
                    let is_usual = error.is_retriable();
                    (is_usual, chain(&error))
                }),
            ),
            Err(error) => (error.id(), Err((false, error.to_string()))),
        };
        let Some(flight) = self.flights.remove(&id) else { return };
        match landed {
            Ok((connection, outcomes)) => {
                self.spare.push(connection);
                self.backoff.reset();
                self.report.reset();
                let delivered = deliver(&self.shared, &flight.wanted, outcomes);
                if flight.is_quiet && delivered {
                    self.brief_wait.reset();
                } else if flight.is_quiet {
                    self.brief_wait.advance();
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
                self.landing.shutdown().await;
                self.flights.clear();
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
            is_urgent: self.place.is_in_trouble(),
            addition: self.addition,
        }
    }

    /// Returns whether there was nothing more to read the last time that anything was heard of the log.
    fn is_caught_up(&self) -> bool {
        self.ends.is_some_and(|(last_stable, _)| last_stable <= self.place.position)
    }
}

/// What a request is made of.
struct Fetch {
    leader: NodeId,
    cluster: Cluster,
    config: ReaderConfig,
    wanted: BTreeMap<TopicPartition, Wanted>,
    turn: usize,
    wait: Duration,
}

impl Fetch {
    /// Runs, and tells how long that took.
    async fn run_told(self, spare: Option<Connection>) -> Landed {
        let (begun, on_fetch) = (Instant::now(), self.config.on_fetch.clone());
        let landed = self.run(spare).await;
        if let Some(OnFetch(told)) = on_fetch {
            told(begun.elapsed(), landed.as_ref().err());
        }
        landed
    }

    /// Sends the request, over a connection that is there or a new one, and reads the answer.
    ///
    /// A broker closes connections that were idle for long (`connections.max.idle.ms`), also while a request waits there for
    /// news. A request may be sent twice, so the rest of its wait goes on over a new connection.
    async fn run(self, spare: Option<Connection>) -> Landed {
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
        let address = self.cluster.address(self.leader).ok_or_else(|| {
            ClientError::refused("name a leader's address", ResponseError::LeaderNotAvailable)
        })?;
        Ok(self.cluster.connect(&address).await?)
    }

    async fn ask(&self, mut connection: Connection, wait: Duration) -> Landed {
        let version = connection.version::<messages::FetchRequest>()?;
        let order = in_turn(&self.wanted, self.turn);
        let request = request(&order, &self.wanted, &self.config, wait, version);
        let deadline = wait + self.cluster.config().request_timeout;
        let answer = connection.call(&request, deadline).await?;
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
    // The permit goes back at once: the plan made next sees the room.
    drop(select_all(room).await);
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
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

/// Hands on what was answered; returns whether anything was.
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
                let is_lasting = source.denials.peek() == DENIAL_PAUSE_MAX;
                if is_lasting && source.report.is_due() {
                    let leader = source.leader;
                    tracing::warn!(%tp, leader, ?error, "the leader in the metadata denies it, trying again");
                }
                source.leader = None;
                source.not_before = Some(Instant::now() + source.denials.advance());
                leaderless = true;
            }
            Outcome::Wait { error, pause } => {
                if source.report.is_due() {
                    tracing::warn!(%tp, ?error, "cannot be read at the moment, trying again");
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

/// Hands on what could be read of one partition; returns whether there was anything.
fn hand_on(tp: &TopicPartition, source: &mut Source, mut read: Read) -> bool {
    source.denials.reset();
    source.place.log_start = read.log_start_offset;
    let next = source.place.advance(&mut read.reading, read.found);
    heed(tp, source, next);
    let ends = (read.found.end, read.high_watermark);
    let has_any = !read.reading.batches.is_empty() || read.reading.damaged.is_some();
    if !has_any && source.ends == Some(ends) {
        return false;
    }
    // Only this task sends, and the plan saw room; a channel that is closed is dropped by the next plan.
    if source.sender.try_send(Fetched::Batches(read.into_fetched())).is_ok() {
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
            if source.report.is_due() {
                tracing::warn!(%tp, offset, asked, reason, "the log cannot be read here, looking again");
            }
            source.not_before = Some(Instant::now() + pause);
        }
        Next::Stuck(pause) => {
            tracing::error!(
                %tp, offset,
                "the broker sends no whole batch from here on, although its log goes on: the partition waits"
            );
            source.not_before = Some(Instant::now() + pause);
        }
    }
}
