//! The metrics of processors and generators: those of all replicas add up to the group's statistics.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use end_to_end::metrics::Sample;
use end_to_end::{Metrics, Platform, Scenario, Service, Stats, outsiders};

const ORDERS: u64 = 600;
/// The partitions of the orders' topic, and of the replay topic.
const PARTITIONS: usize = 4;

type Place = (String, String);

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_all_replicas_add_up_to_the_groups_statistics() -> Result<()> {
    let scenario = open("metrics").await?;
    let [first, second] = two_processors(&scenario).await?;
    publish(&scenario).await?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    assert!((stats.retries > 0) && (stats.dead_letters > 0), "{stats:?}");

    let says = [settled(&first, &stats).await?, settled(&second, &stats).await?];
    let [first_has, second_has] = [&says[0], &says[1]].map(partitions);
    assert!(first_has.is_disjoint(&second_has));
    assert_eq!((first_has.len(), second_has.len()), (PARTITIONS, PARTITIONS));
    agrees(&stats, &says);
    for says in &says {
        average_is_that_of_the_group(&stats, says)?;
    }
    if let Platform::Kafka(_) = scenario.platform() {
        lag_is_that_of_kafkas_own_tool(&scenario, &says).await?;
        for service in [&first, &second] {
            is_valid(&scenario, service).await?;
        }
    }

    // The first processor takes over the partitions of the second one, and no record counts twice.
    let [_, second_did] = says;
    second.drain().await?;
    let has_all = |says: &Metrics| partitions(says).len() == 2 * PARTITIONS;
    let first_did = Metrics::when(&first, "all partitions", has_all).await?;
    agrees(&stats, &[first_did, second_did]);
    first.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_series_of_a_moved_partition_vanish_and_no_counter_decreases() -> Result<()> {
    let scenario = open("metrics-rebalance").await?;
    let first = processor(&scenario, "processor-1")?;
    publish(&scenario).await?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    let alone = settled(&first, &stats).await?;
    assert_eq!(partitions(&alone).len(), 2 * PARTITIONS);

    let second = processor(&scenario, "processor-2")?;
    let has_half = |says: &Metrics| partitions(says).len() == PARTITIONS;
    let shared = Metrics::when(&first, "half of the partitions", has_half).await?;
    let kept = partitions(&shared);
    let of_partitions = shared.samples.iter().filter_map(|sample| Some((sample, place(sample)?)));
    for (sample, place) in of_partitions.filter(|(_, (topic, _))| !is_dead_letters(topic)) {
        assert!(kept.contains(&place), "{sample:?} is not this one's any more");
    }
    never_back(&alone, &shared);

    second.drain().await?;
    let has_all = |says: &Metrics| partitions(says).len() == 2 * PARTITIONS;
    let again = Metrics::when(&first, "all partitions", has_all).await?;
    never_back(&alone, &again);
    let rebalances = again.sum("kafka_consumer_rebalances_total", &[]);
    assert!(rebalances > alone.sum("kafka_consumer_rebalances_total", &[]));
    first.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generators_metrics_count_its_orders() -> Result<()> {
    let scenario = open("metrics-generator").await?;
    // One order, and the next one after the test.
    let generator = scenario.generator("generator")?.env("ORDER_RATE", "0.001").start()?;
    generator.line("acknowledged").await?;
    let is_counted = |says: &Metrics| count(says, "orders_acknowledged_total", &[]) == 1;
    let says = Metrics::when(&generator, "one order", is_counted).await?;
    let sent = [("messaging_operation_name", "send"), ("messaging_system", "kafka")];
    // A broker may refuse the first request for a new topic.
    let messages = count(&says, "messaging_client_sent_messages_total", &sent);
    let requests = count(&says, "messaging_client_operation_duration_seconds_count", &sent);
    assert!(messages == 1 && messages <= requests, "{messages} in {requests} requests");
    assert!(count(&says, "schema_registry_requests_total", &[("code", "200")]) >= 1);
    assert_eq!(says.matching("build_info", &[("service", "order-generator")]).len(), 1);
    assert_eq!(says.matching("orders_generator_rate_target", &[]).len(), 1);
    assert_eq!(count(&says, "orders_control_paused", &[]), 0);
    if let Platform::Kafka(_) = scenario.platform() {
        is_valid(&scenario, &generator).await?;
    }
    generator.drain().await
}

async fn open(name: &str) -> Result<Scenario> {
    let scenario = Scenario::open(name).await?;
    Ok(scenario
        .with("TOPIC_PARTITIONS", &PARTITIONS.to_string())
        .with("HTTP_ADDR", "127.0.0.1:0")
        .with("ERROR_SIMULATION_RATE", "0.2")
        .with("RETRY_BACKOFF_SECONDS", "0.05"))
}

fn processor(scenario: &Scenario, name: &str) -> Result<Service> {
    scenario.processor(name)?.start()
}

/// Starts two processors and waits until each has partitions.
async fn two_processors(scenario: &Scenario) -> Result<[Service; 2]> {
    let first = processor(scenario, "processor-1")?;
    first.line("partitions assigned").await?;
    let second = processor(scenario, "processor-2")?;
    for service in [&first, &second] {
        let has_half = |says: &Metrics| partitions(says).len() == PARTITIONS;
        Metrics::when(service, "half of the partitions", has_half).await?;
    }
    Ok([first, second])
}

async fn publish(scenario: &Scenario) -> Result<()> {
    let generator = scenario.generator("publisher")?.env("ORDER_COUNT", &ORDERS.to_string());
    generator.env("ORDER_RATE", "0").start()?.expect_exit(0).await
}

/// Waits until a processor's metrics have no lag and all of the group's statistics.
async fn settled(service: &Service, stats: &Stats) -> Result<Metrics> {
    let is_settled = |says: &Metrics| {
        let open = ["kafka_consumergroup_lag", "orders_incomplete_records"];
        open.iter().all(|name| count(says, name, &[]) == 0)
            && count(says, "orders_price_count", &[]) == stats.orders
    };
    Metrics::when(service, "a quiet group", is_settled).await
}

/// Returns a sum of whole numbers.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole and small"
)]
fn count(says: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    says.sum(name, labels).round() as u64
}

