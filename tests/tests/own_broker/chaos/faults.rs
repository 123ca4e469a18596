//! The faults: each is caused, lasts for a while, and is repaired before its call returns.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use kafka_core::NodeId;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng, RngExt as _};
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep};

use super::{Chaos, PROCESSORS, Replica, SESSION, say};

/// How long a change is tried again while the controller is away or elected.
const CHANGE_PATIENCE: Duration = Duration::from_mins(2);
const CHANGE_PAUSE: Duration = Duration::from_millis(500);

/// The topic's partitions at most.
const PARTITIONS_MAX: u32 = 18;

/// The bytes of an order in a batch.
const ORDER_BYTES: f64 = 110.0;

/// A fault of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// Draws its parameters.
    pub(super) seed: u64,
}

/// What the limits of a run depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    /// Orders per second.
    pub(super) order_rate: f64,
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    KillBroker,
    PauseBroker,
    RestartBroker,
    TwoAway,
    Coordinator,
    MinInsync,
    Election,
    Reassignment,
    Partitions,
    ConsumerQuota,
    ProducerQuota,
    KillProcessor,
    StopProcessor,
    PauseProcessor,
}

impl Kind {
    pub(super) const ALL: [Self; 14] = [
        Self::KillBroker,
        Self::PauseBroker,
        Self::RestartBroker,
        Self::TwoAway,
        Self::Coordinator,
        Self::MinInsync,
        Self::Election,
        Self::Reassignment,
        Self::Partitions,
        Self::ConsumerQuota,
        Self::ProducerQuota,
        Self::KillProcessor,
        Self::StopProcessor,
        Self::PauseProcessor,
    ];

    /// Returns the name, as `KINDS` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KillBroker => "kill-broker",
            Self::PauseBroker => "pause-broker",
            Self::RestartBroker => "restart-broker",
            Self::TwoAway => "two-away",
            Self::Coordinator => "coordinator",
            Self::MinInsync => "min-insync",
            Self::Election => "election",
            Self::Reassignment => "reassignment",
            Self::Partitions => "partitions",
            Self::ConsumerQuota => "consumer-quota",
            Self::ProducerQuota => "producer-quota",
            Self::KillProcessor => "kill-processor",
            Self::StopProcessor => "stop-processor",
            Self::PauseProcessor => "pause-processor",
        }
    }

    /// Returns the kind of this name.
    pub(super) fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.with_context(|| format!("{name:?} is no kind of fault"))
    }
}

/// How a broker goes away.
#[derive(Clone, Copy, Debug)]
enum Absence {
    Killed,
    Stopped,
    Paused,
}

impl Absence {
    const ALL: [Self; 3] = [Self::Killed, Self::Stopped, Self::Paused];

    /// Draws how long a broker is away. A start takes some seconds more.
    fn draw_time(self, draws: &mut StdRng) -> Duration {
        match self {
            Self::Killed | Self::Stopped => millis(draws, 0..4_000),
            Self::Paused => millis(draws, 3_000..20_000),
        }
    }
}

