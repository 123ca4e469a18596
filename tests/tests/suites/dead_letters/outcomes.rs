//! Replays over failing connections.

use anyhow::Result;
use end_to_end::Scenario;
use end_to_end::proxy::{ApiKey, Fault};

use super::{dlq_json, make_dead_letters, replayed_once};

/// Injects a fault into the produce requests of a replay after its lock.
async fn replay_with(name: &str, fault: Fault, hits: u32) -> Result<()> {
    let scenario = Scenario::open_behind_proxy(name).await?;
    make_dead_letters(&scenario, 100, 0).await?;
    scenario.proxy()?.inject(ApiKey::Produce, fault, 1, hits);
    let sent = dlq_json(&scenario, &["replay", "--all"]).await?;
    assert_eq!(sent["sent"], 100, "{sent}");
    assert_eq!(scenario.proxy()?.hits(ApiKey::Produce), hits);
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, 100);
    assert_eq!(dlq_json(&scenario, &["replay", "--all"]).await?["sent"], 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_with_a_lost_acknowledgement_are_found_and_not_sent_again() -> Result<()> {
    replay_with("replay-answer-lost", Fault::LoseAnswer, 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_did_not_arrive_are_sent_again() -> Result<()> {
    replay_with("replay-request-lost", Fault::LoseRequest, 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_broker_is_reported_and_nothing_is_sent() -> Result<()> {
    let scenario = Scenario::open_behind_proxy("dlq-no-broker").await?;
    scenario.proxy()?.close();
    for arguments in [&["list"][..], &["replay", "--all"], &["release"]] {
        let output = super::dlq_ends_with(&scenario, 1, arguments).await?;
        assert!(output.contains("no broker could be reached"), "{output}");
    }
    Ok(())
}
