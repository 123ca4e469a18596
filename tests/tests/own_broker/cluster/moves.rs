//! Replicas, leaders and coordinators that move, topics that grow and topics that are created again.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use end_to_end::outsiders::TOPICS;
use end_to_end::{KafkaCluster, Stats};
use kafka_core::NodeId;

use super::Load;
use crate::ALONE;

/// The topic of committed offsets: the leader of a group's partition is its coordinator.
const OFFSETS_TOPIC: &str = "__consumer_offsets";

#[tokio::test(flavor = "multi_thread")]
async fn orders_count_once_while_every_leader_loses_its_replica() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let load = Load::start(&cluster, "reassigned").await?;
    let topic = load.scenario.orders_topic();
    let leaders = cluster.leaders(topic).await?;
    let others = |leader: &NodeId| cluster.nodes().filter(|node| node != leader).collect();
    let fewer = leaders.iter().map(|(partition, leader)| (*partition, others(leader))).collect();
    cluster.reassign(topic, &fewer).await?;
    let moved = cluster.leaders(topic).await?;
    let stayed = leaders.iter().find(|(partition, leader)| moved.get(partition) == Some(leader));
    ensure!(stayed.is_none(), "{leaders:?} became {moved:?}");
    load.goes_on().await.context("with two replicas")?;

    let all = leaders.keys().map(|partition| (*partition, cluster.nodes().collect())).collect();
    cluster.reassign(topic, &all).await?;
    cluster.in_sync().await?;
    load.goes_on().await.context("with three replicas")?;
    load.has_its_members()?;
    load.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_follow_a_coordinator_that_moves() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let load = Load::start(&cluster, "coordinator").await?;
    let group = load.scenario.group();
    for _ in cluster.nodes() {
        let former = cluster.coordinator(group).await?;
        let mut nodes: Vec<NodeId> = cluster.nodes().collect();
        nodes.rotate_left(usize::try_from(former)? % 3);
        let offsets = cluster.leaders(OFFSETS_TOPIC).await?;
        let replicas: BTreeMap<i32, Vec<NodeId>> =
            offsets.keys().map(|partition| (*partition, nodes.clone())).collect();
        cluster.reassign(OFFSETS_TOPIC, &replicas).await?;
        cluster.elect_preferred().await?;
        let coordinator = cluster.coordinator(group).await?;
        ensure!(Some(&coordinator) == nodes.first(), "{coordinator} coordinates after {former}");
        load.goes_on().await.with_context(|| format!("with {coordinator} after {former}"))?;
    }
    load.has_its_members()?;
    load.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn added_partitions_of_every_broker_are_read() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let mut load = Load::start(&cluster, "grown").await?;
    load.grow(&cluster, 9).await?;
    load.goes_on().await?;
    load.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_created_again_starts_over() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let mut load = Load::start(&cluster, "again").await?;
    load.stop_generator().await?;
    let topic = load.scenario.orders_topic();
    let former = cluster.topic_id(topic).await?;
    cluster.tool(TOPICS, &["--delete", "--topic", topic]).await?;
    load.generator = load.scenario.generator("generator-2")?.start()?;
    load.generator.line("acknowledged").await?;
    let topic = load.scenario.orders_topic();
    ensure!(cluster.topic_id(topic).await? != former, "the topic was not created again");
    let is_known = |stats: &Stats| stats.unavailable.is_empty() && stats.lag.is_some();
    load.scenario.stats_when("all partitions of the new topic", is_known).await?;
    load.goes_on().await?;
    load.finish().await
}