impl Chaos {
    /// Causes a fault, and repairs it.
    pub(super) async fn cause(&self, kind: Kind, draws: &mut StdRng) -> Result<()> {
        match kind {
            Kind::KillBroker => self.one_away(Absence::Killed, draws).await,
            Kind::PauseBroker => self.one_away(Absence::Paused, draws).await,
            Kind::RestartBroker => self.one_away(Absence::Stopped, draws).await,
            Kind::TwoAway => {
                let absence = *[Absence::Killed, Absence::Paused].choose(draws).context("draw")?;
                let mut nodes: Vec<NodeId> = self.cluster.nodes().collect();
                nodes.shuffle(draws);
                nodes.truncate(2);
                let _alone = self.brokers.lock().await;
                self.away(&nodes, absence, millis(draws, 1_000..8_000)).await
            }
            Kind::Coordinator => {
                let absence = *Absence::ALL.choose(draws).context("draw")?;
                let time = absence.draw_time(draws);
                let _alone = self.brokers.lock().await;
                let group = self.scenario.group();
                let node = until_done(async || self.cluster.coordinator(group).await).await?;
                self.away(&[node], absence, time).await
            }
            Kind::MinInsync => self.too_few_in_sync(draws).await,
            Kind::Election => self.elect(draws).await,
            Kind::Reassignment => self.move_leaders(draws).await,
            Kind::Partitions => self.grow().await,
            Kind::ConsumerQuota => {
                self.throttle("order-processor", "consumer_byte_rate", draws).await
            }
            Kind::ProducerQuota => {
                let clients = ["order-generator", "order-generator", "order-processor"];
                let client = clients.choose(draws).context("draw")?;
                self.throttle(client, "producer_byte_rate", draws).await
            }
            Kind::KillProcessor => self.kill_processor(draws).await,
            Kind::StopProcessor => self.stop_processor(draws).await,
            Kind::PauseProcessor => self.pause_processor(draws).await,
        }
    }

    async fn one_away(&self, absence: Absence, draws: &mut StdRng) -> Result<()> {
        let node = self.draw_node(draws)?;
        let time = absence.draw_time(draws);
        let _alone = self.brokers.lock().await;
        self.away(&[node], absence, time).await
    }

    /// Takes brokers away and brings them back. The caller holds the lock of the brokers.
    async fn away(&self, nodes: &[NodeId], absence: Absence, time: Duration) -> Result<()> {
        say(&format!("brokers {nodes:?} are {absence:?} for {time:.1?}"));
        for node in nodes {
            self.absences.begin(*node);
            match absence {
                Absence::Killed => self.cluster.kill(*node).await?,
                Absence::Stopped => self.cluster.stop(*node).await?,
                Absence::Paused => self.cluster.pause(*node).await?,
            }
        }
        sleep(time).await;
        for node in nodes {
            match absence {
                Absence::Killed | Absence::Stopped => self.cluster.start(*node).await?,
                Absence::Paused => self.cluster.resume(*node).await?,
            }
        }
        for node in nodes {
            self.absences.end(*node);
        }
        until_done(async || self.cluster.in_sync().await).await
    }

    /// Stops a broker while every replica has to be in sync: the others refuse orders.
    async fn too_few_in_sync(&self, draws: &mut StdRng) -> Result<()> {
        let topic = self.scenario.orders_topic();
        let (node, time) = (self.draw_node(draws)?, millis(draws, 1_000..6_000));
        let _alone = self.brokers.lock().await;
        let config = "min.insync.replicas=3";
        until_done(async || self.cluster.set("topics", topic, config).await).await?;
        let away = self.away(&[node], Absence::Stopped, time).await;
        let name = "min.insync.replicas";
        until_done(async || self.cluster.unset("topics", topic, name).await).await?;
        away
    }

    /// Draws another preferred leader for every partition, and elects it.
    async fn elect(&self, draws: &mut StdRng) -> Result<()> {
        let partitions = self.partitions.lock().await;
        self.draw_replicas(*partitions, draws).await?;
        until_done(async || self.cluster.elect_preferred().await).await
    }

    /// Takes the leader's replica away from some partitions, and gives it back.
    async fn move_leaders(&self, draws: &mut StdRng) -> Result<()> {
        let partitions = self.partitions.lock().await;
        let topic = self.scenario.orders_topic();
        let leaders = until_done(async || self.cluster.leaders(topic).await).await?;
        let mut fewer = BTreeMap::new();
        for (partition, leader) in leaders {
            let others = self.cluster.nodes().filter(|node| *node != leader);
            if draws.random() {
                fewer.insert(partition, others.collect());
            }
        }
        say(&format!("the leaders move: {fewer:?}"));
        until_done(async || self.cluster.reassign(topic, &fewer).await).await?;
        sleep(millis(draws, 0..5_000)).await;
        self.draw_replicas(*partitions, draws).await
    }

