//! A log damaged on a real broker's disk, in every field that the broker itself uses.
//!
//! The broker does not check the batches that it returns. After a batch with a damaged length, the broker cannot find the
//! next one, and returns errors or nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use end_to_end::outsiders::control;
use end_to_end::platform::variable;
use end_to_end::{Ledger, Scenario};

const BATCHES: i64 = 200;
const DAMAGED: i64 = 60;

/// The place of the changed bytes in a batch, and the bytes.
const DAMAGES: [(&str, usize, &[u8]); 12] = [
    ("record", 100, b"?"),
    ("checksum", 17, &[1, 2, 3, 4]),
    ("compression", 22, &[7]),
    ("longer", 10, &[9]),
    ("longer-than-all", 8, &[1]),
    ("shorter", 10, &[0, 60]),
    ("old-format", 16, &[1]),
    ("later-format", 16, &[3]),
    ("more-offsets", 23, &[0, 0, 0, 99]),
    ("offset-beyond-the-log", 0, &[0x10]),
    ("offset-below", 0, &[0; 8]),
    ("zeros", 0, &[0; 61]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_any_damage_on_disk_is_one_dead_letter() -> Result<()> {
    let Some(data) = variable("BROKER_DATA").map(PathBuf::from) else {
        anyhow::bail!("BROKER_DATA is not set: this test needs the broker of tests/kafka/kafka.py");
    };
    let mut damaged = Vec::new();
    for (what, at, bytes) in DAMAGES {
        let scenario = Scenario::open(&format!("disk-{what}")).await?.with("TOPIC_PARTITIONS", "1");
        let creator = scenario.processor("creator")?.start()?;
        creator.line("partitions assigned").await?;
        creator.drain().await?;
        damaged.push((Ledger::write(&scenario, BATCHES).await?, scenario, at, bytes));
    }
    let first = damaged.first().map(|(_, scenario, ..)| scenario).context("there is one")?;
    control(first).args(["stop", "broker"]).output().await?;
    let mut expected = Vec::new();
    for (_, scenario, at, bytes) in &damaged {
        expected.push(overwrite(&data, scenario, *at, bytes)?);
    }
    control(first).args(["start", "broker"]).output().await?;

    let lost = BTreeSet::from([DAMAGED]);
    let offsets = Ledger::offsets(DAMAGED);
    for ((ledger, scenario, ..), bytes) in damaged.iter().zip(expected) {
        let processor = scenario.processor("processor")?.start()?;
        let checked = async {
            let stats = scenario.stats_at_end(ledger.records(&lost)?).await?;
            ledger.check(&stats, &lost)?;
            let letters = scenario.letters(1).await?;
            let [letter] = &letters[..] else { anyhow::bail!("{} letters", letters.len()) };
            assert_eq!(letter.value.as_ref(), Some(&bytes));
            let header = |name| letter.header_text(name).and_then(|text| text.parse().ok());
            assert_eq!(header("dlq.batch.base-offset"), Some(offsets.start));
            assert_eq!(header("dlq.batch.last-offset"), Some(offsets.end - 1));
            processor.drain().await
        };
        checked.await.with_context(|| scenario.orders_topic().to_owned())?;
    }
    Ok(())
}

/// Overwrites bytes of a batch in the log of a stopped broker, and returns the changed batch.
fn overwrite(data: &Path, scenario: &Scenario, at: usize, bytes: &[u8]) -> Result<Vec<u8>> {
    let folder = data.join(format!("{}-0", scenario.orders_topic()));
    let path = folder.join("00000000000000000000.log");
    let mut log = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let (mut start, mut next) = (0, 0);
    for _ in 0..=DAMAGED {
        start = next;
        let length: [u8; 4] = log[start + 8..start + 12].try_into()?;
        next = start + 12 + usize::try_from(i32::from_be_bytes(length))?;
    }
    log[start + at..start + at + bytes.len()].copy_from_slice(bytes);
    let file = std::fs::OpenOptions::new().write(true).open(&path)?;
    file.write_all_at(&log, 0).with_context(|| format!("write {}", path.display()))?;
    Ok(log[start..next].to_vec())
}
