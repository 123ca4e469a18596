//! A view of the whole group: its numbers, members, delays, and the latest orders.
//!
//! Everything comes from Kafka itself, so it is right for any number of replicas and needs nothing of them:
//!
//! | shown | source |
//! |---|---|
//! | numbers, records that wait for a retry | the checkpoints beside the committed offsets |
//! | produced, lag | the ends of the logs |
//! | delay | the timestamp of the record at the committed offset |
//! | members | the group's coordinator |
//! | running and paused services | the control topic |
//! | status of an order | checkpoint, dead letters and replays ([`recent`]) |
//!
//! One observer reads for all viewers. While there is none, it reads only the numbers, for their history.

pub(crate) mod body;
mod build;
mod delay;
mod rates;
pub(crate) mod recent;
mod tail;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use control_topic::Follower;
use control_topic::view::ControlView;
use kafka_client::cluster::Cluster;
use kafka_client::error::{ClientError, chain};
use kafka_client::groups::{GroupDescription, describe_group};
use kafka_client::offsets::GroupOffsets;
use kafka_core::TopicPartition;
use schema_registry::{RegistryConfig, SchemaRegistry};
use service_runtime::now_ms;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::body::{Connection, ConnectionState, Snapshot};
use self::delay::Delays;
use self::rates::{Rates, Track};
use self::recent::Recent;
use crate::group_snapshot::GroupSnapshot;
use crate::settings::ConsoleSettings;
use crate::time::Time;

/// Pause between two readings while there is a viewer, and while there is none.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));
/// For how long a viewer counts as present after a request.
const ATTENTION: Duration = Duration::from_secs(10);
/// How long one reading may take before the cluster counts as unreachable.
const READING_MAX: Duration = Duration::from_secs(5);
/// How long reads of records may take in one reading; the next readings continue them.
const LOOKS_MAX: Duration = Duration::from_secs(2);
/// How long a new viewer waits for a reading.
const FRESH_MAX: Duration = Duration::from_secs(3);
/// Pause between two requests to the registry.
const REGISTRY_PAUSE: Duration = Duration::from_secs(5);

/// A view that is kept up to date. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    attention: Arc<Attention>,
}

/// Whether there is a viewer.
#[derive(Debug, Default)]
struct Attention {
    looked: Mutex<Option<Instant>>,
    begun: Notify,
}

impl View {
    /// Starts to observe the group of `settings`, in tasks of `tasks`.
    pub(crate) fn start(
        settings: &ConsoleSettings,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<Self> {
        let url = settings.connection.schema_registry_url.reveal();
        let config = RegistryConfig { attempts_max: 1, ..RegistryConfig::new(url) };
        let schemas = SchemaRegistry::new(config)?;
        let unknown = Connection { address: address_of(url), ..Connection::default() };
        let (registry_tx, registry) = watch::channel(unknown);
        let subject = format!("{}-value", settings.topics.orders_topic);
        tasks.spawn(watch_registry(schemas, subject, registry_tx));

        let attention = Arc::new(Attention::default());
        let (snapshot_tx, snapshot) = watch::channel(Arc::new(build::nothing(settings)));
        let observer = Observer::new(settings, registry, Arc::clone(&attention), snapshot_tx);
        tasks.spawn(observer.run());
        Ok(Self { snapshot, attention })
    }

    pub(crate) fn look(&self) -> Arc<Snapshot> {
        self.attention.look();
        Arc::clone(&self.snapshot.borrow())
    }

    /// Returns the latest snapshot without being a viewer.
    pub(crate) fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Returns a snapshot that is at most a reading old, or the latest while the cluster does not answer.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn fresh(&self) -> Arc<Snapshot> {
        let mut snapshot = self.snapshot.clone();
        snapshot.mark_unchanged();
        if self.attention.look() {
            // The reading in progress may have begun before there was a viewer.
            for _reading in 0..2 {
                if !matches!(timeout(FRESH_MAX, snapshot.changed()).await, Ok(Ok(()))) {
                    break;
                }
            }
        }
        let latest = snapshot.borrow();
        Arc::clone(&latest)
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }
}

impl Attention {
    /// Notes a viewer, and returns whether there was none before.
    fn look(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = looked.is_none_or(|at| at.elapsed() >= ATTENTION);
        *looked = Some(Instant::now());
        if is_new {
            self.begun.notify_one();
        }
        is_new
    }

