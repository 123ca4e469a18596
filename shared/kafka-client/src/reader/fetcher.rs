//! The task that reads all partitions: it finds leaders, keeps requests in flight, and delivers answers.
//!
//! The task owns all state and never waits for one thing alone: requests, refreshes of metadata and full channels are futures
//! whose ends are [`Event`]s. [`Fetcher::settle`] is the one place that decides what happens to a partition next:
//!
//! ```text
//!              no leader ──► metadata are refreshed
//!   an epoch to compare ──► OffsetForLeaderEpoch, with others of the same leader
//!         a recent error ──► a pause
//!         a full channel ──► room in it
//!                   else ──► the lanes of its broker
//! ```

mod answers;
mod leaders;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kafka_core::{NodeId, TopicPartition};
use pacing::{Backoff, ReportLimit};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::damage::SOLO_WAIT;
use super::exchange::{Answered, Exchange};
use super::lanes::{LANES, Lanes, Send, Solo};
use super::source::{Channel, Source};
use super::{Command, Commands, Fetched, REPORTS, ReaderConfig};
use crate::cluster::{Cluster, Metadata};
use crate::connection::Connection;
use crate::error::ClientError;
use crate::offsets::Found;
use crate::offsets::comparison::{Comparison, Position};

/// Pauses before a broker that could not be used is asked again.
const BROKER_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// The age at which metadata are refreshed without a reason, as `metadata.max.age.ms` of Kafka's own clients.
const METADATA_AGE_MAX: Duration = Duration::from_mins(5);

/// The end of something that the task waits for.
enum Event {
    Answered {
        node: NodeId,
        lane: usize,
        answered: Box<Answered>,
    },
    /// A channel has room, or was closed.
    Room {
        tp: TopicPartition,
        addition: u64,
        permit: Option<mpsc::OwnedPermit<Fetched>>,
    },
    Refreshed(Result<(), ClientError>),
    Validated {
        node: NodeId,
        positions: BTreeMap<TopicPartition, Position>,
        compared: Result<Found<Comparison>, ClientError>,
    },
}

/// A broker that partitions are read from.
struct Broker {
    lanes: Lanes,
    connections: [Option<Connection>; LANES],
    backoff: Backoff,
    /// The earliest time of the next request, after an error.
    not_before: Option<Instant>,
    report: ReportLimit,
    /// Partitions whose positions are to be compared with this broker's logs.
    to_validate: BTreeSet<TopicPartition>,
    is_validating: bool,
}

impl Broker {
    fn new(wait_max: Duration) -> Self {
        Self {
            lanes: Lanes::new(wait_max),
            connections: Default::default(),
            backoff: BROKER_BACKOFF,
            not_before: None,
            report: REPORTS,
            to_validate: BTreeSet::new(),
            is_validating: false,
        }
    }
}

/// All state of a reader.
pub(super) struct Fetcher {
    cluster: Cluster,
    config: ReaderConfig,
    commands: Arc<Commands>,
    sources: BTreeMap<TopicPartition, Source>,
    /// The topics' names by id.
    names: BTreeMap<Uuid, Arc<str>>,
    brokers: BTreeMap<NodeId, Broker>,
    /// Brokers that may have something to send.
    active: BTreeSet<NodeId>,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    known: watch::Receiver<Arc<Metadata>>,
    /// Topics whose metadata are missing, old or wrong.
    stale: BTreeSet<Arc<str>>,
    is_refreshing: bool,
    refresh_report: ReportLimit,
    aged_at: Instant,
    /// When partitions may be fetched again after an error.
    due: BTreeSet<(Instant, TopicPartition)>,
}

impl Fetcher {
    pub(super) fn new(cluster: Cluster, config: ReaderConfig, commands: Arc<Commands>) -> Self {
        Self {
            known: cluster.watch(),
            cluster,
            config,
            commands,
            sources: BTreeMap::new(),
            names: BTreeMap::new(),
            brokers: BTreeMap::new(),
            active: BTreeSet::new(),
            events: FuturesUnordered::new(),
            stale: BTreeSet::new(),
            is_refreshing: false,
            refresh_report: REPORTS,
            aged_at: Instant::now() + METADATA_AGE_MAX,
            due: BTreeSet::new(),
        }
    }

