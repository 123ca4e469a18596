//! Replays of two operators at the same time.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::Scenario;
use end_to_end::proxy::{ApiKey, Fault};
use tokio::time::sleep;

use super::{
    dlq_ends_with, dlq_json, dlq_start, make_dead_letters, replayed_once, until_replayed,
    with_dead_letters,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replay_ends_while_the_first_holds_the_lock() -> Result<()> {
    let scenario = with_dead_letters("lock-alive", 200, 0).await?;
    let arguments = ["replay", "--all", "--rate", "20", "--by", "kim"];
    let mut first = dlq_start(&scenario, "dlq-first", &arguments)?;
    until_replayed(&scenario, 1).await?;
    let output = dlq_ends_with(&scenario, 1, &["replay", "--all"]).await?;
    assert!(output.contains("kim@") && output.contains("is replaying"), "{output}");

    // Listing needs no lock.
    let planned = dlq_json(&scenario, &["replay", "--all", "--dry-run"]).await?;
    assert!(planned["chosen"].as_u64().is_some_and(|chosen| chosen < 200), "{planned}");
    first.expect_exit(0).await?;
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_whose_lock_is_broken_stops() -> Result<()> {
    let scenario = with_dead_letters("lock-broken", 200, 0).await?;
    let mut first = dlq_start(&scenario, "dlq-first", &["replay", "--all", "--rate", "10"])?;
    until_replayed(&scenario, 1).await?;
    let second = dlq_json(&scenario, &["replay", "--all", "--break-lock"]).await?;
    first.expect_exit(1).await?;
    first.line("another run took this one for dead").await?;
    assert!(second["sent"].as_u64().is_some_and(|sent| 0 < sent && sent < 200), "{second}");
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_was_stopped_too_long_has_lost_its_lock() -> Result<()> {
    let scenario = with_dead_letters("lock-frozen", 200, 0).await?;
    let mut frozen = dlq_start(&scenario, "dlq-frozen", &["replay", "--all", "--rate", "20"])?;
    until_replayed(&scenario, 1).await?;
    frozen.freeze()?;
    let second = dlq_json(&scenario, &["replay", "--all"]).await?;
    frozen.thaw()?;
    frozen.expect_exit(1).await?;
    assert!(second["sent"].as_u64().is_some_and(|sent| 0 < sent && sent < 200), "{second}");
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, 200);
    Ok(())
}

/// The second letter is due while a heartbeat waits for its acknowledgement, and so does the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_nothing_after_a_late_acknowledgement_of_its_lock() -> Result<()> {
    const LATE: Duration = Duration::from_secs(7);
    let scenario = Scenario::open_behind_proxy("lock-slow").await?;
    make_dead_letters(&scenario, 3, 0).await?;
    let mut slow = dlq_start(&scenario, "dlq-slow", &["replay", "--all", "--rate", "12/m"])?;
    until_replayed(&scenario, 1).await?;
    let proxy = scenario.proxy()?;
    proxy.inject(ApiKey::Produce, Fault::DelayAnswer(LATE), 0, 2);
    proxy.inject(ApiKey::Produce, Fault::Hold, 0, 1);

    // The held request after the two late renewals has to be a third one.
    proxy.hit(ApiKey::Produce, 3).await;
    ensure!(proxy.deliver_held().await? == 1, "nothing was held");
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, 1);
    slow.kill().await
}

/// The request reaches the broker after its deadline. If the run searched at once and sent the letters again, that second
/// request would be held too, and would reach the broker after the first one.
#[tokio::test(flavor = "multi_thread")]
async fn letters_whose_request_arrives_late_are_not_sent_again() -> Result<()> {
    const LATE: Duration = Duration::from_secs(7);
    let scenario = Scenario::open_behind_proxy("replay-late").await?;
    make_dead_letters(&scenario, 3, 0).await?;
    let proxy = scenario.proxy()?;
    // The first request claims the lock.
    proxy.inject(ApiKey::Produce, Fault::Hold, 1, 1);
    let mut late = dlq_start(&scenario, "dlq-late", &["replay", "--all"])?;
    proxy.hit(ApiKey::Produce, 1).await;
    // The next request is a heartbeat.
    proxy.inject(ApiKey::Produce, Fault::Hold, 1, 1);
    sleep(LATE).await;
    proxy.heal();
    proxy.deliver_held().await?;
    late.expect_exit(0).await?;
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, 3);
    Ok(())
}
