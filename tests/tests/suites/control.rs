//! Pause and resume through the control topic: every instance follows, a paused group counts nothing, and loses nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::service::{PATIENCE, field};
use end_to_end::verdict::Simulation;
use end_to_end::webhook::Answer;
use end_to_end::{Scenario, Service, Stats, Webhook, topic};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::groups::{GroupDescription, describe_group};
use serde_json::Value;
use tokio::time::Instant;

const ORDERS: u64 = 6_000;

#[tokio::test(flavor = "multi_thread")]
async fn all_services_pause_stay_paused_through_a_kill_and_resume_without_a_loss() -> Result<()> {
    let scenario = Scenario::open("pause-and-resume")
        .await?
        .with("SESSION_TIMEOUT_MS", "6000")
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "300");
    let mut first = scenario.processor("processor-1")?.start()?;
    let second = scenario.processor("processor-2")?.start()?;
    second.line("partitions assigned").await?;
    let mut generator = scenario.generator("generator")?.start()?;
    scenario.stats_when("the first orders", |stats| stats.orders > 200).await?;

    control(&scenario, &["pause", "processor"]).await?;
    scenario.stats_when("orders that wait", |stats| stats.lag > Some(200)).await?;
    let report = control(&scenario, &["pause", "all"]).await?;
    let expected = [(&generator, "generator", 1), (&first, "processor", 2)];
    for (service, role, count) in expected {
        assert_eq!(report[role]["desired"], "paused", "{report}");
        assert!(report[role]["by"].as_str().is_some_and(|by| by.starts_with("kim@")), "{report}");
        assert_eq!(instances(&report, role)?, vec!["paused"; count], "{report}");
        let line = service.line("paused by kim@").await?;
        assert!(!line.contains("starting"), "{line}");
    }
    let before = scenario.stats().await?;
    ensure!(before.lag > Some(0), "there is nothing that could be done: {before:?}");

    // One replica is killed, the other one drains; a third takes over their partitions.
    first.kill().await?;
    second.drain().await?;
    let third = scenario.processor("processor-3")?.start()?;
    third.line("starting paused: paused by kim@").await?;
    all_assigned(&scenario, &third).await?;
    control(&scenario, &["pause", "processor"]).await?;
    let after = scenario.stats().await?;
    assert_eq!((after.orders, after.lag), (before.orders, before.lag));
    assert!(!third.lines().iter().any(|line| line.contains("processed")));

    let report = control(&scenario, &["resume", "all"]).await?;
    assert_eq!(report["generator"]["desired"], "running", "{report}");
    third.line("resumed by kim@").await?;
    generator.expect_exit(0).await?;
    let (stats, _) = scenario.check_exact(ORDERS, Simulation::OFF).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS, 0));

    third.drain().await?;
    let report = control_json(&scenario, &[]).await?;
    assert!(instances(&report, "generator")?.is_empty(), "it has said goodbye: {report}");
    let alive = |instance: &&Value| instance["alive"] == true;
    let left = report["processor"]["instances"].as_array().context("read the instances")?;
    assert_eq!(left.iter().filter(alive).count(), 0, "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_in_flight_at_a_pause_ends_and_counts_once() -> Result<()> {
    const ORDERS: u64 = 40;
    let webhook = Webhook::start(Answer::Late(Duration::from_secs(1)))?;
    let scenario = Scenario::open("pause-within-an-attempt")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("HANDLER_CONCURRENCY", "1")
        .with("TOPIC_PARTITIONS", "1")
        .with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let processor = scenario.processor("processor")?.start()?;
    webhook.calls_when(|calls| !calls.is_empty()).await;

    control(&scenario, &["pause", "processor"]).await?;
    let stats = scenario.stats().await?;
    let calls = webhook.calls().len();
    assert_eq!(usize::try_from(stats.orders)?, calls, "what was begun has ended");
    ensure!(stats.orders < ORDERS, "all was done before the pause");

    webhook.answer(|_| Answer::DONE);
    control(&scenario, &["resume", "processor"]).await?;
    let (stats, _) = scenario.check_exact(ORDERS, Simulation::OFF).await?;
    assert_eq!((stats.orders, stats.retries), (ORDERS, 0));
    let done = webhook.done();
    assert_eq!(done.len(), usize::try_from(ORDERS)?);
    assert!(done.values().all(|times| *times == 1), "{done:?}");
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_does_not_follow_is_named_and_a_paused_instance_is_ready() -> Result<()> {
    let scenario = Scenario::open("laggard")
        .await?
        .with("SESSION_TIMEOUT_MS", "30000")
        .with("HTTP_ADDR", "127.0.0.1:0");
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    let report = control(&scenario, &["resume", "all"]).await?;
    let name = report["processor"]["instances"][0]["name"].as_str().context("read its name")?;

    processor.freeze()?;
    let pause = ["control", "pause", "--by", "kim", "--wait", "1", "--json"];
    let failed = scenario.console("pause")?.args(pause).output().await;
    let failed = format!("{:#}", failed.err().context("it has not followed")?);
    assert!(failed.contains(&format!("not paused after 1 s: processor {name}")), "{failed}");
    assert!(failed.contains("exit status: 1"), "{failed}");

    processor.thaw()?;
    control(&scenario, &["pause", "all"]).await?;
    let serving = processor.line("serving /healthz").await?;
    let address = field(&serving, "http_addr")?;
    let address = address.as_str().context("read the address")?;
    let ready = async || {
        let healthcheck = scenario.processor("healthcheck")?.env("HTTP_ADDR", address);
        healthcheck.args(["healthcheck"]).output().await
    };
    // The leaders of a new topic may not know it yet.
    let give_up = Instant::now() + PATIENCE;
    while let Err(not_ready) = ready().await {
        ensure!(Instant::now() < give_up, "{not_ready:#}");
    }
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_run_without_the_control_topic_and_follow_a_new_one() -> Result<()> {
    const ORDERS: u64 = 200;
    let scenario =
        Scenario::open("control-topic-gone").await?.with("ORDER_COUNT", &ORDERS.to_string());
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    control(&scenario, &["pause", "processor"]).await?;
    publish(&scenario).await?;
    assert_eq!(scenario.stats().await?.orders, 0);

    let servers = scenario.platform().bootstrap_servers();
    topic::delete(servers, &scenario.control_topic()).await?;
    processor.line("there is no control topic").await?;
    scenario.check_exact(ORDERS, Simulation::OFF).await?;

    let lines = processor.line_count();
    control(&scenario, &["pause", "processor"]).await?;
    processor.line_after(lines, "paused by kim@").await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_survives_a_restart_of_the_broker() -> Result<()> {
    const ORDERS: u64 = 200;
    let mut scenario = Scenario::open_restartable("control-restart")
        .await?
        .with("ORDER_RATE", "100")
        .with("ORDER_COUNT", &ORDERS.to_string());
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    control(&scenario, &["pause", "all"]).await?;
    scenario.restart_broker().await?;
    let generator = scenario.generator("generator")?.start()?;
    generator.line("starting paused").await?;
    control(&scenario, &["resume", "generator"]).await?;
    scenario.stats_when("orders that wait", |stats| stats.lag > Some(0)).await?;
    let stats: Stats = scenario.stats().await?;
    assert_eq!(stats.orders, 0);
    let is_command = |line: &String| line.contains("paused by") || line.contains("resumed by");
    assert_eq!(processor.lines().iter().filter(|line| is_command(line)).count(), 1);

    control(&scenario, &["resume", "all"]).await?;
    scenario.check_exact(ORDERS, Simulation::OFF).await?;
    drop(generator);
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_describes_which_member_has_which_partitions() -> Result<()> {
    let scenario = Scenario::open("group-described").await?;
    let [first, second] = ["one", "two"].map(|name| {
        let instance_id = format!("{}-{name}", scenario.group());
        scenario.processor(name)?.env("GROUP_INSTANCE_ID", &instance_id).start()
    });
    let (first, second) = (first?, second?);
    second.line("partitions assigned").await?;
    let group = described_when(&scenario, |group| {
        let mut held = group.members.iter().filter_map(|member| member.partitions.as_ref());
        group.members.len() == 2 && held.all(|partitions| partitions.len() == 3)
    })
    .await?;
    assert_eq!(group.assignor.as_deref(), Some("cooperative-sticky"));
    let port = |address: &str| address.rsplit(':').next().map(str::to_owned);
    assert_eq!(port(&group.coordinator), port(scenario.platform().bootstrap_servers()));
    let mut held = Vec::new();
    for member in &group.members {
        assert_eq!(
            (member.client_id.as_str(), member.host.as_str()),
            ("order-processor", "/127.0.0.1")
        );
        held.extend(member.partitions.clone().unwrap_or_default());
    }
    held.sort();
    held.dedup();
    assert_eq!(held.len(), 6, "three partitions of two topics: {held:?}");
    check_by_kafkas_tool(&scenario, &group).await?;

    first.drain().await?;
    second.drain().await?;
    let cluster = Cluster::new(BrokerConfig::new(
        vec![scenario.platform().bootstrap_servers().to_owned()],
        "test",
    ));
    let unknown = describe_group(&cluster, "nobody-has-this-group").await?;
    assert_eq!((unknown.state.as_str(), unknown.members.len()), ("Dead", 0));
    Ok(())
}

/// Checks on a real Kafka that Kafka's own tool lists the same members.
#[cfg(feature = "outsiders")]
async fn check_by_kafkas_tool(scenario: &Scenario, group: &GroupDescription) -> Result<()> {
    use end_to_end::outsiders::{CONSUMER_GROUPS, kafka_tool};

    let command = kafka_tool(scenario, CONSUMER_GROUPS).args(["--group", scenario.group()]);
    let report = command.clone().args(["--describe", "--members"]).output().await?;
    for member in &group.members {
        let row = report.lines().find(|line| line.contains(&member.member_id));
        let row = row.with_context(|| format!("{} is not in:\n{report}", member.member_id))?;
        let partitions = member.partitions.as_ref().map_or(0, Vec::len).to_string();
        let instance_id = member.instance_id.as_deref().context("it is a static member")?;
        for expected in [&member.host, &member.client_id, &partitions, instance_id] {
            let mut columns = row.split_whitespace();
            assert!(columns.any(|column| column == expected), "{expected} is not in {row}");
        }
    }
    let report = command.args(["--describe", "--state"]).output().await?;
    let (host, _port) = group.coordinator.rsplit_once(':').context("read the coordinator")?;
    for expected in [&group.state, host, "cooperative-sticky"] {
        assert!(report.contains(expected), "{expected} is not in:\n{report}");
    }
    Ok(())
}

#[cfg(not(feature = "outsiders"))]
async fn check_by_kafkas_tool(_: &Scenario, _: &GroupDescription) -> Result<()> {
    std::future::ready(Ok(())).await
}

/// Describes the scenario's group until it is stable and meets the condition.
async fn described_when(
    scenario: &Scenario,
    is_reached: impl Fn(&GroupDescription) -> bool + Send + Sync,
) -> Result<GroupDescription> {
    let servers = vec![scenario.platform().bootstrap_servers().to_owned()];
    let cluster = Cluster::new(BrokerConfig::new(servers, "test"));
    let described = async {
        loop {
            let group = describe_group(&cluster, scenario.group()).await?;
            if group.state == "Stable" && is_reached(&group) {
                return Ok(group);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, described).await.context("describe it")?
}

/// Publishes all orders with a generator that ignores pauses.
async fn publish(scenario: &Scenario) -> Result<()> {
    let generator = scenario.generator("publisher")?.env("ORDER_RATE", "0");
    generator.start()?.expect_exit(0).await
}

/// Waits until a processor that is alone in its group reads all partitions of orders.
async fn all_assigned(scenario: &Scenario, processor: &Service) -> Result<()> {
    let topic = scenario.orders_topic();
    for partition in 0..3 {
        let line = format!("\"reading\",\"topic\":\"{topic}\",\"partition\":{partition},");
        processor.line(&line).await?;
    }
    Ok(())
}

/// Gives a command in kim's name, waits until every instance has followed, and returns the report.
async fn control(scenario: &Scenario, command: &[&str]) -> Result<Value> {
    let command = [command, &["--by", "kim", "--wait", "60"]].concat();
    control_json(scenario, &command).await
}

/// Runs `order-console control --json` without the proxy's faults.
async fn control_json(scenario: &Scenario, arguments: &[&str]) -> Result<Value> {
    let command = scenario
        .console("control")?
        .env("BOOTSTRAP_SERVERS", scenario.platform().bootstrap_servers())
        .args(["control", "--json"])
        .args(arguments.iter().copied());
    let report = command.output().await?;
    serde_json::from_str(&report).with_context(|| format!("read the report: {report}"))
}

/// Returns the states that the live instances of a role report.
fn instances<'a>(report: &'a Value, role: &str) -> Result<Vec<&'a str>> {
    let instances = report[role]["instances"].as_array().context("read the instances")?;
    let alive = instances.iter().filter(|instance| instance["alive"] == true);
    alive.map(|instance| instance["state"].as_str().context("read a state")).collect()
}
