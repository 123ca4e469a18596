//! A dead-letter topic whose configuration refuses records: the processor adapts each dead letter.

#![cfg(feature = "outsiders")]

use anyhow::{Context, Result};
use end_to_end::outsiders::{CONFIGS, TOPICS, kafka_tool};
use end_to_end::proxy::{ApiKey, Fault};
use end_to_end::topic::{self, TopicRecord};
use end_to_end::{Scenario, Service};
use serde_json::Value;

const NO_ORDER: &[u8] = b"\xff\xff\xff";

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_without_a_key_get_one_if_the_topic_demands_keys() -> Result<()> {
    let scenario = Scenario::open("letters-compacted").await?.with("TOPIC_PARTITIONS", "1");
    let processor = ready_processor(&scenario).await?;
    configure(&scenario, "cleanup.policy=compact").await?;
    // One batch, so that its dead letters are one batch as well.
    write_no_orders(&scenario, &[None, Some(b"key"), None]).await?;
    let stats = scenario.stats_at_end(3).await?;
    assert_eq!((stats.orders, stats.dead_letters), (0, 3));

    let mut letters = letters(&scenario).await?;
    letters.sort_by_key(|letter| letter.header_text("original_offset"));
    let keys: Vec<_> = letters.iter().map(|letter| letter.key.clone()).collect();
    assert_eq!(keys[1].as_deref(), Some(&b"key"[..]), "a key that is there is kept");
    assert!(keys[0].is_some() && keys[2].is_some() && keys[0] != keys[2], "{keys:?}");
    let batch = processor.line("refuses letters as they are").await?;
    assert!(batch.contains("one by one"), "{batch}");
    let single = processor.line("made-up key").await?;
    assert!(single.contains(scenario.dead_letter_topic()), "{single}");
    assert!(single.contains("InvalidRecord"), "{single}");

    // The generated keys are not those of the records.
    let exported = dlq(&scenario, &["export"]).await?;
    let exported: Vec<Value> =
        exported.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let without_key = exported.iter().filter(|letter| letter["key"].is_null()).count();
    assert_eq!((exported.len(), without_key), (3, 2), "{exported:?}");
    dlq(&scenario, &["replay", "--all"]).await?;
    let replayed = topic::read(servers(&scenario), &scenario.replay_topic()).await?;
    let mut keys: Vec<_> = replayed.iter().map(|record| record.key.clone()).collect();
    keys.sort();
    assert_eq!(keys, [None, None, Some(b"key".to_vec())]);
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_with_a_refused_timestamp_get_another() -> Result<()> {
    const AGE_MAX_MS: u32 = 3_000;
    const WAITING: &str = "waiting for the dead-letter topic";
    let scenario =
        Scenario::open_behind_proxy("letters-too-old").await?.with("TOPIC_PARTITIONS", "1");
    let processor = ready_processor(&scenario).await?;
    configure(&scenario, &format!("message.timestamp.before.max.ms={AGE_MAX_MS}")).await?;
    scenario.proxy()?.inject(ApiKey::Produce, Fault::LoseRequest, 0, u32::MAX);
    write_no_orders(&scenario, &[None, Some(b"key"), None]).await?;
    let waiting = processor.line(WAITING).await?;
    // The processor repeats the warning after five seconds.
    processor.line_after(processor.line_count(), WAITING).await?;
    scenario.proxy()?.heal();
    let stats = scenario.stats_at_end(3).await?;
    assert_eq!((stats.orders, stats.dead_letters), (0, 3), "{waiting}");
    let letters = letters(&scenario).await?;
    assert_eq!(letters.len(), 3);
    for letter in letters {
        let failed_at = letter.header_text("dlq.failed-at").context("find when it failed")?;
        let failed_at = chrono::DateTime::parse_from_rfc3339(&failed_at)?.timestamp_millis();
        assert!(letter.timestamp_ms - failed_at > i64::from(AGE_MAX_MS), "{letter:?}");
        assert_eq!(letter.key.is_some(), letter.header_text("original_offset") == Some("1".into()));
    }
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_have_no_timestamp_if_the_broker_refuses_all() -> Result<()> {
    let scenario = Scenario::open("letters-no-time").await?.with("TOPIC_PARTITIONS", "1");
    let processor = ready_processor(&scenario).await?;
    // The broker finds every timestamp in the past, as from a slow clock.
    configure(&scenario, "message.timestamp.before.max.ms=0").await?;
    write_no_orders(&scenario, &[None, Some(b"key"), None]).await?;
    let stats = scenario.stats_at_end(3).await?;
    assert_eq!((stats.orders, stats.dead_letters), (0, 3));
    assert_eq!(letters(&scenario).await?.len(), 3);
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_is_refused_at_the_start() -> Result<()> {
    for policy in ["compact", "compact,delete"] {
        let scenario = Scenario::open("letters-refused").await?;
        let create = kafka_tool(&scenario, TOPICS).args([
            "--create",
            "--topic",
            scenario.dead_letter_topic(),
            "--config",
            &format!("cleanup.policy={policy}"),
        ]);
        create.output().await?;
        let mut processor = scenario.processor("processor")?.start()?;
        processor.expect_exit(1).await?;
        let line = processor.line("would erase one another").await?;
        assert!(line.contains(&format!("cleanup.policy={policy}")), "{line}");
        assert!(line.contains(scenario.dead_letter_topic()), "{line}");
    }
    Ok(())
}

async fn dlq(scenario: &Scenario, arguments: &[&str]) -> Result<String> {
    scenario.console("dlq")?.args(["dlq"]).args(arguments.iter().copied()).output().await
}

async fn ready_processor(scenario: &Scenario) -> Result<Service> {
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    Ok(processor)
}

fn servers(scenario: &Scenario) -> &str {
    scenario.platform().bootstrap_servers()
}

/// Changes the configuration of the dead-letter topic.
async fn configure(scenario: &Scenario, config: &str) -> Result<()> {
    let name = scenario.dead_letter_topic();
    let topic = ["--alter", "--entity-type", "topics", "--entity-name", name];
    let command = kafka_tool(scenario, CONFIGS).args(topic).args(["--add-config", config]);
    command.output().await.map(drop)
}

/// Writes one batch of bad records with these keys.
async fn write_no_orders(scenario: &Scenario, keys: &[Option<&[u8]>]) -> Result<()> {
    let record = |key: Option<&[u8]>| (key.map(<[u8]>::to_vec), Some(NO_ORDER.to_vec()));
    let batch = keys.iter().copied().map(record).collect();
    topic::write_batches(servers(scenario), scenario.orders_topic(), 0, vec![batch]).await?;
    Ok(())
}

async fn letters(scenario: &Scenario) -> Result<Vec<TopicRecord>> {
    topic::read(servers(scenario), scenario.dead_letter_topic()).await
}
