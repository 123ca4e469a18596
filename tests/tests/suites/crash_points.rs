//! A processor killed between any two of the steps process, dead letter, commit: it loses nothing and counts nothing twice.
//!
//! The fault proxy holds the request or the response of that step while the test kills the processor. A held request may
//! reach the broker later, after another processor has taken over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::proxy::{ApiKey, Fault};
use end_to_end::service::PATIENCE;
use end_to_end::verdict::Simulation;
use end_to_end::webhook::{Answer, PostedOrder};
use end_to_end::{Scenario, Service, Stats, Webhook};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::offsets::{CommittedOffset, GroupOffsets};
use kafka_core::TopicPartition;
use order_ledger::checkpoint::{Capacity, PartitionState, RecordState};
use tokio::time::{Instant, sleep};

const ORDERS: u64 = 3_000;
const SIMULATION: Simulation = Simulation { rate: 0.1, retries_max: 3 };

/// A delay beyond every timeout of the processor.
const NEVER: Duration = Duration::from_hours(1);

/// Pause between two reads of the commits.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// When a held request reaches the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Never,
    AfterTheKill,
    AfterTheTakeover,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_a_dead_letter_is_written() -> Result<()> {
    killed_at("letter-unwritten", ApiKey::Produce, Fault::Hold, Delivery::Never).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_dead_letter_is_in_flight() -> Result<()> {
    killed_at("letter-late", ApiKey::Produce, Fault::Hold, Delivery::AfterTheTakeover).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_acknowledgement_of_a_dead_letter() -> Result<()> {
    let fault = Fault::DelayAnswer(NEVER);
    killed_at("letter-unknown", ApiKey::Produce, fault, Delivery::Never).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_a_commit() -> Result<()> {
    killed_at("commit-unwritten", ApiKey::OffsetCommit, Fault::Hold, Delivery::Never).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_commit_is_in_flight() -> Result<()> {
    killed_at("commit-late", ApiKey::OffsetCommit, Fault::Hold, Delivery::AfterTheKill).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_commit_is_overtaken_by_another_member() -> Result<()> {
    killed_at("commit-fenced", ApiKey::OffsetCommit, Fault::Hold, Delivery::AfterTheTakeover).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_response_to_a_commit() -> Result<()> {
    let fault = Fault::DelayAnswer(NEVER);
    killed_at("commit-unknown", ApiKey::OffsetCommit, fault, Delivery::Never).await
}

async fn killed_at(name: &str, api: ApiKey, fault: Fault, delivery: Delivery) -> Result<()> {
    let scenario = Scenario::open_behind_proxy(name)
        .await?
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "1000")
        .with("SESSION_TIMEOUT_MS", "6000")
        .with("COMMIT_INTERVAL_MS", "100")
        .with("ERROR_SIMULATION_RATE", &SIMULATION.rate.to_string())
        .with("RETRY_BACKOFF_SECONDS", "0.1");
    let proxy = scenario.proxy()?;
    // The proxy must hold only the processor's requests.
    let broker = scenario.platform().bootstrap_servers();
    let mut generator =
        scenario.generator("generator")?.env("BOOTSTRAP_SERVERS", broker).start()?;
    let mut killed = scenario.processor("processor-killed")?.start()?;
    scenario.stats_when("a sixth of the orders", |stats| stats.orders > ORDERS / 6).await?;
    proxy.inject(api, fault, 0, 1);
    proxy.hit(api, 1).await;
    scenario.stats_when("another look, so that much is at stake", |_| true).await?;
    killed.kill().await?;

    if delivery == Delivery::AfterTheKill {
        ensure!(proxy.deliver_held().await? == 1, "nothing was held");
    }
    let heir = scenario.processor("processor-heir")?.start()?;
    heir.line("partitions assigned").await?;
    if delivery == Delivery::AfterTheTakeover {
        ensure!(proxy.deliver_held().await? == 1, "nothing was held");
    }
    generator.expect_exit(0).await?;
    let (stats, verdict) = scenario.check_exact(ORDERS, SIMULATION).await?;
    assert_eq!(stats.orders + stats.dead_letters, ORDERS);
    assert_eq!(verdict.dead_letters, verdict.expected_dead, "letters by identity: {verdict:#?}");
    // The next processor repeats dead letters whose acknowledgement the killed one did not get.
    let has_landed = (fault != Fault::Hold) || (delivery == Delivery::AfterTheTakeover);
    if (api == ApiKey::Produce) && has_landed {
        ensure!(verdict.dead_letter_repeats > 0, "no letter was there before: {verdict:#?}");
    }
    heir.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_processor_does_not_retry_an_order_with_a_dead_letter() -> Result<()> {
    const ORDERS: u64 = 20;
    let webhook = Webhook::start(Answer::Status(422))?;
    let scenario = refused_orders("letter-is-final", &webhook, ORDERS).await?;
    // The dead letters are in the topic, but their acknowledgement is lost.
    scenario.proxy()?.inject(ApiKey::Produce, Fault::DelayAnswer(NEVER), 0, u32::MAX);
    let mut killed = scenario.processor("processor-killed")?.start()?;
    killed.line("partitions assigned").await?;
    let written = scenario.letters(1).await?;
    killed.kill().await?;

    webhook.answer(|_| Answer::DONE);
    let heir = heir(&scenario)?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    assert_eq!(stats.orders + stats.dead_letters, ORDERS);
    let done = webhook.done().len();
    assert_eq!(u64::try_from(done)?, stats.orders);
    assert!(done + written.len() <= usize::try_from(ORDERS)?, "a letter is the last word");
    each_counts_once_after_a_replay(&scenario, &webhook, stats.dead_letters, ORDERS).await?;
    heir.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_processor_writes_the_dead_letter_of_a_doomed_order() -> Result<()> {
    let webhook = Webhook::start(Answer::Status(422))?;
    let scenario = refused_orders("doomed", &webhook, 1).await?;
    let proxy = scenario.proxy()?;
    proxy.inject(ApiKey::Produce, Fault::Hold, 0, u32::MAX);
    let mut killed = scenario.processor("processor-killed")?.start()?;
    webhook.calls_when(|calls| !calls.is_empty()).await;
    until_doomed(&scenario, &webhook.calls()[0].order).await?;
    killed.kill().await?;

    webhook.answer(|_| Answer::DONE);
    let heir = heir(&scenario)?;
    let letters = scenario.letters(1).await?;
    assert_eq!(letters[0].header_text("dlq.error.type").as_deref(), Some("rejected"));
    let stats = scenario.stats_at_end(1).await?;
    assert_eq!((stats.orders, stats.dead_letters), (0, 1));
    assert_eq!(webhook.calls().len(), 1, "it is never posted again");
    each_counts_once_after_a_replay(&scenario, &webhook, 1, 1).await?;
    heir.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_processor_retries_an_order_that_is_not_doomed() -> Result<()> {
    const ORDERS: u64 = 20;
    let webhook = Webhook::start(Answer::Status(422))?;
    let scenario = refused_orders("not-doomed", &webhook, ORDERS).await?;
    let proxy = scenario.proxy()?;
    proxy.inject(ApiKey::OffsetCommit, Fault::Hold, 0, u32::MAX);
    let mut killed = scenario.processor("processor-killed")?.start()?;
    webhook.calls_when(|calls| calls.len() >= 20).await;
    proxy.hit(ApiKey::OffsetCommit, 1).await;
    killed.kill().await?;

    webhook.answer(|_| Answer::DONE);
    let heir = heir(&scenario)?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS, 0));
    assert!(scenario.letters(0).await?.is_empty(), "no letter is written before its commit");
    assert!(webhook.done().values().all(|times| *times == 1), "{:?}", webhook.done());
    heir.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_revokes_no_doom_with_a_dead_letter() -> Result<()> {
    let webhook = Webhook::start(Answer::DONE)?;
    let scenario = refused_orders("commit-late-in-generation", &webhook, 1).await?;
    let proxy = scenario.proxy()?;
    let mut killed = scenario.processor("processor-killed")?.start()?;
    scenario.stats_at_end(1).await?;
    proxy.inject(ApiKey::OffsetCommit, Fault::Hold, 0, 1);
    publish(&scenario, 1).await?;
    proxy.hit(ApiKey::OffsetCommit, 1).await;
    // The commit in flight does not have this order.
    webhook.answer(|_| Answer::Status(422));
    publish(&scenario, 1).await?;
    webhook.calls_when(|calls| calls.len() >= 3).await;
    let refused = webhook.calls()[2].order.clone();
    until_doomed(&scenario, &refused).await?;
    ensure!(proxy.deliver_held().await? == 1, "nothing was held");
    killed.kill().await?;

    webhook.answer(|_| Answer::DONE);
    let heir = heir(&scenario)?;
    let stats = scenario.stats_at_end(3).await?;
    assert_eq!((stats.orders, stats.dead_letters), (3, 0), "what was committed last counts");
    assert!(scenario.letters(0).await?.is_empty(), "the doom is not there for good");
    heir.drain().await
}

/// A scenario behind a proxy, with orders in its topic and a webhook.
async fn refused_orders(name: &str, webhook: &Webhook, orders: u64) -> Result<Scenario> {
    let scenario = Scenario::open_behind_proxy(name)
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("TOPIC_PARTITIONS", "1")
        .with("SESSION_TIMEOUT_MS", "6000")
        .with("COMMIT_INTERVAL_MS", "100");
    publish(&scenario, orders).await?;
    Ok(scenario)
}

/// Writes further orders.
async fn publish(scenario: &Scenario, orders: u64) -> Result<()> {
    let broker = scenario.platform().bootstrap_servers();
    let generator = scenario.generator("generator")?.env("BOOTSTRAP_SERVERS", broker);
    let generator = generator.env("ORDER_COUNT", &orders.to_string()).env("ORDER_RATE", "0");
    generator.start()?.expect_exit(0).await
}

/// Waits until the group's commits mark an order as doomed.
async fn until_doomed(scenario: &Scenario, order: &PostedOrder) -> Result<()> {
    let servers = vec![scenario.platform().bootstrap_servers().to_owned()];
    let cluster = Cluster::new(BrokerConfig::new(servers, "tests"));
    let topic = cluster.metadata(&[&order.topic]).await?;
    let topic_id = topic.get(&order.topic).context("find the topic of orders")?.topic_id;
    let mut offsets = GroupOffsets::new(&cluster, scenario.group());
    let tp = TopicPartition::new(order.topic.as_str(), order.partition);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let committed = offsets.committed(std::slice::from_ref(&tp)).await?;
        if let Some(Ok(Some(CommittedOffset { offset, metadata, .. }))) = committed.get(&tp) {
            let restored = PartitionState::restore(metadata, topic_id, *offset, Capacity::DEFAULT)?;
            if let RecordState::Doomed { .. } = restored.state.record_state(order.offset) {
                return Ok(());
            }
        }
        ensure!(Instant::now() < deadline, "the order was not doomed");
        sleep(LOOK_INTERVAL).await;
    }
}

/// Starts a processor without the proxy.
fn heir(scenario: &Scenario) -> Result<Service> {
    let broker = scenario.platform().bootstrap_servers();
    scenario.processor("processor-heir")?.env("BOOTSTRAP_SERVERS", broker).start()
}

/// Replays all `letters` dead letters, and checks that each order counts once and that the webhook has accepted it once.
async fn each_counts_once_after_a_replay(
    scenario: &Scenario,
    webhook: &Webhook,
    letters: u64,
    orders: u64,
) -> Result<()> {
    let broker = scenario.platform().bootstrap_servers();
    let replay = scenario.console("dlq")?.env("BOOTSTRAP_SERVERS", broker);
    replay.args(["dlq", "replay", "--all"]).output().await?;
    let replayed = |stats: &Stats| (stats.lag == Some(0)) && (stats.replayed >= letters);
    let stats = scenario.stats_when("the end of the replays", replayed).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.replayed), (orders, letters, letters));
    let done = webhook.done();
    assert_eq!(u64::try_from(done.len())?, orders);
    assert!(done.values().all(|times| *times == 1), "{done:?}");
    Ok(())
}
