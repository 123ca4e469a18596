//! Committed offsets and checkpoints that a processor must refuse: unreadable ones, and those of another topic.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::metrics::get;
use end_to_end::proxy::{ApiKey, Fault};
use end_to_end::service::PATIENCE;
use end_to_end::{Scenario, Service, topic};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::offsets::{GroupOffsets, OffsetCommit};
use kafka_core::TopicPartition;
use kafka_core::member::CommitIdentity;
use kafka_protocol::ResponseError;
use order_ledger::checkpoint::{Capacity, PartitionState};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

const ORDERS: u64 = 100;

/// Pause between two checks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_checkpoint_pauses_only_its_partition() -> Result<()> {
    let scenario = two_partitions(Scenario::open("checkpoint-unreadable").await?);
    publish(&scenario).await?;
    let processor = scenario.processor("processor-1")?.start()?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    processor.drain().await?;
    let committed = stats.partitions[0]["committed_offset"].as_i64().context("find its offset")?;
    commit(&scenario, 0, committed, "oc9:of a later release").await?;
    publish(&scenario).await?;

    let replicas =
        [scenario.processor("processor-2")?.start()?, scenario.processor("processor-3")?.start()?];
    let named = format!("{} 0 unavailable: the checkpoint of", scenario.orders_topic());
    let (stopped, reason) = readiness(&replicas, &named).await?;
    ensure!(reason.contains("has version 9"), "{reason}");
    let stats = scenario.stats_when("the end of partition 1", |stats| {
        stats.partitions[1]["lag"] == 0 && stats.partitions[1]["committed_offset"] != 0
    });
    let stats = stats.await?;
    let unavailable = &stats.unavailable[..];
    let reason = unavailable[0]["reason"].as_str().unwrap_or_default();
    ensure!(unavailable.len() == 1 && unavailable[0]["partition"] == 0, "{stats:#?}");
    ensure!(reason.contains("has version 9"), "{stats:#?}");
    ensure!(!stats.complete && stats.partitions[0]["lag"] != 0, "{stats:#?}");
    let errors = stopped.lines().into_iter().filter(|line| line.contains("\"ERROR\""));
    assert_eq!(errors.count(), 1);
    for replica in replicas {
        replica.drain().await?;
    }

    let accepting = scenario.processor("processor-4")?.env("CHECKPOINT_ON_MISMATCH", "reset");
    let processor = accepting.start()?;
    let stats = scenario.stats_when("the end", |stats| stats.lag == Some(0)).await?;
    assert_eq!((stats.partitions[0]["since"].as_i64(), stats.complete), (Some(committed), false));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_of_another_topic_is_refused_unless_the_settings_allow_a_restart() -> Result<()> {
    let scenario = two_partitions(Scenario::open("checkpoint-mirrored").await?);
    publish(&scenario).await?;
    // A mirrored cluster or a restored backup has the group's offsets with checkpoints of the original.
    let original = PartitionState::empty(Uuid::new_v4(), 20, Capacity::DEFAULT).checkpoint()?;
    for partition in [0, 1] {
        commit(&scenario, partition, original.offset, &original.metadata).await?;
    }
    let replicas = [scenario.processor("processor-1")?.start()?];
    let named = format!("{} 0 1 unavailable: committed offset 20", scenario.orders_topic());
    let (_, reason) = readiness(&replicas, &named).await?;
    ensure!(reason.contains("--reset-offsets --to-current"), "{reason}");
    let stats = scenario.stats().await?;
    assert_eq!((stats.orders, stats.unavailable.len()), (0, 2), "nothing is processed again");
    let [processor] = replicas;
    processor.drain().await?;

    let accepting = scenario.processor("processor-2")?.env("CHECKPOINT_ON_MISMATCH", "reset");
    let processor = accepting.start()?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    assert_eq!((stats.orders, stats.complete, stats.unavailable.len()), (ORDERS, true, 0));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_checkpoint_ends_the_process_if_configured() -> Result<()> {
    let scenario = two_partitions(Scenario::open("checkpoint-fail").await?);
    publish(&scenario).await?;
    commit(&scenario, 1, 20, "oc9:of a later release").await?;
    let failing = scenario.processor("processor")?.env("CHECKPOINT_ON_MISMATCH", "fail");
    let mut processor = failing.start()?;
    processor.expect_exit(1).await?;
    processor.line("CHECKPOINT_ON_MISMATCH=reset discards its numbers").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_of_a_running_group_is_read_from_its_beginning() -> Result<()> {
    let scenario = two_partitions(Scenario::open_behind_proxy("checkpoint-recreated").await?);
    publish(&scenario).await?;
    let processor = scenario.processor("processor")?.start()?;
    scenario.stats_at_end(ORDERS).await?;
    // A commit for the deleted topic is in flight, and arrives after the new topic exists.
    let proxy = scenario.proxy()?;
    proxy.inject(ApiKey::OffsetCommit, Fault::Hold, 0, 1);
    publish(&scenario).await?;
    proxy.hit(ApiKey::OffsetCommit, 1).await;
    let servers = scenario.platform().bootstrap_servers();
    topic::delete(servers, scenario.orders_topic()).await?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = topic::create(servers, scenario.orders_topic(), 2).await {
        ensure!(Instant::now() < deadline, "{error:#}");
        sleep(LOOK_INTERVAL).await;
    }
    proxy.deliver_held().await?;
    publish(&scenario).await?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    assert_eq!((stats.orders, stats.complete, stats.unavailable.len()), (ORDERS, true, 0));
    processor.drain().await
}

fn two_partitions(scenario: Scenario) -> Scenario {
    let scenario = scenario.with("TOPIC_PARTITIONS", "2").with("HTTP_ADDR", "127.0.0.1:0");
    scenario.with("ORDER_COUNT", &ORDERS.to_string()).with("ORDER_RATE", "0")
}

async fn publish(scenario: &Scenario) -> Result<()> {
    let servers = scenario.platform().bootstrap_servers();
    let generator = scenario.generator("generator")?.env("BOOTSTRAP_SERVERS", servers);
    generator.env("HTTP_ADDR", "off").start()?.expect_exit(0).await
}

/// Commits an offset of the topic of orders for the group without members.
async fn commit(scenario: &Scenario, partition: i32, offset: i64, metadata: &str) -> Result<()> {
    let servers = vec![scenario.platform().bootstrap_servers().to_owned()];
    let cluster = Cluster::new(BrokerConfig::new(servers, "tests"));
    let partition = TopicPartition::new(scenario.orders_topic(), partition);
    let commit =
        OffsetCommit { partition, offset, leader_epoch: None, metadata: metadata.to_owned() };
    let nobody = CommitIdentity { member_id: String::new(), generation: -1 };
    let mut offsets = GroupOffsets::new(&cluster, scenario.group());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let committed = offsets.commit(&nobody, None, std::slice::from_ref(&commit)).await;
        // A new cluster has no coordinator at first.
        let is_early = match &committed {
            Ok(results) => results.values().flatten().any(ResponseError::is_retriable),
            Err(error) => error.is_retriable(),
        };
        if !is_early || Instant::now() > deadline {
            let committed = committed?;
            ensure!(committed.values().all(Option::is_none), "{committed:?}");
            break;
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// Waits until a replica names the expected reason for its lack of progress, and returns both.
async fn readiness<'a>(replicas: &'a [Service], expected: &str) -> Result<(&'a Service, String)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut reasons = Vec::new();
        for replica in replicas {
            let (_status, body) = get(replica, "/readyz").await?;
            let body: Value = serde_json::from_str(&body).context("read the body of /readyz")?;
            let reason = body["checks"]["progress"]["reason"].as_str().unwrap_or_default();
            if reason.contains(expected) {
                return Ok((replica, reason.to_owned()));
            }
            reasons.push(reason.to_owned());
        }
        ensure!(Instant::now() < deadline, "{reasons:?}");
        sleep(LOOK_INTERVAL).await;
    }
}
