//! Damaged batches: in transit, which the next fetch repairs, and in the log.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use end_to_end::proxy::{ApiKey, DamageKind, Fault};
use end_to_end::topic::TopicRecord;
use end_to_end::{Ledger, Scenario};
use kafka_core::record_batch::batches;

const BATCHES: i64 = 60;
const DAMAGED: i64 = 17;
/// A byte after the header of a batch, which only the checksum covers.
const AT: usize = 100;
const FOR_EVER: u32 = u32::MAX;

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_transit_is_gone_with_the_next_fetch() -> Result<()> {
    let (scenario, ledger) = written("damage-on-the-way").await?;
    let place = (0, Ledger::offsets(DAMAGED).start);
    scenario.proxy()?.damage(place, AT, DamageKind::Plain, 1);
    let processor = scenario.processor("processor")?.start()?;
    processor.line("the log cannot be read here, fetching again").await?;
    let nothing = BTreeSet::new();
    let stats = scenario.stats_at_end(ledger.records(&nothing)?).await?;
    ledger.check(&stats, &nothing)?;
    assert_eq!(scenario.proxy()?.damaged(), 1);
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_log_is_one_dead_letter_and_all_other_records_are_processed() -> Result<()> {
    let (scenario, ledger) = written("damage-in-the-log").await?;
    let lost = damage(&scenario, &[DAMAGED, DAMAGED + 1, BATCHES - 1])?;
    let processor = scenario.processor("processor")?.start()?;
    let stats = scenario.stats_at_end(ledger.records(&lost)?).await?;
    ledger.check(&stats, &lost)?;
    scenario.fetches_are_calm().await?;
    let letters = scenario.letters(lost.len()).await?;
    for (batch, letter) in lost.iter().zip(&letters) {
        check_letter(&scenario, letter, *batch)?;
    }
    assert_eq!(letters.len(), lost.len());
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_ends_the_process_if_configured() -> Result<()> {
    let (scenario, ledger) = written("damage-fails").await?;
    let lost = damage(&scenario, &[DAMAGED])?;
    let mut failing = scenario.processor("failing")?.env("CORRUPT_BATCH", "fail").start()?;
    failing.expect_exit(1).await?;
    let line = failing.line("of the log (CORRUPT_BATCH=fail)").await?;
    ensure!(line.contains("offsets 170 to 179"), "{line}");
    assert_eq!(scenario.letters(0).await?.len(), 0);

    let processor = scenario.processor("processor")?.start()?;
    let stats = scenario.stats_at_end(ledger.records(&lost)?).await?;
    ledger.check(&stats, &lost)?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_the_dead_letter_and_the_commit_repeats_the_letter_and_counts_it_once()
-> Result<()> {
    let (scenario, ledger) = written("damage-killed").await?;
    let lost = damage(&scenario, &[DAMAGED])?;
    scenario.proxy()?.inject(ApiKey::OffsetCommit, Fault::LoseRequest, 0, FOR_EVER);
    let mut killed = scenario.processor("killed")?.start()?;
    scenario.letters(1).await?;
    killed.kill().await?;
    assert_eq!(scenario.stats().await?.dead_letters, 0, "nothing was committed");

    scenario.proxy()?.heal();
    let processor = scenario.processor("processor")?.start()?;
    let stats = scenario.stats_at_end(ledger.records(&lost)?).await?;
    ledger.check(&stats, &lost)?;
    let letters = scenario.letters(2).await?;
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        check_letter(&scenario, letter, DAMAGED)?;
    }
    let identity = |letter: &TopicRecord| {
        let names = ["dlq.topic-id", "original_partition", "original_offset", "dlq.replay.count"];
        names.map(|name| letter.header_text(name))
    };
    assert_eq!(identity(&letters[0]), identity(&letters[1]));
    processor.drain().await
}

/// Opens a scenario behind a proxy with unread orders.
async fn written(name: &str) -> Result<(Scenario, Ledger)> {
    let scenario = Scenario::open_behind_proxy(name)
        .await?
        .with("TOPIC_PARTITIONS", "1")
        .with("SESSION_TIMEOUT_MS", "6000");
    let creator = scenario.processor("creator")?.start()?;
    creator.line("partitions assigned").await?;
    creator.drain().await?;
    let ledger = Ledger::write(&scenario, BATCHES).await?;
    Ok((scenario, ledger))
}

/// Damages batches in every fetch, like a broker's disk.
fn damage(scenario: &Scenario, lost: &[i64]) -> Result<BTreeSet<i64>> {
    for batch in lost {
        let place = (0, Ledger::offsets(*batch).start);
        scenario.proxy()?.damage(place, AT, DamageKind::Plain, FOR_EVER);
    }
    Ok(lost.iter().copied().collect())
}

/// Checks that a dead letter has the bytes and the offsets of a damaged batch.
fn check_letter(scenario: &Scenario, letter: &TopicRecord, batch: i64) -> Result<()> {
    let offsets = Ledger::offsets(batch);
    let (first, last) = (offsets.start.to_string(), (offsets.end - 1).to_string());
    for (name, value) in [
        ("dlq.error.type", "corrupt-batch"),
        ("dlq.error.class", "poison"),
        ("dlq.error.stage", "fetch"),
        ("__dlq.errors.topic", scenario.orders_topic()),
        ("__dlq.errors.offset", &first),
        ("dlq.batch.base-offset", &first),
        ("dlq.batch.last-offset", &last),
    ] {
        assert_eq!(letter.header_text(name).as_deref(), Some(value), "{name}");
    }
    let mut bytes = letter.value.clone().context("the letter has no value")?;
    let raw = batches(Bytes::from(bytes.clone())).next().context("the value is no batch")?;
    assert!(raw.open(1 << 20).is_err(), "the damage is in it");
    bytes[AT] ^= 1;
    let raw = batches(bytes.into()).next().context("the value is no batch")?;
    let found: Vec<i64> = raw.open(1 << 20)?.records().flatten().map(|r| r.offset).collect();
    assert_eq!(found, offsets.collect::<Vec<_>>());
    Ok(())
}
