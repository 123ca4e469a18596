//! The start of the services: checks of the settings, creation of missing topics.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use end_to_end::service::{PATIENCE, ServiceCommand, field};
use end_to_end::{Scenario, topic};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

/// `EX_USAGE` of sysexits.h.
const BAD_CONFIGURATION: i32 = 64;
/// A shell's exit code for a process that SIGTERM has ended.
const TERMINATED: i32 = 143;
/// Pause between two checks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_setting_is_named_before_the_exit() -> Result<()> {
    let scenario = Scenario::open("bad-configuration").await?;
    let generator = scenario.generator("generator")?;
    let generator =
        [("ORDER_RATE", "fast"), ("TOPIC_PARTITIONS", "0"), ("SCHEMA_REGISTRY_URL", "registry")]
            .into_iter()
            .fold(generator, |generator, (name, value)| generator.env(name, value));
    let processor = scenario.processor("processor")?;
    let processor = [
        ("MAX_RETRIES", "-1"),
        ("ASSIGNOR", "fair"),
        ("ERROR_SIMULATION_RATE", "2"),
        ("ORDERS_TOPIC", "a b"),
    ]
    .into_iter()
    .fold(processor, |processor, (name, value)| processor.env(name, value));

    let expectations = [
        (generator, vec!["ORDER_RATE", "fast", "TOPIC_PARTITIONS", "SCHEMA_REGISTRY_URL"]),
        (
            processor,
            vec![
                "MAX_RETRIES",
                "-1",
                "ASSIGNOR",
                "fair",
                "ERROR_SIMULATION_RATE",
                "ORDERS_TOPIC",
                "a b",
            ],
        ),
    ];
    for (command, expected) in expectations {
        let mut service = command.start()?;
        service.expect_exit(BAD_CONFIGURATION).await?;
        let output = service.lines().join("\n");
        for text in expected {
            assert!(output.contains(text), "{text} is not named in:\n{output}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_in_json_have_prices_and_averages_as_numbers() -> Result<()> {
    let scenario = Scenario::open("json").await?.with("PRICE_MIN", "883.73");
    let scenario = scenario.with("PRICE_MAX", "883.73").with("ORDER_COUNT", "1");
    let mut generator = scenario.generator("generator")?.start()?;
    generator.expect_exit(0).await?;
    let processor = scenario.processor("processor")?.start()?;
    for (line, name) in [
        (generator.line("\"acknowledged\"").await?, "price"),
        (generator.line("final statistics").await?, "average_price"),
        (processor.line("\"processed\"").await?, "price"),
        (processor.line("\"processed\"").await?, "average"),
        (processor.line("\"processed\"").await?, "recent_average"),
    ] {
        assert_eq!(field(&line, name)?, 883.73, "{name} in {line}");
    }
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_variable_counts_as_unset() -> Result<()> {
    let scenario =
        Scenario::open("empty-variable").await?.with("ORDER_COUNT", "3").with("SEED", "");
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
    generator.expect_exit(0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_are_created_as_configured() -> Result<()> {
    let scenario =
        Scenario::open("topics").await?.with("TOPIC_PARTITIONS", "5").with("DLQ_PARTITIONS", "2");
    let servers = scenario.platform().bootstrap_servers();
    let orders = scenario.orders_topic();
    assert_eq!(topic::partition_count(servers, orders).await?, None);

    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    assert_eq!(topic::partition_count(servers, orders).await?, Some(5));
    assert_eq!(topic::partition_count(servers, scenario.dead_letter_topic()).await?, Some(2));
    let replay = scenario.replay_topic();
    assert_eq!(topic::partition_count(servers, &replay).await?, Some(5));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_processor_runs_with_its_port_in_use() -> Result<()> {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let scenario = Scenario::open("port-taken").await?.with("ORDER_COUNT", "10");
    let address = taken.local_addr()?.to_string();
    let processor = scenario.processor("processor")?.env("HTTP_ADDR", &address).start()?;
    processor.line(&address).await?;
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
    generator.expect_exit(0).await?;
    scenario.stats_at_end(10).await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_the_settings_are_read_is_handled() -> Result<()> {
    let scenario = Scenario::open("early-signal").await?;
    let commands: [(&str, &[&str]); 6] = [
        ("order-generator", &[]),
        ("order-processor", &[]),
        ("order-console", &["dashboard"]),
        ("order-console", &["stats", "--watch"]),
        ("order-console", &["dlq", "replay", "--all"]),
        ("order-console", &["control", "pause"]),
    ];
    for (number, (program, arguments)) in commands.into_iter().enumerate() {
        // Reading the settings never ends, because the test writes nothing to their named pipe.
        let settings = scenario.log_folder().join(format!("settings-{number}.toml"));
        mknodat(CWD, &settings, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let environment = [("CONFIG_FILE".to_owned(), settings.display().to_string())].into();
        let folder = scenario.log_folder();
        let command = ServiceCommand::of_workspace(program, environment, folder)?;
        let mut service =
            command.named(&format!("early-{number}")).args(arguments.to_vec()).start()?;
        let opened = open_once_read(&settings).await?;
        service.terminate()?;
        // Without a handler the process would end without a code, or, as the first process of a container, not at all.
        service.expect_exit(TERMINATED).await?;
        drop(opened);
    }
    Ok(())
}

/// Opens a named pipe for writing, which waits for its reader.
async fn open_once_read(pipe: &Path) -> Result<OwnedFd> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::open(pipe, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()) {
            Err(Errno::NXIO) if Instant::now() < deadline => sleep(LOOK_INTERVAL).await,
            opened => return opened.context("wait until the settings are read"),
        }
    }
}
