//! Three real brokers that restart, are killed, and lose leaderships under load: every acknowledged order counts once.
//!
//! The generator runs until a test has done its damage, so that no test depends on the speed of the machine.

mod limits;
mod moves;
mod silence;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use end_to_end::{KafkaCluster, Scenario, Service, Stats, Verdict};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::ALONE;

const ORDER_RATE: u64 = 300;

/// Two for each broker.
const PARTITIONS: u32 = 6;

/// How long readers may stay at a former leader that has kept their connections.
const MOVE_LIMIT: Duration = Duration::from_secs(20);

/// Longer than a fetch waits for orders.
const QUIET: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn orders_count_once_through_a_rolling_restart() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let load = Load::start(&cluster, "rolling").await?;
    for node in cluster.nodes() {
        cluster.stop(node).await?;
        cluster.start(node).await?;
        cluster.in_sync().await?;
        load.goes_on().await.with_context(|| format!("after the restart of broker {node}"))?;
    }
    load.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_count_once_through_kills_of_every_broker() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let load = Load::start(&cluster, "killed").await?;
    for node in cluster.nodes() {
        cluster.kill(node).await?;
        load.goes_on().await.with_context(|| format!("while broker {node} is dead"))?;
        cluster.start(node).await?;
        cluster.in_sync().await?;
    }
    load.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_follow_a_preferred_election_that_closes_no_connection() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let load = Load::start(&cluster, "preferred").await?;
    let topic = load.scenario.orders_topic();
    let topic_id = URL_SAFE_NO_PAD.encode(cluster.topic_id(topic).await?.as_bytes());
    let leaders = cluster.leaders(topic).await?;
    let nodes: BTreeSet<i32> = leaders.values().copied().collect();
    let (former, next) = (nodes.first(), nodes.last());
    let (former, next) = (*former.context("find a leader")?, *next.context("find a leader")?);
    ensure!(former != next, "one broker leads everything: {leaders:?}");
    let replicas: Vec<i32> =
        [next].into_iter().chain(cluster.nodes().filter(|node| *node != next)).collect();
    let everything: BTreeMap<i32, Vec<i32>> =
        leaders.keys().map(|partition| (*partition, replicas.clone())).collect();
    cluster.reassign(topic, &everything).await?;
    ensure!(cluster.leaders(topic).await? == leaders, "the order of replicas moved leaders");

    let requests = ("broker-loggers", former.to_string());
    cluster.set(requests.0, &requests.1, "kafka.request.logger=DEBUG").await?;
    let moved = async {
        let reads = Reads { cluster: &cluster, node: former, topic_id: &topic_id };
        ensure!(reads.within(QUIET).await? > 0, "broker {former} logs no reads of {topic}");
        cluster.elect_preferred().await?;
        let elected = Instant::now();
        let leaders = cluster.leaders(topic).await?;
        ensure!(leaders.values().all(|leader| *leader == next), "no election: {leaders:?}");
        while reads.within(QUIET).await? > 0 {
            let elapsed = elected.elapsed();
            ensure!(elapsed < MOVE_LIMIT, "{elapsed:?} later, {topic} is read at broker {former}");
        }
        load.goes_on().await
    };
    let moved = moved.await;
    cluster.unset(requests.0, &requests.1, "kafka.request.logger").await?;
    moved?;
    load.finish().await
}

/// The processors' requests for a topic, in the request log of a broker.
struct Reads<'c> {
    cluster: &'c KafkaCluster,
    node: i32,
    topic_id: &'c str,
}

impl Reads<'_> {
    async fn within(&self, time: Duration) -> Result<usize> {
        let before = self.count()?;
        sleep(time).await;
        Ok(self.count()? - before)
    }

    fn count(&self) -> Result<usize> {
        let marks = [r#""FETCH""#, r#""clientId":"order-processor""#, self.topic_id];
        let log = self.cluster.log(self.node)?;
        let is_read = |line: &&str| marks.iter().all(|mark| line.contains(mark));
        Ok(log.lines().filter(is_read).count())
    }
}