    /// Gives every partition all brokers as replicas, in a random order.
    async fn draw_replicas(&self, partitions: u32, draws: &mut StdRng) -> Result<()> {
        let mut replicas = BTreeMap::new();
        for partition in 0..i32::try_from(partitions)? {
            let mut nodes: Vec<NodeId> = self.cluster.nodes().collect();
            nodes.shuffle(draws);
            replicas.insert(partition, nodes);
        }
        let topic = self.scenario.orders_topic();
        until_done(async || self.cluster.reassign(topic, &replicas).await).await
    }

    async fn grow(&self) -> Result<()> {
        let mut partitions = self.partitions.lock().await;
        let more = (*partitions + 1).min(PARTITIONS_MAX);
        if more > *partitions {
            say(&format!("the topic has {more} partitions"));
            let topic = self.scenario.orders_topic();
            let count = usize::try_from(more)?;
            // A request may have been carried out although its answer was lost.
            until_done(async || {
                let leaders = self.cluster.leaders(topic).await?;
                if leaders.len() < count { self.cluster.grow(topic, more).await } else { Ok(()) }
            })
            .await?;
            *partitions = more;
        }
        Ok(())
    }

    /// Limits the bytes of a service to between half of its share of the load and twice as much.
    async fn throttle(&self, client: &str, quota: &str, draws: &mut StdRng) -> Result<()> {
        let share = self.parameters.order_rate * ORDER_BYTES / 3.0;
        let rate = share * draws.random_range(0.5..2.0);
        let time = millis(draws, 3_000..10_000);
        let config = format!("{quota}={rate:.0}");
        say(&format!("{client} has {config} for {time:.1?}"));
        until_done(async || self.cluster.set("clients", client, &config).await).await?;
        sleep(time).await;
        until_done(async || self.cluster.unset("clients", client, quota).await).await
    }

    /// Stops a processor with SIGSTOP until the group has removed it.
    async fn pause_processor(&self, draws: &mut StdRng) -> Result<()> {
        let replica = self.draw_processor(draws).await;
        replica.service.freeze()?;
        sleep(SESSION.mul_f64(draws.random_range(1.1..2.0))).await;
        replica.service.thaw()
    }

    async fn kill_processor(&self, draws: &mut StdRng) -> Result<()> {
        let mut replica = self.draw_processor(draws).await;
        replica.service.kill().await?;
        sleep(millis(draws, 0..3_000)).await;
        replica.start_again(&self.scenario)
    }

    async fn stop_processor(&self, draws: &mut StdRng) -> Result<()> {
        let mut replica = self.draw_processor(draws).await;
        replica.service.terminate()?;
        replica.service.expect_exit(0).await?;
        sleep(millis(draws, 0..3_000)).await;
        replica.start_again(&self.scenario)
    }

    async fn draw_processor(&self, draws: &mut StdRng) -> MutexGuard<'_, Replica> {
        let member = draws.random_range(0..PROCESSORS);
        say(&format!("it hits processor {member}"));
        self.processors[member].lock().await
    }

    fn draw_node(&self, draws: &mut StdRng) -> Result<NodeId> {
        let nodes: Vec<NodeId> = self.cluster.nodes().collect();
        nodes.choose(draws).copied().context("there are brokers")
    }
}

fn millis(draws: &mut impl Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(draws.random_range(range))
}

/// Tries a change again until it succeeds: another fault may keep the controller from it.
async fn until_done<T>(change: impl AsyncFn() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + CHANGE_PATIENCE;
    loop {
        match change().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(error) => {
                let text = format!("{error:#}");
                say(&format!(
                    "tried again: {}",
                    text.trim_end().lines().last().unwrap_or_default()
                ));
            }
        }
        sleep(CHANGE_PAUSE).await;
    }
}
