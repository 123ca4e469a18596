//! Replays: each letter once, whatever happens.

use anyhow::Result;
use end_to_end::Scenario;
use end_to_end::verdict::Simulation;
use serde_json::json;

use crate::{dlq_fails, dlq_json, replayed_once, stats_after_replays, with_dead_letters};

#[tokio::test(flavor = "multi_thread")]
async fn every_dead_letter_is_replayed_once_and_processed_once() -> Result<()> {
    let scenario = with_dead_letters("replay", 1_000, 500).await?;
    let listed = dlq_json(&scenario, &["list"]).await?;
    assert_eq!((&listed["letters"], &listed["unresolved"]), (&json!(1_000), &json!(1_000)));
    assert_eq!(listed["causes"][0]["type"], "simulated");

    let words = dlq_fails(&scenario, &["replay"], 64).await?;
    assert!(words.contains("say which dead letters"), "{words}");
    let planned = dlq_json(&scenario, &["replay", "--all", "--dry-run"]).await?;
    assert_eq!(planned["chosen"], 1_000);
    assert_eq!(
        replayed_once(&scenario, &scenario.replay_topic()).await?,
        0,
        "a dry run sends nothing"
    );

    let processor = scenario.processor("processor")?.start()?;
    let sent = dlq_json(&scenario, &["replay", "--all"]).await?;
    assert_eq!((&sent["sent"], &sent["partitions"]), (&json!(1_000), &planned["partitions"]));
    let stats = stats_after_replays(&scenario, 1_000).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.duplicates), (1_500, 1_000, 0));
    let all = scenario.verdict(Simulation::OFF).await?;
    assert_eq!((all.orders, all.sum_micros), (1_500, stats.sum_micros()?));

    let again = dlq_json(&scenario, &["replay", "--all"]).await?;
    assert_eq!((&again["sent"], &again["left_alone"]), (&json!(0), &json!({"sent before": 1_000})));
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, 1_000);
    let listed = dlq_json(&scenario, &["list"]).await?;
    assert_eq!((&listed["unresolved"], &listed["replayed"]), (&json!(0), &json!(1_000)));

    processor.drain().await?;
    nobody_else_sees_them(scenario).await
}

/// Lets another group read the orders: it sees each order once and no replay.
async fn nobody_else_sees_them(scenario: Scenario) -> Result<()> {
    let group = format!("{}-other", scenario.group());
    let scenario = scenario.with("CONSUMER_GROUP_ID", &group);
    let processor = scenario.processor("processor-of-another-group")?.start()?;
    let stats = scenario.stats_at_end(1_500).await?;
    assert_eq!((stats.orders, stats.replayed, stats.dead_letters), (1_500, 0, 0));
    processor.drain().await
}
