//! The topics of a group, for all kinds of group ids.

use anyhow::Result;
use end_to_end::Scenario;

use super::{dlq, dlq_ends_with, dlq_json, make_dead_letters, stats_after_replays};

const LETTERS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn groups_with_similar_ids_share_no_replays_and_no_actions() -> Result<()> {
    let mut scenario = Scenario::open("groups-alike").await?;
    let id = scenario.group().to_owned();
    let groups = ["/a", ":a", ".a", "_a"].map(|end| format!("{id}{end}"));
    for (index, group) in groups.iter().enumerate() {
        scenario = scenario.with("CONSUMER_GROUP_ID", group);
        if index == 0 {
            make_dead_letters(&scenario, LETTERS, 0).await?;
            dlq(&scenario, &["replay", "--all"]).await?;
            dlq(&scenario, &["dismiss", "--all", "--reason", "the test"]).await?;
        }
        let processor = scenario.processor("processor")?.start()?;
        let stats = match index {
            0 => stats_after_replays(&scenario, LETTERS).await?,
            _ => scenario.stats_at_end(LETTERS).await?,
        };
        processor.drain().await?;
        let replayed = if index == 0 { LETTERS } else { 0 };
        assert_eq!((stats.orders, stats.replayed), (LETTERS, replayed), "{group}");
        let listed = dlq_json(&scenario, &["list"]).await?;
        assert_eq!(listed["replayed"], replayed, "{group}: {listed}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_topics_of_an_earlier_release_uses_them_or_is_refused() -> Result<()> {
    let scenario = Scenario::open("groups-earlier").await?;
    let (id, orders) = (scenario.group().to_owned(), scenario.orders_topic().to_owned());
    let earlier = format!("{orders}.{id}-a");
    let scenario = scenario
        .with("CONSUMER_GROUP_ID", &format!("{id}/a"))
        .with("GROUP_TOPICS_PREFIX", &earlier);
    make_dead_letters(&scenario, LETTERS, 0).await?;
    dlq(&scenario, &["replay", "--all"]).await?;
    let processor = scenario.processor("processor")?.start()?;
    stats_after_replays(&scenario, LETTERS).await?;
    processor.drain().await?;

    let scenario = scenario.with("GROUP_TOPICS_PREFIX", "");
    let mut refused = scenario.processor("processor-refused")?.start()?;
    let way = format!("GROUP_TOPICS_PREFIX={earlier} to keep its topics");
    refused.line(&way).await?;
    refused.expect_exit(1).await?;
    let output = dlq_ends_with(&scenario, 1, &["list"]).await?;
    assert!(output.contains(&way), "{output}");
    let output = format!("{:#}", scenario.stats().await.expect_err("stats is refused, too"));
    assert!(output.contains(&way), "{output}");

    let scenario = scenario.with("CONSUMER_GROUP_ID", &format!("{id}:a"));
    let processor = scenario.processor("processor-of-another-group")?.start()?;
    let stats = scenario.stats_at_end(LETTERS).await?;
    assert_eq!((stats.orders, stats.replayed), (LETTERS, 0));
    processor.drain().await
}