    /// Reads until the task is dropped.
    pub(super) async fn run(mut self) {
        let commands = Arc::clone(&self.commands);
        loop {
            for (tp, source) in commands.take() {
                self.on_command(&tp, source);
            }
            self.on_time();
            self.refresh();
            self.send();
            let wake_at = self.wake_at();
            tokio::select! {
                () = commands.given() => {}
                Some(event) = self.events.next() => self.on_event(event),
                Ok(()) = self.known.changed() => self.on_metadata(),
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Reads a partition from now on, or no longer.
    fn on_command(&mut self, tp: &TopicPartition, added: Command) {
        self.forget(tp);
        let Some((source, sender)) = added else { return };
        let addition = source.addition;
        self.sources.insert(tp.clone(), source);
        self.reserve(tp.clone(), addition, sender);
        let known = Arc::clone(&self.known.borrow());
        self.on_leader(tp, &known);
        self.settle(tp);
    }

    fn forget(&mut self, tp: &TopicPartition) {
        self.leave(tp);
        self.sources.remove(tp);
    }

    /// Notes the id of a partition's topic, which answers name instead of it.
    fn name(&mut self, tp: &TopicPartition) {
        if let Some(source) = self.sources.get(tp) {
            self.names.insert(source.broker_id, Arc::clone(&tp.topic));
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Answered { node, lane, answered } => self.on_answered(node, lane, *answered),
            Event::Room { tp, addition, permit } => {
                let Some(source) = self.sources.get_mut(&tp) else { return };
                if source.addition != addition {
                    return;
                }
                match permit {
                    Some(permit) => {
                        source.channel = Channel::Room(permit);
                        self.settle(&tp);
                    }
                    None => self.forget(&tp),
                }
            }
            Event::Refreshed(result) => self.on_refreshed(result),
            Event::Validated { node, positions, compared } => {
                self.on_validated(node, &positions, compared);
            }
        }
    }

    /// Waits for room in a partition's channel.
    fn reserve(&mut self, tp: TopicPartition, addition: u64, sender: mpsc::Sender<Fetched>) {
        match sender.try_reserve_owned() {
            Ok(permit) => {
                if let Some(source) = self.sources.get_mut(&tp) {
                    source.channel = Channel::Room(permit);
                }
            }
            Err(mpsc::error::TrySendError::Full(sender)) => {
                self.events.push(Box::pin(async move {
                    let permit = sender.reserve_owned().await.ok();
                    Event::Room { tp, addition, permit }
                }));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => self.forget(&tp),
        }
    }

    /// Delivers an item, and waits for room for the next one.
    fn deliver(&mut self, tp: &TopicPartition, item: Fetched) {
        let Some(source) = self.sources.get_mut(tp) else { return };
        let addition = source.addition;
        if let Some(sender) = source.deliver(item) {
            self.reserve(tp.clone(), addition, sender);
        }
    }

    /// Decides what happens to a partition next.
    fn settle(&mut self, tp: &TopicPartition) {
        let now = Instant::now();
        let Some(source) = self.sources.get_mut(tp) else { return };
        let has_room = matches!(source.channel, Channel::Room(_));
        if has_room && let Some(ending) = source.ending.take() {
            source.stopped = true;
            self.leave(tp);
            self.deliver(tp, ending);
            return;
        }
        if source.stopped || source.ending.is_some() || source.is_validating {
            self.leave(tp);
            return;
        }
        if let Some(due) = source.not_before.filter(|due| now < *due) {
            self.due.insert((due, tp.clone()));
            self.leave(tp);
            return;
        }
        source.not_before = None;
        if source.replica.is_some_and(|(_, until)| until <= now) {
            source.replica = None;
        }
        let (Some(leader), Some(node)) = (source.leader, source.node()) else {
            self.stale.insert(Arc::clone(&tp.topic));
            self.leave(tp);
            return;
        };
        if source.needs_validation() {
            self.leave(tp);
            self.broker(leader.node).to_validate.insert(tp.clone());
            return;
        }
        if !has_room {
            let key = source.key();
            self.broker(node).lanes.leave_for_a_moment(&key, now);
            return;
        }
        let (key, params) = (source.key(), source.params(self.config.partition_bytes_max));
        let (standing, is_searching) = (source.standing(), source.place.is_searching());
        let wait = source.place.wait().unwrap_or(SOLO_WAIT.min(self.config.wait_max));
        let lanes = &mut self.broker(node).lanes;
        if is_searching {
            lanes.fetch_alone(Solo { key, params, wait });
        } else {
            lanes.fetch(key, params, standing);
        }
    }

    /// Takes a partition out of the lanes.
    fn leave(&mut self, tp: &TopicPartition) {
        let Some(source) = self.sources.get(tp) else { return };
        let key = source.key();
        if let Some(broker) = source.node().and_then(|node| self.brokers.get_mut(&node)) {
            broker.lanes.leave(&key);
        }
        if let Some(broker) = source.leader.and_then(|leader| self.brokers.get_mut(&leader.node)) {
            broker.to_validate.remove(tp);
        }
    }

    fn broker(&mut self, node: NodeId) -> &mut Broker {
        self.active.insert(node);
        let wait_max = self.config.wait_max;
        self.brokers.entry(node).or_insert_with(|| Broker::new(wait_max))
    }

    /// Sends what can be sent.
    fn send(&mut self) {
        let now = Instant::now();
        for node in std::mem::take(&mut self.active) {
            let Some(broker) = self.brokers.get_mut(&node) else { continue };
            if broker.not_before.is_some_and(|not_before| now < not_before) {
                self.active.insert(node);
                continue;
            }
            broker.not_before = None;
            while let Some(Send { lane, asked, wait }) = broker.lanes.next(now) {
                let (cluster, config) = (self.cluster.clone(), self.config.clone());
                let exchange = Exchange { cluster, config, node, asked, wait };
                let connection = broker.connections[lane].take();
                self.events.push(Box::pin(async move {
                    let answered = Box::new(exchange.run(connection).await);
                    Event::Answered { node, lane, answered }
                }));
            }
            if broker.lanes.wake_at().is_some() {
                self.active.insert(node);
            }
            self.validate(node);
        }
    }

    /// Settles the partitions whose pauses have ended.
    fn on_time(&mut self) {
        let now = Instant::now();
        while let Some((due, tp)) = self.due.pop_first() {
            if now < due {
                self.due.insert((due, tp));
                break;
            }
            self.settle(&tp);
        }
        if self.aged_at <= now {
            self.aged_at = now + METADATA_AGE_MAX;
            self.stale.extend(self.sources.keys().map(|tp| Arc::clone(&tp.topic)));
        }
    }

    fn wake_at(&self) -> Instant {
        let brokers = self.active.iter().filter_map(|node| self.brokers.get(node));
        let brokers = brokers.filter_map(|broker| broker.not_before.or(broker.lanes.wake_at()));
        let due = self.due.first().map(|(due, _)| *due);
        brokers.chain(due).min().unwrap_or(self.aged_at).min(self.aged_at)
    }
}
