//! Replays to topics that delete records: the source topic, and a truncated replay topic.

use anyhow::Result;
use end_to_end::proxy::{ApiKey, Fault};
use end_to_end::service::PATIENCE;
use end_to_end::{Scenario, topic};
use serde_json::json;

use super::{
    dlq, dlq_json, dlq_start, make_dead_letters, replayed_once, stats_after_replays,
    until_replayed_to, with_dead_letters,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_to_the_source_is_found_there_counts_as_one_and_is_not_sent_again() -> Result<()> {
    let scenario = with_dead_letters("replay-to-source", 100, 50).await?;
    let planned = dlq(&scenario, &["replay", "--all", "--to-source", "--dry-run"]).await?;
    assert!(planned.contains("every group that reads this topic will see them"), "{planned}");
    let some = ["replay", "--all", "--to-source", "--limit", "40"];
    assert_eq!(dlq_json(&scenario, &some).await?["sent"], 40);
    assert_eq!(dlq_json(&scenario, &["list"]).await?["replayed"], 40);
    // Replays to the source and to the replay topic see each other.
    assert_eq!(dlq_json(&scenario, &["replay", "--all", "--limit", "30"]).await?["sent"], 30);
    let rest = dlq_json(&scenario, &["replay", "--all", "--to-source"]).await?;
    assert_eq!((&rest["sent"], &rest["left_alone"]), (&json!(30), &json!({"sent before": 70})));
    assert_eq!(dlq_json(&scenario, &["replay", "--all"]).await?["sent"], 0);
    assert_eq!(replayed_once(&scenario, scenario.orders_topic()).await?, 70);
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, 30);

    let processor = scenario.processor("processor")?.start()?;
    let stats = stats_after_replays(&scenario, 100).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.replayed), (150, 100, 100));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_to_the_source_that_was_killed_before_it_was_recorded_is_found() -> Result<()> {
    let scenario = Scenario::open_behind_proxy("replay-to-source-killed").await?;
    make_dead_letters(&scenario, 300, 0).await?;
    // The lock, the first record and the first replays are written, but their acknowledgement is lost.
    scenario.proxy()?.inject(ApiKey::Produce, Fault::DelayAnswer(PATIENCE), 2, 1);
    let arguments = ["replay", "--all", "--to-source"];
    let mut killed = dlq_start(&scenario, "dlq-killed", &arguments)?;
    until_replayed_to(&scenario, scenario.orders_topic(), 1).await?;
    killed.kill().await?;
    let before = replayed_once(&scenario, scenario.orders_topic()).await?;
    assert!(before < 300, "not killed in the middle");

    let rest = dlq_json(&scenario, &["replay", "--all", "--break-lock"]).await?;
    assert_eq!(
        (&rest["sent"], &rest["left_alone"]),
        (&json!(300 - before), &json!({"sent before": before}))
    );
    // The next replays know it without reading the source.
    topic::delete_records(scenario.platform().bootstrap_servers(), scenario.orders_topic()).await?;
    assert_eq!(dlq_json(&scenario, &["replay", "--all"]).await?["sent"], 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_to_the_source_is_known_after_the_source_has_deleted_it() -> Result<()> {
    let scenario = with_dead_letters("replay-to-source-forgotten", 20, 0).await?;
    let some = ["replay", "--all", "--to-source", "--limit", "12"];
    assert_eq!(dlq_json(&scenario, &some).await?["sent"], 12);
    topic::delete_records(scenario.platform().bootstrap_servers(), scenario.orders_topic()).await?;
    let listed = dlq_json(&scenario, &["list"]).await?;
    assert_eq!((&listed["replayed"], &listed["unresolved"]), (&json!(12), &json!(8)));
    assert_eq!(dlq_json(&scenario, &["replay", "--all"]).await?["sent"], 8);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_truncated_replay_topic_are_sent_again_only_by_name() -> Result<()> {
    let scenario = with_dead_letters("replay-topic-cut", 20, 0).await?;
    assert_eq!(dlq_json(&scenario, &["replay", "--all", "--limit", "12"]).await?["sent"], 12);
    topic::delete_records(scenario.platform().bootstrap_servers(), &scenario.replay_topic())
        .await?;
    let rest = dlq_json(&scenario, &["replay", "--all"]).await?;
    let left_alone = json!({"perhaps sent before the replay topic lost its oldest records": 20});
    assert_eq!((&rest["sent"], &rest["left_alone"]), (&json!(0), &left_alone));
    assert_eq!(dlq_json(&scenario, &["replay", "0:19"]).await?["sent"], 1);
    assert_eq!(dlq_json(&scenario, &["replay", "0:19"]).await?["sent"], 0);
    Ok(())
}
