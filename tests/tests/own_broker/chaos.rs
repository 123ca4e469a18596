//! Random faults of three real brokers and of the services, two at once, under load: every order counts once, and no
//! partition stands still for longer than the settings imply.
//!
//! `make chaos FAULTS=100 SEED=1 ORDERS=200000 KINDS=kill-broker,election` sets the number of faults, what draws them, the
//! least number of orders, and the kinds of faults. The seed repeats the faults, their parameters and the orders; how they fall
//! together depends on the machine.

mod faults;

use std::str::FromStr;
use std::sync::Mutex as StdMutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use end_to_end::darkness::{Absences, Darkness};
use end_to_end::outsiders::python;
use end_to_end::platform::variable;
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use end_to_end::{KafkaCluster, Scenario, Service, Stats, Verdict};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::ALONE;
use faults::{Fault, Kind, Parameters};

const FAULTS_DEFAULT: usize = 20;
const ORDERS_DEFAULT: u64 = 20_000;

/// Some orders fail on purpose, so that there are retries and dead letters at every fault.
const SIMULATION: Simulation = Simulation { rate: 0.02, retries_max: 3 };

/// The first number of `ORDER_ID_FORMAT=sequential`.
const FIRST_NUMBER: &str = "1001";

/// Two for each broker.
const PARTITIONS: u32 = 6;

const PROCESSORS: usize = 3;

/// At most two faults at once.
const LANES: u32 = 2;

/// The time in which the generator publishes its orders, for each fault. It goes on until all faults are over.
const TIME_PER_FAULT: Duration = Duration::from_secs(5);

/// `SESSION_TIMEOUT_MS`: after that a silent member's partitions go to others.
const SESSION: Duration = Duration::from_secs(6);

/// The brokers' session: after that the leaders of a silent broker are elected anew.
const BROKER_SESSION: Duration = Duration::from_secs(3);

/// How long a client waits for a silent broker: five seconds for a connection or ten for an answer.
const REQUEST: Duration = Duration::from_secs(10);

/// How long a broker throttles at most: the quota allows half of the rate of orders, and a response has at most the
/// orders of one absence.
const THROTTLE: Duration = Duration::from_secs(20);

