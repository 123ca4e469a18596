//! The control topic: the reads of its participants, and the confirmation of a command by all of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use control_topic::record::{Role, RunState};
use control_topic::{Follower, Instruction, Participant};
use end_to_end::proxy::{ApiKey, Fault};
use end_to_end::service::PATIENCE;
use end_to_end::{Scenario, topic};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::retry::until_ok;
use kafka_client::topics::{NewTopic, ensure_topics};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Pause between two reads of a topic.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The clock: a participant reports every five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn the_reads_of_a_participant_do_not_grow_with_the_participants() -> Result<()> {
    const OTHERS: usize = 30;
    const REPORTS: u64 = 3;
    const FETCHES_PER_REPORT: u64 = 2;
    let scenario = Scenario::open_behind_proxy("many-participants").await?;
    let proxy = scenario.proxy()?;
    let one = running(&proxy.address(), &scenario).await?;
    let servers = scenario.platform().bootstrap_servers();
    let mut others = Vec::new();
    for _other in 0..OTHERS {
        others.push(running(servers, &scenario).await?);
    }
    let follower = Follower::start(cluster(servers), scenario.control_topic());
    let all = OTHERS + 1;
    follower
        .view()
        .wait_for(|view| view.instances(Role::Generator).count() == all)
        .await
        .context("see all participants")?;

    let before = proxy.requests(ApiKey::Fetch);
    proxy.more_requests(ApiKey::Produce, REPORTS).await;
    let fetches = proxy.requests(ApiKey::Fetch) - before;
    let reports = REPORTS * u64::try_from(OTHERS)?;
    ensure!(
        fetches <= REPORTS * FETCHES_PER_REPORT,
        "{fetches} fetches while the others wrote about {reports} reports"
    );
    one.end().await;
    Ok(())
}

/// The generator's first produce requests are lost, so no participant can see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_generator_waits_until_the_control_topic_has_its_announcement() -> Result<()> {
    let scenario = Scenario::open_behind_proxy("unseen-generator").await?.with("ORDER_RATE", "10");
    let proxy = scenario.proxy()?;
    proxy.inject(ApiKey::Produce, Fault::Hold, 0, 2);
    let generator = scenario.generator("generator")?.start()?;
    proxy.hit(ApiKey::Produce, 1).await;
    let report = control(&scenario, &["pause", "generator"]).await?;
    assert_eq!(report["generator"]["instances"], Value::Array(Vec::new()), "{report}");

    proxy.heal();
    let line = generator.line("paused by kim@").await?;
    assert!(line.contains("starting paused"), "it had begun: {line}");
    let report = control(&scenario, &["pause", "generator"]).await?;
    assert_eq!(report["generator"]["instances"][0]["state"], "paused", "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_topic_with_one_partition_works_and_gets_a_second_one() -> Result<()> {
    let scenario = Scenario::open("one-partition").await?.with("ORDER_RATE", "10");
    let servers = scenario.platform().bootstrap_servers();
    let name: Arc<str> = scenario.control_topic().into();
    let topic = NewTopic { name, partitions: 1, replication_factor: 1, configs: [].into() };
    let cluster = cluster(servers);
    until_ok(|| ensure_topics(&cluster, std::slice::from_ref(&topic)), |_| {}).await?;
    let generator = scenario.generator("generator")?.start()?;
    let processor = scenario.processor("processor")?.start()?;
    generator.line("the control topic has one partition").await?;
    processor.line("partitions assigned").await?;
    both_are(&scenario, "pause", "paused").await?;

    topic::grow(servers, &scenario.control_topic(), 2).await?;
    until_reported_by(&scenario, 2).await?;
    both_are(&scenario, "resume", "running").await?;
    generator.line("resumed by kim@").await?;
    processor.drain().await
}

/// Waits for the reports of a number of instances.
async fn until_reported_by(scenario: &Scenario, instances: usize) -> Result<()> {
    const REPORTS: i32 = 1;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let servers = scenario.platform().bootstrap_servers();
        let records = topic::read(servers, &scenario.control_topic()).await?;
        let reports = records.into_iter().filter(|record| record.partition == REPORTS);
        let keys: BTreeSet<_> = reports.map(|record| record.key).collect();
        if keys.len() == instances {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "reports come from {keys:?}");
        sleep(LOOK_INTERVAL).await;
    }
}

/// Gives a command to all and checks that the generator and the processor follow it.
async fn both_are(scenario: &Scenario, action: &str, state: &str) -> Result<()> {
    let report = control(scenario, &[action, "all"]).await?;
    for role in ["generator", "processor"] {
        let instances = report[role]["instances"].as_array().context("read the instances")?;
        let states: Vec<&Value> = instances.iter().map(|instance| &instance["state"]).collect();
        assert_eq!(states, [state], "{report}");
    }
    Ok(())
}

/// Starts a participant of the generator's role that reports as running.
async fn running(servers: &str, scenario: &Scenario) -> Result<Participant> {
    let topic = scenario.control_topic();
    let participant = Participant::start(&cluster(servers), &topic, 1, Role::Generator, "host");
    let mut instruction = participant.instruction();
    instruction.wait_for(Instruction::is_run).await.context("read the commands")?;
    participant.announce(RunState::Running, None, None);
    Ok(participant)
}

fn cluster(servers: &str) -> Cluster {
    Cluster::new(BrokerConfig::new(vec![servers.to_owned()], "test"))
}

/// Gives a command in kim's name without the proxy's faults, waits until all have followed, and returns the report.
async fn control(scenario: &Scenario, word: &[&str]) -> Result<Value> {
    let command = scenario
        .console("control")?
        .env("BOOTSTRAP_SERVERS", scenario.platform().bootstrap_servers())
        .args(["control", "--json"])
        .args(word.iter().copied())
        .args(["--by", "kim", "--wait", "60"]);
    let report = command.output().await?;
    serde_json::from_str(&report).with_context(|| format!("read this report: {report}"))
}
