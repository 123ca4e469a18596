//! `order-processor dlq`: what is listed, what is replayed and how often, and what happens when it is killed.

mod looking;
mod replaying;

use anyhow::{Context, Result};
use end_to_end::{Scenario, Service, Stats, topic};
use serde_json::Value;

/// Orders at a price above this fail for as long as the simulation says so.
const PRICE_LIMIT: &str = "50";

/// A scenario with the given numbers of orders that fail and of such that do not, all of them dealt with by a processor
/// that has ended since.
async fn with_dead_letters(name: &str, failing: u64, good: u64) -> Result<Scenario> {
    let scenario = Scenario::open(name).await?;
    for (count, lowest, highest) in [(failing, "100", "200"), (good, "10", "40")] {
        if count > 0 {
            let generator = scenario
                .generator("generator")?
                .env("ORDER_COUNT", &count.to_string())
                .env("PRICE_MIN", lowest)
                .env("PRICE_MAX", highest);
            generator.env("ORDER_RATE", "0").start()?.expect_exit(0).await?;
        }
    }
    let processor = failing_processor(&scenario)?;
    let stats = scenario.stats_at_end(failing + good).await?;
    assert_eq!((stats.orders, stats.dead_letters), (good, failing));
    processor.drain().await?;
    Ok(scenario)
}

fn failing_processor(scenario: &Scenario) -> Result<Service> {
    scenario.processor("processor-failing")?.env("PERMANENT_PRICE_ABOVE", PRICE_LIMIT).start()
}

/// Runs `order-processor dlq` to its end and returns what it printed.
async fn dlq(scenario: &Scenario, arguments: &[&str]) -> Result<String> {
    let command = scenario.processor("dlq")?.args(["dlq"]).args(arguments.iter().copied());
    command.output().await
}

/// The same, of a command that prints one JSON object.
async fn dlq_json(scenario: &Scenario, arguments: &[&str]) -> Result<Value> {
    let printed = dlq(scenario, &[arguments, &["--json"]].concat()).await?;
    serde_json::from_str(&printed).with_context(|| format!("read what dlq printed: {printed}"))
}

/// Runs `order-processor dlq` and returns the lines of a run that ends with that exit code.
async fn dlq_fails(scenario: &Scenario, arguments: &[&str], code: i32) -> Result<String> {
    let command = scenario.processor("dlq")?.args(["dlq"]).args(arguments.iter().copied());
    let mut running = command.start()?;
    running.expect_exit(code).await?;
    Ok(running.lines().join("\n"))
}

/// Returns whose letters the replay topic's records are of, sorted: with the replay count behind.
async fn replayed(scenario: &Scenario, topic: &str) -> Result<Vec<String>> {
    let servers = scenario.platform().bootstrap_servers();
    let mut replayed: Vec<String> = topic::read(servers, topic)
        .await?
        .iter()
        .filter_map(|record| {
            let of = record.header_text("dlq.replay.of")?;
            Some(format!("{of} {}", record.header_text("dlq.replay.count")?))
        })
        .collect();
    replayed.sort();
    Ok(replayed)
}

/// Checks that no letter is in the topic twice, and returns how many are.
async fn replayed_once(scenario: &Scenario, topic: &str) -> Result<usize> {
    let mut replayed = replayed(scenario, topic).await?;
    let records = replayed.len();
    replayed.dedup();
    assert_eq!(replayed.len(), records, "letters are in {topic} more than once");
    Ok(records)
}

/// Waits until the group has counted so many replays and has no lag.
async fn stats_after_replays(scenario: &Scenario, replayed: u64) -> Result<Stats> {
    let what = format!("the end of {replayed} replays");
    scenario.stats_when(&what, |stats| (stats.lag == 0) && (stats.replayed >= replayed)).await
}