/// The longest time that a partition may be dark: a fault is noticed after a member's session, a broker's session and a
/// request, and a second fault may begin just then. A throttled response may come on top.
fn dark_limit() -> Duration {
    LANES * (SESSION + BROKER_SESSION + REQUEST) + THROTTLE
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_counts_once_through_random_faults() -> Result<()> {
    let _alone = ALONE.lock().await;
    let given = Given {
        faults: setting("CHAOS_FAULTS")?.unwrap_or(FAULTS_DEFAULT),
        orders: setting("CHAOS_ORDERS")?.unwrap_or(ORDERS_DEFAULT),
        seed: setting("CHAOS_SEED")?.unwrap_or_else(rand::random),
        kinds: match variable("CHAOS_KINDS") {
            Some(names) => names.split(',').map(Kind::named).collect::<Result<_>>()?,
            None => Kind::ALL.to_vec(),
        },
    };
    say(&format!("{given:?}"));
    run(&given).await.with_context(|| format!("{given:?}"))
}

/// The size and the seed of a run.
#[derive(Debug)]
struct Given {
    faults: usize,
    orders: u64,
    seed: u64,
    kinds: Vec<Kind>,
}

impl Given {
    /// Returns the rate at which the generator publishes.
    fn order_rate(&self) -> Result<f64> {
        let time = TIME_PER_FAULT * u32::try_from(self.faults)?;
        Ok(f64::from(u32::try_from(self.orders)?) / time.as_secs_f64())
    }

    /// Draws the faults. Every kind comes once before one comes again.
    fn draw(&self) -> Vec<Fault> {
        let mut draws = StdRng::seed_from_u64(self.seed);
        let mut faults = Vec::new();
        while faults.len() < self.faults {
            let mut kinds = self.kinds.clone();
            kinds.shuffle(&mut draws);
            faults.extend(kinds.into_iter().map(|kind| Fault { kind, seed: draws.random() }));
        }
        faults.truncate(self.faults);
        faults
    }
}

async fn run(given: &Given) -> Result<()> {
    let began = Instant::now();
    let chaos = Chaos::start(given).await?;
    let ended = chaos.to_its_end(given).await;
    let dark = Darkness::of_lines(&chaos.watch.lines(), &chaos.absences);
    let Darkness { samples, longest, partition, offset, until } = dark;
    let dark = format!(
        "longest dark {longest:.1?} (partition {partition} at {offset} until {until:.1}, {samples} samples)"
    );
    let Counts { orders, lost, twice } = ended.with_context(|| dark.clone())?;
    let took = began.elapsed();
    let kinds: Vec<&str> = given.kinds.iter().map(|kind| kind.name()).collect();
    say(&format!(
        "seed {}, {} faults ({}), {orders} orders, {took:.0?}, lost {lost}, twice {twice}, {dark}",
        given.seed,
        given.faults,
        kinds.join(" "),
    ));
    ensure!(lost + twice == 0, "{lost} orders are lost, {twice} are there twice");
    ensure!(longest <= dark_limit(), "{dark}, and {:?} is the limit", dark_limit());
    chaos.drain().await
}

/// The services, and what the faults need of them.
struct Chaos {
    cluster: KafkaCluster,
    scenario: Scenario,
    topic_id: Uuid,
    generator: Service,
    processors: [Mutex<Replica>; PROCESSORS],
    watch: Service,
    absences: Absences,
    parameters: Parameters,
    /// One fault at a time stops brokers: two of the three are needed to serve.
    brokers: Mutex<()>,
    /// The partitions of the topic of orders; one fault at a time changes the topic.
    partitions: Mutex<u32>,
    /// The faults that have not begun, the next one last.
    queue: StdMutex<Vec<Fault>>,
}

impl Chaos {
    async fn start(given: &Given) -> Result<Self> {
        let cluster = KafkaCluster::whole().await?;
        let rate = given.order_rate()?;
        let scenario = cluster
            .scenario("chaos")?
            .with("TOPIC_PARTITIONS", &PARTITIONS.to_string())
            .with("SESSION_TIMEOUT_MS", &SESSION.as_millis().to_string())
            .with("ERROR_SIMULATION_RATE", &SIMULATION.rate.to_string())
            .with("MAX_RETRIES", &SIMULATION.retries_max.to_string())
            .with("RETRY_BACKOFF_SECONDS", "0.1")
            .with("METADATA_MAX_AGE_MS", "1000")
            .with("ORDER_ID_FORMAT", "sequential")
            .with("ORDER_RATE", &rate.to_string())
            .with("SEED", &given.seed.to_string());
        let processors = [0, 1, 2].map(|member| Replica::start(&scenario, member, 1));
        let [first, second, third] = processors;
        let processors = [first?, second?, third?].map(Mutex::new);
        let generator = scenario.generator("generator")?.env("DRAIN_TIMEOUT_MS", "60000");
        let generator = generator.start()?;
        scenario.stats_when("the first orders", |stats| stats.orders > 0).await?;
        let (topic, group) = (scenario.orders_topic(), scenario.group());
        let watch = python(&scenario, "watch.py")?.named("watch");
        let watch = watch.args(["--group", group, "--topic", topic]).start()?;
        let mut queue = given.draw();
        queue.reverse();
        Ok(Self {
            topic_id: cluster.topic_id(topic).await?,
            cluster,
            scenario,
            generator,
            processors,
            watch,
            absences: Absences::default(),
            parameters: Parameters { order_rate: rate },
            brokers: Mutex::new(()),
            partitions: Mutex::new(PARTITIONS),
            queue: StdMutex::new(queue),
        })
    }

    async fn to_its_end(&self, given: &Given) -> Result<Counts> {
        tokio::try_join!(self.lane(), self.lane())?;
        say("all faults are over");
        let enough = |stats: &Stats| stats.accounted() >= given.orders;
        self.scenario.stats_when("all orders", enough).await?;
        self.generator.terminate()?;
        let line = self.generator.line("final statistics").await?;
        let outcome = |name| field(&line, name);
        ensure!((outcome("failed")?, outcome("unknown")?) == (0.into(), 0.into()), "{line}");
        let acknowledged = outcome("acknowledged")?.as_u64();
        self.judge(acknowledged.context("read the acknowledged orders")?).await
    }

    /// Runs faults one after the other until none is left.
    async fn lane(&self) -> Result<()> {
        while let Some(fault) = self.next_fault()? {
            let mut draws = StdRng::seed_from_u64(fault.seed);
            let name = fault.kind.name();
            let began = Instant::now();
            say(&format!("begins: {name}"));
            self.cause(fault.kind, &mut draws).await.with_context(|| format!("at {name}"))?;
            say(&format!("is over: {name}, after {:.1?}", began.elapsed()));
            sleep(Duration::from_millis(draws.random_range(0..2_000))).await;
        }
        Ok(())
    }

    fn next_fault(&self) -> Result<Option<Fault>> {
        let Ok(mut queue) = self.queue.lock() else { bail!("the other lane has panicked") };
        Ok(queue.pop())
    }

    /// Waits until every order counts, and compares the statistics with the topics.
    async fn judge(&self, orders: u64) -> Result<Counts> {
        let stats = self.scenario.stats_at_end(orders).await?;
        let sequence = self.sequence(orders).await?;
        let verdict = self.scenario.verdict(SIMULATION).await?;
        let counts = Counts {
            orders,
            lost: sequence.lost + verdict.records.saturating_sub(stats.accounted()),
            twice: sequence.twice + stats.accounted().saturating_sub(verdict.records),
        };
        ensure!((sequence.foreign, sequence.disordered) == (0, 0), "{sequence:#?}");
        ensure!((verdict.records == orders) || (counts.lost + counts.twice > 0), "{verdict:#?}");
        // Partitions were added, so earlier orders are not where their keys would be placed later.
        Verdict { misplaced: 0, ..verdict }
            .check(&stats)
            .with_context(|| format!("{counts:?}, {sequence:#?}"))?;
        for partition in &stats.partitions {
            let number = |name: &str| partition[name].as_u64().unwrap_or_default();
            let is_whole = number("orders") + number("dead_letters") == number("log_end");
            ensure!(is_whole, "offsets and statistics differ: {partition}");
        }
        let topic_id = self.cluster.topic_id(self.scenario.orders_topic()).await?;
        ensure!(topic_id == self.topic_id, "another topic was read");
        Ok(counts)
    }

    /// Compares the numbers of the orders in the topic with those of the generator.
    async fn sequence(&self, orders: u64) -> Result<Sequence> {
        let command = python(&self.scenario, "oracle.py")?.args(["sequence"]);
        let command = command.args(["--orders", self.scenario.orders_topic()]);
        let command = command.args(["--first", FIRST_NUMBER, "--count", &orders.to_string()]);
        let printed = command.output().await?;
        serde_json::from_str(&printed).with_context(|| format!("read what was printed: {printed}"))
    }

    async fn drain(mut self) -> Result<()> {
        self.generator.expect_exit(0).await?;
        self.watch.terminate()?;
        self.watch.expect_exit(0).await?;
        for replica in self.processors {
            replica.into_inner().service.drain().await?;
        }
        Ok(())
    }
}

/// The acknowledged orders, those that are not in the topic or do not count, and those that are there or count twice.
#[derive(Debug)]
struct Counts {
    orders: u64,
    lost: u64,
    twice: u64,
}

/// What `oracle.py sequence` prints.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "the examples are shown in errors")]
struct Sequence {
    lost: u64,
    twice: u64,
    foreign: u64,
    disordered: u64,
    examples: serde_json::Value,
}

/// A processor and its successors.
struct Replica {
    member: usize,
    starts: usize,
    service: Service,
}

impl Replica {
    /// Starts a processor. The first member is static.
    fn start(scenario: &Scenario, member: usize, starts: usize) -> Result<Self> {
        let command = scenario.processor(&format!("processor-{member}-{starts}"))?;
        let instance_id = format!("{}-{member}", scenario.group());
        let command =
            if member == 0 { command.env("GROUP_INSTANCE_ID", &instance_id) } else { command };
        Ok(Self { member, starts, service: command.start()? })
    }

    /// Starts a successor of a processor that has ended.
    fn start_again(&mut self, scenario: &Scenario) -> Result<()> {
        *self = Self::start(scenario, self.member, self.starts + 1)?;
        Ok(())
    }
}

/// Returns a setting of this test, if set.
fn setting<T: FromStr>(name: &str) -> Result<Option<T>> {
    let parse = |text: String| text.parse().ok().with_context(|| format!("{name} is {text:?}"));
    variable(name).map(parse).transpose()
}

#[expect(clippy::print_stderr, reason = "an operator of the test follows the faults")]
fn say(text: &str) {
    eprintln!("chaos: {text}");
}
