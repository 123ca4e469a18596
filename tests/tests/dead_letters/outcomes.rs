//! Replays over a connection that fails.

use anyhow::Result;
use end_to_end::Scenario;
use end_to_end::proxy::{ApiKey, Fault};

use crate::{dlq_json, make_dead_letters, replayed_once};

/// Lets a fault hit the requests in which a replay sends its letters, after the one that claims the lock.
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
async fn letters_whose_acknowledgement_is_lost_are_found_and_not_sent_again() -> Result<()> {
    replay_with("replay-answer-lost", Fault::LoseAnswer, 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_did_not_arrive_are_sent_again() -> Result<()> {
    replay_with("replay-request-lost", Fault::LoseRequest, 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_told_and_nothing_is_sent() -> Result<()> {
    let scenario = Scenario::open_behind_proxy("dlq-no-broker").await?;
    scenario.proxy()?.close();
    for arguments in [&["list"][..], &["replay", "--all"], &["release"]] {
        let words = crate::dlq_ends_with(&scenario, 1, arguments).await?;
        assert!(words.contains("no broker could be reached"), "{words}");
    }
    Ok(())
}
