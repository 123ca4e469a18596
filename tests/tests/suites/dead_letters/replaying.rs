//! Replays send each order once.

use anyhow::Result;
use end_to_end::Scenario;
use end_to_end::verdict::Simulation;
use serde_json::json;

use super::{
    dlq_ends_with, dlq_json, dlq_start, failing_processor, replayed, replayed_once,
    stats_after_replays, until_replayed, with_dead_letters,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_dead_letter_is_replayed_once_and_processed_once() -> Result<()> {
    let scenario = with_dead_letters("replay", 1_000, 500).await?;
    let listed = dlq_json(&scenario, &["list"]).await?;
    assert_eq!((&listed["letters"], &listed["unresolved"]), (&json!(1_000), &json!(1_000)));
    assert_eq!(listed["causes"][0]["type"], "simulated");

    let output = dlq_ends_with(&scenario, 64, &["replay"]).await?;
    assert!(output.contains("say which dead letters"), "{output}");
    let planned = dlq_json(&scenario, &["replay", "--all", "--dry-run"]).await?;
    assert_eq!(planned["chosen"], 1_000);
    let replay_topic = scenario.replay_topic();
    assert_eq!(replayed_once(&scenario, &replay_topic).await?, 0, "a dry run sends nothing");

    let processor = scenario.processor("processor")?.start()?;
    let sent = dlq_json(&scenario, &["replay", "--all"]).await?;
    assert_eq!((&sent["sent"], &sent["partitions"]), (&json!(1_000), &planned["partitions"]));
    let stats = stats_after_replays(&scenario, 1_000).await?;
    assert_eq!((stats.orders, stats.dead_letters), (1_500, 1_000));
    let all = scenario.verdict(Simulation::OFF).await?;
    assert_eq!((all.orders, all.sum_micros), (1_500, stats.sum_micros()?));

    let again = dlq_json(&scenario, &["replay", "--all"]).await?;
    assert_eq!((&again["sent"], &again["left_alone"]), (&json!(0), &json!({"sent before": 1_000})));
    assert_eq!(replayed_once(&scenario, &replay_topic).await?, 1_000);
    let listed = dlq_json(&scenario, &["list"]).await?;
    assert_eq!((&listed["unresolved"], &listed["replayed"]), (&json!(0), &json!(1_000)));

    processor.drain().await?;
    nobody_else_sees_them(scenario).await
}

/// Reads the orders with another group, which gets each order once and no replay.
async fn nobody_else_sees_them(scenario: Scenario) -> Result<()> {
    let group = format!("{}-other", scenario.group());
    let scenario = scenario.with("CONSUMER_GROUP_ID", &group);
    let processor = scenario.processor("processor-of-another-group")?.start()?;
    let stats = scenario.stats_at_end(1_500).await?;
    assert_eq!((stats.orders, stats.replayed, stats.dead_letters), (1_500, 0, 0));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_is_finished_by_the_next_one() -> Result<()> {
    const LETTERS: usize = 1_000;
    let scenario = with_dead_letters("replay-killed", 1_000, 0).await?;
    for killed_at in [100, 300, 500] {
        let arguments = ["replay", "--all", "--rate", "500", "--break-lock"];
        let mut killed = dlq_start(&scenario, &format!("dlq-killed-{killed_at}"), &arguments)?;
        until_replayed(&scenario, killed_at).await?;
        killed.kill().await?;
    }
    let before = replayed_once(&scenario, &scenario.replay_topic()).await?;
    assert!((500..LETTERS).contains(&before), "killed after {before}");

    // The killed run has left its lock, and this one waits until it has expired.
    let sent = dlq_json(&scenario, &["replay", "--all"]).await?;
    assert_eq!(sent["sent"], LETTERS - before);
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, LETTERS);
    assert_eq!(dlq_json(&scenario, &["replay", "--all"]).await?["sent"], 0);

    let processor = scenario.processor("processor")?.start()?;
    let stats = stats_after_replays(&scenario, 1_000).await?;
    assert_eq!((stats.orders, stats.dead_letters), (1_000, 1_000));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_replay_after_a_whole_batch_and_reports_the_sent_records() -> Result<()> {
    let scenario = with_dead_letters("replay-interrupted", 300, 0).await?;
    let arguments = ["replay", "--all", "--rate", "100", "--json"];
    let mut interrupted = dlq_start(&scenario, "dlq-interrupted", &arguments)?;
    until_replayed(&scenario, 20).await?;
    interrupted.interrupt()?;
    interrupted.expect_exit(0).await?;
    let summary = interrupted.line("\"sent\"").await?;
    let summary: serde_json::Value = serde_json::from_str(&summary)?;
    let sent = replayed_once(&scenario, &scenario.replay_topic()).await?;
    assert_eq!(summary["sent"], sent, "{summary}");
    assert!(sent < 300, "it was over before it was interrupted");

    // The lock is free at once.
    let rest = dlq_json(&scenario, &["replay", "--all"]).await?;
    assert_eq!(rest["sent"], 300 - sent);
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, 300);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_keeps_failing_keeps_its_coordinates_and_is_finally_not_replayed()
-> Result<()> {
    let scenario = with_dead_letters("replay-in-vain", 5, 0).await?;
    let processor = failing_processor(&scenario)?;
    let first = dlq_json(&scenario, &["replay", "--all", "--limit-replays", "2"]).await?;
    assert_eq!(first["sent"], 5);
    stats_after_replays(&scenario, 5).await?;
    let second = dlq_json(&scenario, &["replay", "--all", "--limit-replays", "2"]).await?;
    assert_eq!((&second["sent"], &second["left_alone"]), (&json!(5), &json!({"sent before": 5})));
    let stats = stats_after_replays(&scenario, 10).await?;
    assert_eq!((stats.orders, stats.dead_letters), (0, 15));

    let third = dlq_json(&scenario, &["replay", "--all", "--limit-replays", "2"]).await?;
    let left_alone = json!({"sent before": 10, "replayed as often as --limit-replays allows": 5});
    assert_eq!((&third["sent"], &third["left_alone"]), (&json!(0), &left_alone));
    let listed = dlq_json(&scenario, &["list"]).await?;
    assert_eq!((&listed["letters"], &listed["unresolved"]), (&json!(15), &json!(5)));
    assert_eq!(listed["causes"][0]["topic"], scenario.orders_topic(), "{listed}");

    // Each order has two replays with its coordinates in the orders' topic.
    let replayed = replayed(&scenario, &scenario.replay_topic()).await?;
    assert_eq!(replayed.len(), 10);
    for pair in replayed.chunks(2) {
        let [first, second] = pair else { unreachable!() };
        assert!(first.starts_with(&format!("{}/", scenario.orders_topic())), "{first}");
        assert_eq!(first.strip_suffix(" 1"), second.strip_suffix(" 2"));
    }
    processor.drain().await
}
