//! The embedded broker with a foreign client: kcat, on librdkafka.

#![cfg(feature = "outsiders")]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use embedded_kafka::{BrokerOptions, EmbeddedKafka};
use end_to_end::service::{ServiceCommand, target_folder};

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

async fn kcat(servers: &str, folder: &Path, arguments: &[&str]) -> Result<String> {
    let command = ServiceCommand::of_system("kcat", BTreeMap::new(), folder);
    command.args(["-b", servers, "-q"]).args(arguments.iter().copied()).output().await
}
