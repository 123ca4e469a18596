//! Failures that heal and failures that do not: a webhook that is out of order, a handler that behaves badly, a
//! dead-letter topic that cannot be written, and what becomes of the orders.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use end_to_end::proxy::{ApiKey, Fault, Gate};
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use end_to_end::webhook::Answer;
use end_to_end::{Scenario, Stats, Webhook, metrics, topic};

/// A release of everything that dead letters have stopped.
const RELEASE: (&[u8], &[u8]) = (b"release", br#"{"at_ms":0,"by":"the test"}"#);

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_out_of_order_dead_letters_nothing() -> Result<()> {
    const ORDERS: u64 = 1_000;
    let webhook = Webhook::start(Answer::UNAVAILABLE)?;
    // All retries would be used up long before the webhook is back.
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
async fn a_webhook_that_is_not_there_yet_is_waited_for() -> Result<()> {
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
async fn a_webhook_whose_connections_break_is_waited_for() -> Result<()> {
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
async fn orders_that_fail_for_a_moment_are_tried_again_and_pause_nothing() -> Result<()> {
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
async fn what_is_refused_for_good_is_dead_lettered_with_the_webhooks_words() -> Result<()> {
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
async fn a_webhook_that_refuses_its_caller_dead_letters_nothing() -> Result<()> {
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
async fn an_order_that_alone_has_no_place_is_dead_lettered_after_its_retries() -> Result<()> {
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
async fn an_answer_whose_body_never_ends_is_judged_by_its_status() -> Result<()> {
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
async fn a_record_that_waits_holds_back_the_commit_and_nothing_else_through_a_kill() -> Result<()> {
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

    // Everything but the slow one was committed before the kill, and so is done once.
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
async fn a_partition_whose_window_is_full_is_named_and_holds_up_no_other() -> Result<()> {
    const ORDERS: u64 = 2_000;
    let webhook = Webhook::start(Answer::DONE)?;
    let scenario = Scenario::open("window")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("TOPIC_PARTITIONS", "2")
        // The narrowest window there is.
        .with("OFFSET_METADATA_MAX_BYTES", "2012")
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

#[tokio::test(flavor = "multi_thread")]
async fn too_many_dead_letters_stop_a_partition_until_a_release_that_is_newer() -> Result<()> {
    const ORDERS: u64 = 200;
    const GUARD: u64 = 20;
    let webhook = Webhook::start(Answer::Status(400))?;
    let scenario = Scenario::open("guard")
        .await?
        .with("HANDLER_URL", &webhook.url())
        .with("HANDLER_CONCURRENCY", "1")
        .with("TOPIC_PARTITIONS", "1")
        .with("DLQ_GUARD", &GUARD.to_string())
        .with("HTTP_ADDR", "127.0.0.1:0")
        .with("ORDER_COUNT", &ORDERS.to_string());
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    release(&scenario).await?;
    publish(&scenario).await?;
    processor.line("stopped: too many dead letters").await?;
    processor.line("waiting for a release").await?;
    let stopped = |stats: &Stats| stats.dead_letters == GUARD;
    let stats = scenario.stats_when("the guard's number of dead letters", stopped).await?;
    assert_eq!(stats.orders, 0);
    let serving = processor.line("serving /healthz").await?;
    let address = field(&serving, "http_addr")?;
    let healthcheck = scenario
        .processor("healthcheck")?
        .env("HTTP_ADDR", address.as_str().context("read the address")?)
        .args(["healthcheck"]);
    let unready = format!("{:#}", healthcheck.output().await.expect_err("it is not ready"));
    assert!(unready.contains("stopped after 20 dead letters: rejected"), "{unready}");

    webhook.answer(|_| Answer::DONE);
    release(&scenario).await?;
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS - GUARD, GUARD));
    assert_eq!(webhook.calls().len(), usize::try_from(ORDERS)?);
    healthcheck.output().await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_counted_on_after_a_restart() -> Result<()> {
    const GUARD: u64 = 20;
    const BEFORE: usize = 12;
    let ids: Vec<String> = (0..100).map(|n| format!("order-{n}")).collect();
    let orders: Vec<_> = ids.iter().map(|id| (0, id.as_str())).collect();
    let webhook = Webhook::start(Answer::Status(400))?;
    let scenario = guarded_scenario("guard-counts-on", &webhook, GUARD).await?;
    let mut first = scenario.processor("processor-1")?.start()?;
    first.line("partitions assigned").await?;
    write_orders(&scenario, &orders[..BEFORE]).await?;
    scenario.stats_at_end(u64::try_from(BEFORE)?).await?;
    first.kill().await?;

    let second = scenario.processor("processor-2")?.start()?;
    second.line("partitions assigned").await?;
    write_orders(&scenario, &orders[BEFORE..]).await?;
    second.line("stopped: too many dead letters").await?;
    let stopped = |stats: &Stats| stats.dead_letters == GUARD;
    scenario.stats_when("the guard's number of dead letters", stopped).await?;
    assert_eq!(webhook.calls().len(), usize::try_from(GUARD)?);
    second.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_stays_stopped_through_restarts_until_it_is_released() -> Result<()> {
    const ORDERS: u64 = 200;
    const GUARD: u64 = 20;
    let webhook = Webhook::start(Answer::Status(400))?;
    let scenario = guarded_scenario("guard-stays", &webhook, GUARD).await?;
    let scenario = scenario.with("ORDER_COUNT", &ORDERS.to_string());
    publish(&scenario).await?;
    let mut first = scenario.processor("processor-1")?.start()?;
    first.line("stopped: too many dead letters").await?;
    first.line("waiting for a release").await?;
    let stopped = |stats: &Stats| stats.dead_letters == GUARD;
    scenario.stats_when("the guard's number of dead letters", stopped).await?;
    first.kill().await?;

    webhook.answer(|_| Answer::DONE);
    let second = scenario.processor("processor-2")?.start()?;
    second.line("stopped: too many dead letters").await?;
    second.line("waiting for a release").await?;
    second.drain().await?;
    assert_eq!(webhook.calls().len(), usize::try_from(GUARD)?, "a restart is no release");

    // Nobody has the partition when it is released.
    release(&scenario).await?;
    let third = scenario.processor("processor-3")?.start()?;
    let stats = each_done_once(&scenario, &webhook, ORDERS).await?;
    assert_eq!((stats.orders, stats.dead_letters), (ORDERS - GUARD, GUARD));
    third.line("released: going on").await?;
    third.drain().await?;

    let fourth = scenario.processor("processor-4")?.start()?;
    fourth.line("partitions assigned").await?;
    write_orders(&scenario, &[(0, "after")]).await?;
    each_done_once(&scenario, &webhook, ORDERS + 1).await?;
    fourth.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_wait_for_their_topic_and_are_not_lost_when_the_processor_stops() -> Result<()>
{
    const ORDERS: u64 = 400;
    let simulation = Simulation { rate: 0.2, retries_max: 0 };
    let scenario =
        Scenario::open_behind_proxy("dlq-not-writable").await?.with("DRAIN_TIMEOUT_MS", "500");
    let direct = scenario.platform().bootstrap_servers();
    scenario
        .generator("generator")?
        .env("BOOTSTRAP_SERVERS", direct)
        .env("ORDER_RATE", "0")
        .env("ORDER_COUNT", &ORDERS.to_string())
        .start()?
        .expect_exit(0)
        .await?;
    // The processor writes nothing but dead letters.
    scenario.proxy()?.inject(ApiKey::Produce, Fault::LoseRequest, 0, u32::MAX);
    let processor = |name| -> Result<_> {
        scenario
            .processor(name)?
            .env("ERROR_SIMULATION_RATE", "0.2")
            .env("MAX_RETRIES", "0")
            .start()
    };
    let first = processor("processor-1")?;
    first.line("waiting for the dead-letter topic").await?;
    let others = scenario.verdict(simulation).await?.orders;
    let stats = scenario.stats_when("the good orders", |stats| stats.orders == others).await?;
    assert_eq!(stats.dead_letters, 0, "what is not written does not count");
    first.drain().await?;

    let second = processor("processor-2")?;
    second.line("waiting for the dead-letter topic").await?;
    scenario.proxy()?.heal();
    second.line("takes letters again").await?;
    let (stats, verdict) = scenario.check_exact(ORDERS, simulation).await?;
    assert!(stats.dead_letters > 20, "{} dead letters", stats.dead_letters);
    assert_eq!(verdict.dead_letter_repeats, 0, "what was given up was never sent");
    second.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_or_hangs_costs_its_order_an_attempt() -> Result<()> {
    let scenario = Scenario::open("odd-handler")
        .await?
        .with("TOPIC_PARTITIONS", "1")
        .with("HANDLER_TIMEOUT_MS", "200");
    let processor = scenario.odd_processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    write_orders(&scenario, &[(0, "good-1"), (0, "panics"), (0, "hangs-once"), (0, "good-2")])
        .await?;
    let stats = scenario.stats_at_end(4).await?;
    assert_eq!((stats.orders, stats.dead_letters, stats.retries), (3, 1, 1));
    let (error_type, reason) = &dead_letters(&scenario).await?["0:1"];
    assert_eq!(error_type, "panic");
    assert!(reason.contains("this order makes the handler panic"), "{reason}");
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_blocks_its_thread_ends_the_processor_and_another_takes_over() -> Result<()>
{
    let scenario = Scenario::open("stuck").await?.with("SESSION_TIMEOUT_MS", "6000");
    let mut stuck = scenario
        .odd_processor("stuck")?
        .env("TOKIO_WORKER_THREADS", "4")
        .env("HANDLER_TIMEOUT_MS", "300")
        .env("DRAIN_TIMEOUT_MS", "100")
        .env("HTTP_ADDR", "127.0.0.1:0")
        .start()?;
    stuck.line("partitions assigned").await?;
    assert_eq!(metrics::get(&stuck, "/healthz").await?.0, 200);
    write_orders(&scenario, &[(0, "blocks")]).await?;
    stuck.line("stuck: leaving the group and ending").await?;
    let (code, words) = metrics::get(&stuck, "/healthz").await?;
    assert!((code == 503) && words.contains("blocked its thread"), "{code} {words}");
    stuck.line("left the group").await?;
    stuck.expect_exit(1).await?;
    // Another one, whose handler does not mind such an order.
    let other = scenario.processor("other")?.start()?;
    let stats = scenario.stats_at_end(1).await?;
    assert_eq!((stats.orders, stats.dead_letters), (1, 0));
    other.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_blocks_every_thread_ends_the_processor_too() -> Result<()> {
    const PARTITIONS: i32 = 16;
    let scenario = Scenario::open("all-stuck")
        .await?
        .with("TOPIC_PARTITIONS", &PARTITIONS.to_string())
        .with("ORDER_COUNT", "1");
    publish(&scenario).await?;
    // All there before the processor starts: it would end in an orderly way after the first one.
    let orders: Vec<_> = (0..PARTITIONS).map(|partition| (partition, "blocks")).collect();
    write_orders(&scenario, &orders).await?;
    let mut stuck = scenario
        .odd_processor("stuck")?
        .env("TOKIO_WORKER_THREADS", "2")
        .env("HANDLER_TIMEOUT_MS", "300")
        .env("DRAIN_TIMEOUT_MS", "100")
        .start()?;
    stuck.expect_exit(1).await?;
    stuck.line("still stuck: ending without leaving the group").await?;
    Ok(())
}

/// Opens a scenario of one partition that so many dead letters stop.
async fn guarded_scenario(name: &str, webhook: &Webhook, guard: u64) -> Result<Scenario> {
    let scenario = Scenario::open(name).await?.with("HANDLER_URL", &webhook.url());
    let scenario = scenario.with("HANDLER_CONCURRENCY", "1").with("TOPIC_PARTITIONS", "1");
    Ok(scenario.with("DLQ_GUARD", &guard.to_string()))
}

/// Publishes the scenario's orders.
async fn publish(scenario: &Scenario) -> Result<()> {
    let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
    generator.expect_exit(0).await
}

/// Writes orders with these ids to these partitions.
async fn write_orders(scenario: &Scenario, orders: &[(i32, &str)]) -> Result<()> {
    let schema_id = scenario.register_order_schema().await?;
    let servers = scenario.platform().bootstrap_servers();
    for (partition, id) in orders {
        let value = topic::order_value(schema_id, id, "Item1", 12.5)?;
        let key = Some(id.as_bytes());
        topic::write(servers, scenario.orders_topic(), *partition, key, Some(&value)).await?;
    }
    Ok(())
}

async fn release(scenario: &Scenario) -> Result<()> {
    let servers = scenario.platform().bootstrap_servers();
    let (key, value) = RELEASE;
    topic::write(servers, &scenario.actions_topic(), 0, Some(key), Some(value)).await?;
    Ok(())
}

/// Returns error type and reason of every dead letter, by its original `partition:offset`.
async fn dead_letters(scenario: &Scenario) -> Result<BTreeMap<String, (String, String)>> {
    let servers = scenario.platform().bootstrap_servers();
    let mut letters = BTreeMap::new();
    for letter in topic::read(servers, scenario.dead_letter_topic()).await? {
        let header = |name| letter.header_text(name).with_context(|| format!("find {name}"));
        let place = format!("{}:{}", header("original_partition")?, header("original_offset")?);
        letters.insert(place, (header("dlq.error.type")?, header("error_reason")?));
    }
    Ok(letters)
}

/// Waits for the end of `records` records, and checks that every processed order was done once by the webhook, and that
/// the numbers are those of exactly these orders.
async fn each_done_once(scenario: &Scenario, webhook: &Webhook, records: u64) -> Result<Stats> {
    let stats = scenario.stats_at_end(records).await?;
    let verdict = scenario.verdict(Simulation::OFF).await?;
    let done = webhook.done();
    let repeated: BTreeMap<_, _> = done.iter().filter(|(_, times)| **times != 1).collect();
    ensure!(repeated.is_empty(), "done more than once: {repeated:?}");
    assert_eq!(done.len(), usize::try_from(stats.orders)?);
    assert_eq!(stats.orders + stats.dead_letters, verdict.records - verdict.repeats);
    let calls = webhook.calls();
    let done = calls.iter().filter(|call| call.answer.is_done());
    let sum: f64 = done.map(|call| call.order.price).sum();
    let told: f64 = stats.sum.parse()?;
    ensure!((sum - told).abs() < 0.01, "{sum} was posted, {told} was counted");
    Ok(stats)
}