/// A generator and two processors.
struct Load {
    scenario: Scenario,
    generator: Service,
    processors: [Service; 2],
    partitions: u32,
}

impl Load {
    async fn start(cluster: &KafkaCluster, name: &str) -> Result<Self> {
        let scenario = cluster
            .scenario(name)?
            .with("TOPIC_PARTITIONS", &PARTITIONS.to_string())
            .with("METADATA_MAX_AGE_MS", "1000")
            .with("ORDER_RATE", &ORDER_RATE.to_string());
        let processors = [
            scenario.processor("processor-1")?.start()?,
            scenario.processor("processor-2")?.start()?,
        ];
        let generator = scenario.generator("generator-1")?.start()?;
        let load = Self { scenario, generator, processors, partitions: PARTITIONS };
        load.goes_on().await?;
        cluster.in_sync().await?;
        Ok(load)
    }

    /// Waits until the group has counted the orders of two more seconds, and some of every partition.
    async fn goes_on(&self) -> Result<()> {
        self.counts(2 * ORDER_RATE).await
    }

    /// Waits until the group has counted so many more orders, and some of every partition.
    async fn counts(&self, orders: u64) -> Result<()> {
        let before = self.scenario.stats_when("any numbers", |_| true).await?;
        let (total, counted) = (before.orders + orders, self.orders_by_partition(&before));
        let is_reached = |stats: &Stats| {
            let found = self.orders_by_partition(stats);
            let is_more = |(partition, orders): (&i64, &u64)| counted.get(partition) < Some(orders);
            (stats.orders >= total)
                && (u32::try_from(found.len()) == Ok(self.partitions))
                && found.iter().all(is_more)
        };
        self.scenario.stats_when("more orders of every partition", is_reached).await.map(drop)
    }

    fn orders_by_partition(&self, stats: &Stats) -> BTreeMap<i64, u64> {
        let topic = self.scenario.orders_topic();
        let partitions = stats.partitions.iter().filter(|partition| partition["topic"] == topic);
        let orders = |partition: &Value| {
            Some((partition["partition"].as_i64()?, partition["orders"].as_u64()?))
        };
        partitions.filter_map(orders).collect()
    }

    /// Checks that no processor has been removed from the group.
    fn has_its_members(&self) -> Result<()> {
        for processor in &self.processors {
            let lines = processor.lines();
            let lost = lines.iter().find(|line| line.contains("partitions lost"));
            ensure!(lost.is_none(), "a member was removed from the group: {lost:?}");
        }
        Ok(())
    }

    /// Adds partitions to the topic of orders.
    async fn grow(&mut self, cluster: &KafkaCluster, partitions: u32) -> Result<()> {
        self.partitions = partitions;
        cluster.grow(self.scenario.orders_topic(), partitions).await
    }

    /// Stops the generator, and returns how many orders were acknowledged.
    async fn stop_generator(&mut self) -> Result<u64> {
        self.generator.terminate()?;
        self.generator.expect_exit(0).await?;
        let line = self.generator.line("final statistics").await?;
        let outcome = |name| field(&line, name);
        ensure!((outcome("failed")?, outcome("unknown")?) == (0.into(), 0.into()), "{line}");
        outcome("acknowledged")?.as_u64().context("read the acknowledged orders")
    }

    /// Stops the generator and checks that every acknowledged order counts once.
    async fn finish(mut self) -> Result<()> {
        let acknowledged = self.stop_generator().await?;
        let stats = self.scenario.stats_at_end(acknowledged).await?;
        let verdict = self.scenario.verdict(Simulation::OFF).await?;
        let has_grown = self.partitions > PARTITIONS;
        // Orders from before the growth are not where their keys would be placed later.
        let misplaced = if has_grown { 0 } else { verdict.misplaced };
        let verdict = Verdict { misplaced, ..verdict };
        verdict.check(&stats)?;
        ensure!((stats.orders, stats.dead_letters) == (acknowledged, 0), "{verdict:#?}");
        for processor in self.processors {
            processor.drain().await?;
        }
        Ok(())
    }
}
