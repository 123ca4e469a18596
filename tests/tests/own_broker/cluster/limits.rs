//! Brokers that refuse orders for want of replicas in sync, and brokers that throttle.

use anyhow::{Result, ensure};
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use end_to_end::{KafkaCluster, Scenario};

use super::{Load, PARTITIONS};
use crate::ALONE;

/// The bytes per second that a quota allows at each broker.
const QUOTA: &str = "50000";

#[tokio::test(flavor = "multi_thread")]
async fn orders_wait_while_too_few_replicas_are_in_sync() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let load = Load::start(&cluster, "insync").await?;
    let topic = load.scenario.orders_topic();
    cluster.set("topics", topic, "min.insync.replicas=3").await?;
    cluster.stop(1).await?;
    load.generator.line("NotEnoughReplicas").await?;
    cluster.start(1).await?;
    cluster.in_sync().await?;
    load.goes_on().await?;
    load.has_its_members()?;
    load.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_counts_once_under_a_consumers_quota() -> Result<()> {
    const ORDERS: u64 = 30_000;
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let scenario = throttled(&cluster, "consumer-quota", ORDERS)?;
    publish(&scenario, ORDERS).await?;
    let quota = ("order-processor", "consumer_byte_rate");
    cluster.set("clients", quota.0, &format!("{}={QUOTA}", quota.1)).await?;
    let counted = count(&scenario, ORDERS, Simulation::OFF).await;
    cluster.unset("clients", quota.0, quota.1).await?;
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_and_every_dead_letter_is_written_once_under_producers_quotas() -> Result<()> {
    const ORDERS: u64 = 15_000;
    const SIMULATION: Simulation = Simulation { rate: 0.1, retries_max: 0 };
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let scenario = throttled(&cluster, "producer-quota", ORDERS)?
        .with("ERROR_SIMULATION_RATE", &SIMULATION.rate.to_string())
        .with("MAX_RETRIES", &SIMULATION.retries_max.to_string());
    let (clients, quota) = (["order-generator", "order-processor"], "producer_byte_rate");
    for client in clients {
        cluster.set("clients", client, &format!("{quota}={QUOTA}")).await?;
    }
    let written = async {
        publish(&scenario, ORDERS).await?;
        count(&scenario, ORDERS, SIMULATION).await
    };
    let written = written.await;
    for client in clients {
        cluster.unset("clients", client, quota).await?;
    }
    written
}

/// Returns a scenario whose generator publishes at an unlimited rate, for large batches.
fn throttled(cluster: &KafkaCluster, name: &str, orders: u64) -> Result<Scenario> {
    Ok(cluster
        .scenario(name)?
        .with("TOPIC_PARTITIONS", &PARTITIONS.to_string())
        .with("ORDER_RATE", "0")
        .with("ORDER_COUNT", &orders.to_string()))
}

async fn publish(scenario: &Scenario, orders: u64) -> Result<()> {
    let mut generator = scenario.generator("generator")?.start()?;
    let line = generator.line("final statistics").await?;
    ensure!(field(&line, "acknowledged")?.as_u64() == Some(orders), "{line}");
    generator.expect_exit(0).await
}

/// Lets a processor count the orders, and checks that each counts once and each dead letter is there once. A second one might
/// take partitions over whose letters are still on their way, and would write them again.
async fn count(scenario: &Scenario, orders: u64, simulation: Simulation) -> Result<()> {
    let processor = scenario.processor("processor")?.start()?;
    let (stats, verdict) = scenario.check_exact(orders, simulation).await?;
    ensure!(stats.accounted() == orders, "{stats:#?}");
    ensure!(verdict.dead_letter_repeats == 0, "{verdict:#?}");
    processor.drain().await
}
