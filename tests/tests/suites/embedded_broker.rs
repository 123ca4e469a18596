//! The embedded broker with a foreign client: kcat, on librdkafka.

#![cfg(feature = "outsiders")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use embedded_kafka::{BrokerOptions, EmbeddedKafka};
use end_to_end::service::{ServiceCommand, target_folder};
use tokio::time::sleep;

/// So many records that leaders move often meanwhile.
const MOVING_RECORDS: usize = 5_000;
const MOVE_INTERVAL: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread")]
async fn kcat_lists_produces_and_consumes_in_a_group() -> Result<()> {
    let broker = EmbeddedKafka::start(BrokerOptions::default()).await?;
    let servers = broker.bootstrap_servers();
    let folder = target_folder()?.join("end-to-end-logs");
    std::fs::create_dir_all(&folder)?;
    let lines = folder.join(format!("kcat-{}", servers.replace(':', "-")));
    std::fs::write(&lines, "a:1\nb:2\nc:3\n")?;

    let lines_path = lines.to_string_lossy().into_owned();
    kcat(&servers, &folder, &["-P", "-t", "letters", "-K", ":", "-l", &lines_path]).await?;
    let listed = kcat(&servers, &folder, &["-L"]).await?;
    assert!(listed.contains("topic \"letters\" with 1 partitions"), "{listed}");

    let format = ["-f", "%k=%s@%o\\n"];
    for group in ["first", "second"] {
        let arguments = [
            format[0],
            format[1],
            "-X",
            "auto.offset.reset=earliest",
            "-c",
            "3",
            "-G",
            group,
            "letters",
        ];
        let consumed = kcat(&servers, &folder, &arguments).await?;
        assert_eq!(consumed, "a=1@0\nb=2@1\nc=3@2\n");
    }
    // The group has committed: its next member resumes there.
    std::fs::write(&lines, "d:4\n")?;
    kcat(&servers, &folder, &["-P", "-t", "letters", "-K", ":", "-l", &lines_path]).await?;
    let arguments = [
        format[0],
        format[1],
        "-X",
        "auto.offset.reset=earliest",
        "-c",
        "1",
        "-G",
        "first",
        "letters",
    ];
    assert_eq!(kcat(&servers, &folder, &arguments).await?, "d=4@3\n");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kcat_produces_and_consumes_on_three_nodes_while_leaders_move() -> Result<()> {
    let options = BrokerOptions { nodes: 3, default_partitions: 3, ..BrokerOptions::default() };
    let broker = EmbeddedKafka::start(options).await?;
    let servers = broker.bootstrap_servers();
    let folder = target_folder()?.join("end-to-end-logs");
    std::fs::create_dir_all(&folder)?;
    let lines = folder.join(format!("kcat-moving-{}", broker.address().port()));
    let numbers: Vec<String> = (0..MOVING_RECORDS).map(|number| format!("{number:06}")).collect();
    std::fs::write(
        &lines,
        numbers.iter().map(|number| format!("{number}:{number}")).collect::<Vec<_>>().join("\n"),
    )?;
    let lines = lines.to_string_lossy().into_owned();
    // Metadata creates the topic, whose leaders then move.
    kcat(&servers, &folder, &["-L", "-t", "moving"]).await?;

    let idempotent = ["-X", "enable.idempotence=true", "-X", "batch.num.messages=10"];
    let produce = ["-P", "-t", "moving", "-K", ":", "-l", &lines];
    let producing = [&produce[..], &idempotent].concat();
    while_moving(&broker, kcat(&servers, &folder, &producing)).await?;
    let count = MOVING_RECORDS.to_string();
    let small = ["-X", "fetch.message.max.bytes=2000", "-f", "%s\\n", "-c", &count];
    let plain = [&["-C", "-t", "moving", "-o", "beginning"], &small[..]].concat();
    let grouped = ["-X", "auto.offset.reset=earliest", "-G", "movers", "moving"];
    let grouped = [&small[..], &grouped].concat();
    for consuming in [plain, grouped] {
        let consumed = while_moving(&broker, kcat(&servers, &folder, &consuming)).await?;
        let mut consumed: Vec<&str> = consumed.lines().collect();
        consumed.sort_unstable();
        ensure!(consumed == numbers, "{} records of {MOVING_RECORDS}", consumed.len());
    }
    Ok(())
}

/// Moves leaders until kcat has ended.
async fn while_moving(
    broker: &EmbeddedKafka,
    kcat: impl Future<Output = Result<String>>,
) -> Result<String> {
    let moving = async {
        for turn in 0_i32.. {
            sleep(MOVE_INTERVAL).await;
            broker.move_leader("moving", turn / 3 % 3, 1 + turn % 3)?;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::select! {
        output = kcat => output,
        ended = moving => { ended?; bail!("moves never end") }
    }
}

async fn kcat(servers: &str, folder: &Path, arguments: &[&str]) -> Result<String> {
    let command = ServiceCommand::of_system("kcat", BTreeMap::new(), folder);
    command.args(["-b", servers, "-q"]).args(arguments.iter().copied()).output().await
}