/// Returns the partition of a sample.
fn place(sample: &Sample) -> Option<Place> {
    let label = |name: &str| sample.labels.get(name).cloned();
    let topic = label("topic").or(label("messaging_destination_name"))?;
    Some((topic, label("partition").or(label("messaging_destination_partition_id"))?))
}

/// Returns the partitions with samples.
fn partitions(says: &Metrics) -> BTreeSet<Place> {
    says.matching("orders_incomplete_records", &[]).into_iter().filter_map(place).collect()
}

fn is_dead_letters(topic: &str) -> bool {
    topic.ends_with("-dlq")
}

/// Checks the metrics of replicas against the group's statistics.
fn agrees(stats: &Stats, replicas: &[Metrics]) {
    let sum =
        |name, labels: &[_]| replicas.iter().map(|says| count(says, name, labels)).sum::<u64>();
    let records = |outcome| sum("orders_records_total", &[("outcome", outcome)]);
    assert_eq!(records("processed"), stats.orders);
    assert_eq!(records("dead_lettered"), stats.dead_letters);
    assert_eq!(sum("orders_retries_total", &[]), stats.retries);
    assert_eq!(sum("orders_retries_total", &[("error_type", "simulated")]), stats.retries);
    assert_eq!(sum("orders_dlq_records_total", &[]), stats.dead_letters);
    assert_eq!(sum("messaging_client_sent_messages_total", &[]), stats.dead_letters);
    let attempts = sum("messaging_process_duration_seconds_count", &[]);
    assert_eq!(attempts, stats.orders + stats.dead_letters + stats.retries, "each was timed once");
}

fn average_is_that_of_the_group(stats: &Stats, says: &Metrics) -> Result<()> {
    for (name, expected) in [
        ("orders_price_average", stats.average),
        ("orders_price_recent_average", stats.recent_average),
        ("orders_revenue", Some(stats.sum.parse()?)),
    ] {
        let expected = expected.with_context(|| format!("find the {name} in {stats:?}"))?;
        let difference = says.sum(name, &[]) - expected;
        assert!(difference.abs() < 1e-6, "{name}: {difference}");
    }
    Ok(())
}

/// Checks that every counter of the first metrics is in the second ones, if its partition is, and not smaller.
fn never_back(before: &Metrics, after: &Metrics) {
    let is_counter = |sample: &&Sample| {
        ["_total", "_count", "_bucket", "_sum"].iter().any(|end| sample.name.ends_with(end))
    };
    let kept = partitions(after);
    let values: BTreeMap<_, f64> =
        after.samples.iter().map(|s| ((&s.name, &s.labels), s.value)).collect();
    let mut compared = 0;
    for sample in before.samples.iter().filter(is_counter) {
        let is_shown =
            place(sample).is_none_or(|place| kept.contains(&place) || is_dead_letters(&place.0));
        if is_shown {
            let after = values.get(&(&sample.name, &sample.labels));
            assert!(after.is_some_and(|after| *after >= sample.value), "{sample:?}: {after:?}");
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared} counters");
}

async fn lag_is_that_of_kafkas_own_tool(scenario: &Scenario, replicas: &[Metrics]) -> Result<()> {
    let tool = outsiders::kafka_tool(scenario, outsiders::CONSUMER_GROUPS);
    let told = tool.args(["--describe", "--group", scenario.group()]).output().await?;
    let mut compared = 0;
    for line in told.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [group, topic, partition, offset, _end, lag, ..] = words.as_slice() else { continue };
        if *group != scenario.group() {
            continue;
        }
        let labels = [("consumergroup", *group), ("topic", *topic), ("partition", *partition)];
        let sum = |name| replicas.iter().map(|says| count(says, name, &labels)).sum::<u64>();
        assert_eq!(sum("kafka_consumergroup_lag").to_string(), *lag, "{line}");
        assert_eq!(sum("kafka_consumergroup_current_offset").to_string(), *offset, "{line}");
        assert_eq!(sum("kafka_consumergroup_lag_seconds"), 0, "{line}");
        compared += 1;
    }
    assert_eq!(compared, 2 * PARTITIONS, "{told}");
    Ok(())
}

/// Checks a service's metrics with Prometheus's own parser of `OpenMetrics`.
async fn is_valid(scenario: &Scenario, service: &Service) -> Result<()> {
    let address = service.http_address().await?;
    let command = outsiders::python(scenario, "openmetrics.py")?;
    let told = command.args([format!("http://{address}/metrics")]).output().await?;
    assert!(told.contains("messaging_client_operation_duration_seconds histogram"), "{told}");
    Ok(())
}
