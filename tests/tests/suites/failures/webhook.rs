//! A webhook that is down, refuses orders or its caller, answers slowly, or never ends its answer.

use anyhow::{Context, Result, ensure};
use end_to_end::proxy::Gate;
use end_to_end::service::field;
use end_to_end::webhook::Answer;
use end_to_end::{Scenario, Webhook, metrics, topic};

use super::{dead_letters, each_done_once, publish};

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_webhook_dead_letters_nothing() -> Result<()> {
    const ORDERS: u64 = 1_000;
    let webhook = Webhook::start(Answer::UNAVAILABLE)?;
    // The retries would end long before the webhook is back.
    let scenario = Scenario::open("webhook-out-of-order")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("MAX_RETRIES", "2")
        .with("RETRY_BACKOFF_SECONDS", "0.05")
        .with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let processor = scenario.processor("processor")?.start()?;
    processor.line("paused: the handler's dependency is down").await?;
    let before = webhook.calls().len();
    ensure!(before < 200, "{before} calls before the pause");
    webhook.calls_when(|calls| calls.len() >= before + 3).await;

    webhook.answer(|_| Answer::DONE);
    processor.line("resumed").await?;
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS, 0));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processor_waits_for_a_webhook_that_refuses_connections() -> Result<()> {
    const ORDERS: u64 = 300;
    let mut webhook = Webhook::closed()?;
    let scenario = Scenario::open("webhook-refuses")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let processor = scenario.processor("processor")?.env("MAX_RETRIES", "0").start()?;
    let paused = processor.line("paused: the handler's dependency is down").await?;
    assert!(paused.contains("cannot be reached"), "{paused}");

    webhook.listen()?;
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.retries), (ORDERS, 0, 0));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processor_waits_for_a_webhook_that_cuts_connections() -> Result<()> {
    const ORDERS: u64 = 300;
    let webhook = Webhook::start(Answer::DONE)?;
    let gate = Gate::start(&webhook.address()).await?;
    gate.close();
    let scenario = Scenario::open("webhook-breaks")
        .await?
        .with("HANDLER_URL", &format!("http://{}/orders", gate.address()))
        .with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let processor = scenario.processor("processor")?.start()?;
    let paused = processor.line("paused: the handler's dependency is down").await?;
    assert!(paused.contains("did not answer"), "{paused}");

    gate.open();
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS, 0));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_fail_once_are_retried_without_a_pause() -> Result<()> {
    const ORDERS: u64 = 2_000;
    let webhook = Webhook::start(Answer::DONE)?;
    webhook.answer(|order| {
        let fails = (order.offset % 5 == 0) && (order.attempt == 1);
        if fails { Answer::UNAVAILABLE } else { Answer::DONE }
    });
    let scenario = Scenario::open("webhook-fails-sometimes")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let processor = scenario.processor("processor")?.start()?;
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    let failed = webhook.calls().iter().filter(|call| call.answer == Answer::UNAVAILABLE).count();
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS, 0));
    assert_eq!(stats.retries, u64::try_from(failed)?);
    assert!(failed > 300, "{failed} calls failed");
    assert!(!processor.lines().iter().any(|line| line.contains("paused")));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_order_is_dead_lettered_with_the_webhooks_status() -> Result<()> {
    let webhook = Webhook::start(Answer::DONE)?;
    webhook.answer(|order| if order.offset == 1 { Answer::Status(422) } else { Answer::DONE });
    let scenario = Scenario::open("webhook-refuses-for-good")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("TOPIC_PARTITIONS", "1")
        .with("ORDER_COUNT", "10");
    publish(&scenario).await?;
    let processor = scenario.processor("processor")?.start()?;
    let stats = each_done_once(&scenario, &webhook, 10).await?;
    assert_eq!((stats.orders, stats.dead_letters), (9, 1));
    let letters = dead_letters(&scenario).await?;
    let (error_type, reason) = &letters["0:1"];
    assert_eq!((error_type.as_str(), reason.as_str()), ("rejected", "the webhook answers 422"));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_refuses_the_caller_dead_letters_nothing() -> Result<()> {
    const ORDERS: u64 = 500;
    const REFUSALS: [u16; 9] = [401, 403, 404, 405, 407, 415, 301, 302, 308];
    let webhook = Webhook::start(Answer::DONE)?;
    webhook.answer(|order| {
        let index = usize::try_from(order.offset).unwrap_or_default() % REFUSALS.len();
        Answer::Status(REFUSALS[index])
    });
    let scenario = Scenario::open("webhook-refuses-its-caller")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("MAX_RETRIES", "1")
        .with("RETRY_BACKOFF_SECONDS", "0.05")
        .with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let processor = scenario.processor("processor")?.start()?;
    processor.line("paused: the handler's dependency is down").await?;
    let before = webhook.calls().len();
    webhook.calls_when(|calls| calls.len() >= before + 3).await;

    webhook.answer(|_| Answer::DONE);
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS, 0));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_order_with_status_404_is_dead_lettered_after_its_retries() -> Result<()> {
    const ORDERS: u64 = 200;
    let webhook = Webhook::start(Answer::DONE)?;
    webhook.answer(|order| if order.offset == 7 { Answer::Status(404) } else { Answer::DONE });
    let scenario = Scenario::open("webhook-not-found")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("TOPIC_PARTITIONS", "1")
        .with("MAX_RETRIES", "2")
        .with("RETRY_BACKOFF_SECONDS", "0.05")
        .with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let processor = scenario.processor("processor")?.start()?;
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.retries), (ORDERS - 1, 1, 2));
    let letters = dead_letters(&scenario).await?;
    let (error_type, reason) = &letters["0:7"];
    assert_eq!(error_type, "retries-exhausted");
    assert_eq!(reason, "the webhook answers 404 (after 3 attempts)");
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_with_an_endless_body_counts_by_its_status() -> Result<()> {
    const ORDERS: u64 = 20;
    let webhook = Webhook::start(Answer::DONE)?;
    webhook.answer(|order| Answer::Endless(if order.offset == 1 { 422 } else { 200 }));
    let scenario = Scenario::open("webhook-endless")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("HANDLER_TIMEOUT_MS", "3000")
        .with("TOPIC_PARTITIONS", "1")
        .with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let processor = scenario.processor("processor")?.start()?;
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.retries), (ORDERS - 1, 1, 0));
    assert_eq!(webhook.calls().len(), usize::try_from(ORDERS)?, "each was posted once");
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_record_delays_only_the_committed_offset_also_through_a_kill() -> Result<()> {
    const ORDERS: u64 = 2_000;
    const SLOW: (i32, i64) = (0, 5);
    let webhook = Webhook::start(Answer::DONE)?;
    webhook.answer(|order| {
        let is_slow = (order.partition, order.offset) == SLOW;
        if is_slow { Answer::RetryAfter(503, 30) } else { Answer::DONE }
    });
    let scenario = Scenario::open("webhook-retry-after")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let mut processor = scenario.processor("processor-1")?.start()?;
    let waiting = "all orders but one";
    let stats = scenario.stats_when(waiting, |stats| stats.orders == ORDERS - 1).await?;
    let partition = stats.partitions.first().context("find partition 0")?;
    assert_eq!(partition.get("committed_offset"), Some(&SLOW.1.into()), "{partition}");
    let failed = processor.line("failed, will be tried again").await?;
    assert_eq!(field(&failed, "retry_in_ms")?, 30_000);
    let before = webhook.calls().len();
    assert_eq!(before, usize::try_from(ORDERS)?, "the others were called once");
    processor.kill().await?;

    // The processor has committed all other orders before the kill.
    webhook.answer(|_| Answer::DONE);
    let processor = scenario.processor("processor-2")?.start()?;
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.retries), (ORDERS, 0, 1));
    let calls = webhook.calls();
    let after: Vec<_> = calls[before..].iter().map(|call| &call.order).collect();
    assert_eq!(after.len(), 1);
    assert_eq!((after[0].partition, after[0].offset), SLOW);
    assert_eq!(after[0].attempt, 2, "the attempt before the kill counts");
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_with_a_full_window_is_reported_and_blocks_no_other() -> Result<()> {
    const ORDERS: u64 = 2_000;
    let webhook = Webhook::start(Answer::DONE)?;
    let scenario = Scenario::open("window")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("TOPIC_PARTITIONS", "2")
        // The smallest window.
        .with("OFFSET_METADATA_MAX_BYTES", "1600")
        .with("CORRUPT_KINDS", "hot-key")
        .with("CORRUPT_RATE", "0.5")
        .with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let servers = scenario.platform().bootstrap_servers();
    let records = topic::read(servers, scenario.orders_topic()).await?;
    let is_hot = |record: &&topic::TopicRecord| record.key.as_deref() == Some(b"hot-key");
    let first = records.iter().filter(is_hot).min_by_key(|record| record.offset);
    let first = first.map(|record| (record.partition, record.offset)).context("find a hot key")?;
    webhook.answer(move |order| {
        let is_first = (order.partition, order.offset) == first;
        if is_first { Answer::RetryAfter(503, 3_600) } else { Answer::DONE }
    });

    let processor = scenario.processor("processor")?.env("HTTP_ADDR", "127.0.0.1:0").start()?;
    let warned = processor.line("takes nothing in").await?;
    assert_eq!(field(&warned, "partition")?, first.0);
    assert_eq!(field(&warned, "first_incomplete")?, first.1);
    let reason = field(&warned, "reason")?.to_string();
    ensure!(reason.contains("no room") && reason.contains("next attempt, due in 35"), "{reason}");
    let (status, body) = metrics::get(&processor, "/readyz").await?;
    let named = format!("{}-{} takes nothing in", scenario.orders_topic(), first.0);
    ensure!(status == 503 && body.contains(&named), "{status}: {body}");
    let other = usize::try_from(1 - first.0)?;
    scenario.stats_when("the other partition", |stats| stats.partitions[other]["lag"] == 0).await?;
    processor.drain().await
}
