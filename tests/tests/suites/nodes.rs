//! The embedded broker with three nodes: the numbers are exact while roles move and nodes stop.

use anyhow::{Result, ensure};
use end_to_end::Scenario;
use end_to_end::verdict::Simulation;

const ORDERS: u64 = 40_000;
const SIMULATION: Simulation = Simulation { rate: 0.0, retries_max: 3 };

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_exact_while_leaders_and_coordinators_move_and_nodes_stop() -> Result<()> {
    let scenario = Scenario::open_nodes("nodes", 3)
        .await?
        .with("TOPIC_PARTITIONS", "6")
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "4000");
    let (broker, topic) = (scenario.embedded_broker()?, scenario.orders_topic());
    let processors = ["processor-1", "processor-2"].map(|name| scenario.processor(name)?.start());
    let mut generator = scenario.generator("generator")?.start()?;
    let group = scenario.group();
    for (turn, node) in [(1, 2), (2, 3), (3, 1)] {
        let reached = turn * ORDERS / 10;
        scenario.stats_when("some orders", |stats| stats.orders > reached).await?;
        for partition in 0..6 {
            broker.move_leader(topic, partition, node)?;
        }
        broker.move_coordinator(group, node)?;
    }
    for node in 1..=3 {
        let reached = (3 + u64::try_from(node)?) * ORDERS / 10;
        scenario.stats_when("more orders", |stats| stats.orders > reached).await?;
        broker.stop_node(node).await?;
        scenario.stats_when("orders on two nodes", |stats| stats.orders > reached + 1000).await?;
        broker.start_node(node).await?;
    }
    generator.expect_exit(0).await?;
    let (stats, _) = scenario.check_exact(ORDERS, SIMULATION).await?;
    ensure!(stats.orders == ORDERS, "{stats:?}");
    for processor in processors {
        processor?.drain().await?;
    }
    Ok(())
}