    fn is_given(&self) -> bool {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.is_some_and(|at| at.elapsed() < ATTENTION)
    }
}

/// Reads the cluster for all viewers.
struct Observer {
    settings: ConsoleSettings,
    cluster: Cluster,
    offsets: GroupOffsets,
    recent: Recent,
    delays: Delays,
    rates: Rates,
    track: Track,
    /// The log ends of the orders' partitions.
    orders_ends: BTreeMap<TopicPartition, i64>,
    control: Follower,
    registry: watch::Receiver<Connection>,
    broker: Connection,
    group: Option<GroupDescription>,
    attention: Arc<Attention>,
    snapshot_tx: watch::Sender<Arc<Snapshot>>,
    latest: Snapshot,
    started: Instant,
}

impl Observer {
    fn new(
        settings: &ConsoleSettings,
        registry: watch::Receiver<Connection>,
        attention: Arc<Attention>,
        snapshot_tx: watch::Sender<Arc<Snapshot>>,
    ) -> Self {
        let cluster = settings.cluster();
        let control = settings.topics.control_topic.as_str();
        let servers = settings.connection.bootstrap_servers.join(",");
        Self {
            offsets: GroupOffsets::new(&cluster, settings.group.group_id.clone()),
            recent: Recent::new(settings),
            delays: Delays::default(),
            rates: Rates::default(),
            track: Track::default(),
            orders_ends: BTreeMap::new(),
            control: Follower::start(cluster.clone(), control),
            registry,
            broker: Connection { address: servers, ..Connection::default() },
            group: None,
            attention,
            snapshot_tx,
            latest: build::nothing(settings),
            started: Instant::now(),
            settings: settings.clone(),
            cluster,
        }
    }

