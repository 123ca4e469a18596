//! Brokers that stand still with open connections: the others go on, and the group loses no member.

use anyhow::{Context, Result};
use end_to_end::KafkaCluster;

use super::{Load, ORDER_RATE};
use crate::ALONE;

/// The orders after which a silent broker answers again: those of more than a session timeout.
const ORDERS_IN_SILENCE: u64 = 16 * ORDER_RATE;

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_holds_up_no_other_and_costs_no_member() -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = KafkaCluster::whole().await?;
    let load = Load::start(&cluster, "silent").await?;
    let coordinator = cluster.coordinator(load.scenario.group()).await?;
    let other = cluster.nodes().find(|node| *node != coordinator).context("find another broker")?;
    for (node, role) in [(other, "a broker"), (coordinator, "the coordinator")] {
        cluster.pause(node).await?;
        let more = load.counts(ORDERS_IN_SILENCE).await;
        cluster.resume(node).await?;
        more.with_context(|| format!("while {role} is silent"))?;
        cluster.in_sync().await?;
        load.goes_on().await.with_context(|| format!("after the silence of {role}"))?;
    }
    load.has_its_members()?;
    load.finish().await
}