    async fn run(mut self) {
        let mut control = self.control.view();
        loop {
            let began = Instant::now();
            match timeout(READING_MAX, self.read()).await {
                Ok(Ok(())) => self.broker.note(ConnectionState::Connected, None),
                Ok(Err(error)) => {
                    let is_unreachable = error
                        .downcast_ref::<ClientError>()
                        .is_some_and(|error| matches!(error, ClientError::Unreachable(_)));
                    let state = if is_unreachable {
                        ConnectionState::Unreachable
                    } else {
                        ConnectionState::Failing
                    };
                    self.broker.note(state, Some(format!("{error:#}")));
                }
                Err(_elapsed) => {
                    self.broker.note(ConnectionState::Unreachable, Some(no_answer()));
                }
            }
            self.publish(&control.borrow_and_update());
            let pause = if self.attention.is_given() { PAUSE.0 } else { PAUSE.1 };
            let next = sleep_until(began + pause);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = &mut next => break,
                    () = self.attention.begun.notified() => break,
                    // A pause is shown at once; the numbers come with the next reading.
                    changed = control.changed() => match changed {
                        Ok(()) => self.publish(&control.borrow_and_update()),
                        Err(_ended) => return,
                    },
                }
            }
        }
    }

    /// Reads the cluster into the latest snapshot. An error about one part hides no other part.
    async fn read(&mut self) -> anyhow::Result<()> {
        let group_id = &self.settings.group.group_id;
        let described = describe_group(&self.cluster, group_id).await;
        let described = described.map(|group| self.group = Some(group));
        let reading = GroupSnapshot::read(&self.cluster, &self.settings, &mut self.offsets).await?;
        let has_viewer = self.attention.is_given();
        if has_viewer {
            // Partitions that this does not reach in time come first in the next reading.
            drop(timeout(LOOKS_MAX, self.delays.look(&self.cluster, &reading)).await);
        }
        self.count(&reading);
        described?;
        if has_viewer {
            let catch_up = self.recent.catch_up(&self.cluster, &self.settings, &reading);
            let caught_up = timeout(LOOKS_MAX, catch_up).await.unwrap_or(Ok(()));
            self.latest.orders = self.recent.orders(&reading.states);
            caught_up?;
        }
        let missing = &self.latest.stats.unavailable;
        ensure!(missing.is_empty(), "{}", build::list(missing));
        Ok(())
    }

    fn count(&mut self, reading: &GroupSnapshot) {
        let now_ms = now_ms();
        let stats = &mut self.latest.stats;
        build::numbers(stats, reading);
        for partition in &mut stats.partitions {
            let tp = build::tp(&partition.topic, partition.partition);
            partition.lag_seconds = self.delays.seconds(&tp, partition.lag, now_ms);
        }
        stats.lag_seconds = build::longest(&stats.partitions);
        stats.unavailable.clone_from(&reading.unavailable);
        let orders = self.settings.topics.orders_topic.as_str();
        self.orders_ends = build::ends(orders, reading, &self.orders_ends);
        let produced = u64::try_from(self.orders_ends.values().sum::<i64>()).unwrap_or(0);
        let now = Instant::now();
        (stats.produced, stats.consumed) = self.rates.add(now, produced, stats.consumed.total);
        stats.at = Some(Time::of(now_ms));
        self.track.add(now, stats);
    }

    fn publish(&mut self, control: &ControlView) {
        let now = Instant::now();
        self.latest.control = build::control(control, now);
        if let Some(group) = &self.group {
            let group_id = &self.settings.group.group_id;
            let Snapshot { stats, group: body, control, .. } = &mut self.latest;
            *body = build::group(group_id, group, &stats.partitions, control);
            build::assign(&mut stats.partitions, group);
        }
        let stats = &mut self.latest.stats;
        stats.uptime_seconds = now.duration_since(self.started).as_secs();
        stats.connections.broker = self.broker.clone();
        stats.connections.registry = self.registry.borrow().clone();
        self.latest.history = self.track.history();
        self.snapshot_tx.send_replace(Arc::new(self.latest.clone()));
    }
}

impl Connection {
    fn note(&mut self, state: ConnectionState, detail: Option<String>) {
        if self.state != state {
            self.since = Some(Time::of(now_ms()));
        }
        (self.state, self.detail) = (state, detail);
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", READING_MAX.as_secs())
}

async fn watch_registry(
    schemas: SchemaRegistry,
    subject: String,
    connection_tx: watch::Sender<Connection>,
) {
    loop {
        let (state, detail) = match timeout(READING_MAX, schemas.probe(&subject)).await {
            Ok(Ok(())) => (ConnectionState::Connected, None),
            Ok(Err(error)) => (ConnectionState::Unreachable, Some(chain(&error))),
            Err(_elapsed) => (ConnectionState::Unreachable, Some(no_answer())),
        };
        connection_tx.send_modify(|connection| connection.note(state, detail));
        sleep(REGISTRY_PAUSE).await;
    }
}

fn address_of(urls: &str) -> String {
    let without_secrets = |url: &str| {
        let mut url = reqwest::Url::parse(url.trim()).ok()?;
        // A URL that cannot have a password has none.
        url.set_username("").and_then(|()| url.set_password(None)).unwrap_or_default();
        Some(url.to_string())
    };
    let addresses: Vec<String> = urls.split(',').filter_map(without_secrets).collect();
    addresses.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_addresses_are_shown_without_their_passwords() {
        for (urls, shown) in [
            ("http://localhost:8081", "http://localhost:8081/"),
            ("https://kim:secret@one:8081/x", "https://one:8081/x"),
            ("http://a:s@one:8081/, http://b:secret@two", "http://one:8081/,http://two/"),
            ("no url", ""),
        ] {
            assert_eq!(address_of(urls), shown, "{urls}");
        }
    }
}
