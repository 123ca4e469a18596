//! What is read when `/metrics` is asked for.

use std::fmt;
use std::sync::{Arc, Weak};

use kafka_core::TopicPartition;
use order_ledger::aggregate::Micros;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use service_runtime::{Families, MessagingLabels, Metrics};
use tokio::time::Instant;

use super::metrics::Instruments;
use super::partition_status::Standing;
use crate::handler::Handler;
use crate::partition::Shared;
use crate::telemetry::report::Reporter;
use service_runtime::now_ms;

/// Adds to the process's metrics what its workers and its membership keep anyway.
pub(crate) fn register<H: Handler>(metrics: &Metrics, shared: &Arc<Shared<H>>) {
    let scrape = Scrape(Arc::downgrade(shared));
    metrics.register(|registry| registry.register_collector(Box::new(scrape)));
}

/// The metrics are there for longer than what they are about.
struct Scrape<H>(Weak<Shared<H>>);

impl<H> fmt::Debug for Scrape<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl<H: Handler> Collector for Scrape<H> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let mut families = Families::new(encoder);
        let standings = shared.instruments.standings();
        group(&mut families, &shared.instruments, &standings)?;
        partitions(&mut families, &shared.instruments, &standings)?;
        totals(&mut families, &shared.reporter)?;
        let is_open = i64::from(shared.gate.is_down());
        let help = "1 while what the handler needs is down";
        families.gauge("orders_circuit_open", help, &is_open)?;
        families.registry_requests(shared.schemas.requests())
    }
}

/// What is counted of a partition.
type Count = fn(&Standing) -> usize;

type Labels = [(&'static str, String); 2];

fn labels(tp: &TopicPartition) -> Labels {
    [("topic", tp.topic.to_string()), ("partition", tp.partition.to_string())]
}

/// Writes what tools for consumer groups show.
fn group(
    families: &mut Families<'_>,
    instruments: &Instruments,
    standings: &[(TopicPartition, Standing)],
) -> fmt::Result {
    let labels = |tp: &TopicPartition| {
        let [topic, partition] = labels(tp);
        [("consumergroup", instruments.group_id.clone()), topic, partition]
    };
    families.gauges(
        "kafka_consumergroup_lag",
        "Offsets from the committed one to the last stable one, of this member's partitions",
        standings.iter().map(|(tp, standing)| (labels(tp), standing.lag())),
    )?;
    let now_ms = now_ms();
    let lag_seconds = |standing: &Standing| standing.lag_time(now_ms).map(|lag| lag.as_secs_f64());
    families.gauges(
        "kafka_consumergroup_lag_seconds",
        "Age of the first record that is not complete, by its timestamp; 0 when there is none",
        standings.iter().filter_map(|(tp, standing)| Some((labels(tp), lag_seconds(standing)?))),
    )?;
    families.gauges(
        "kafka_consumergroup_current_offset",
        "The committed offset, of this member's partitions",
        standings.iter().filter_map(|(tp, standing)| Some((labels(tp), standing.committed?))),
    )?;
    let status = instruments.membership.get().map(|status| status.borrow().clone());
    if let Some(heard) = status.and_then(|status| status.last_contact) {
        let help = "Time since the group coordinator last answered this member";
        let age = heard.elapsed().as_secs_f64();
        families.gauge("kafka_consumer_heartbeat_age_seconds", help, &age)?;
    }
    families.counters(
        "messaging_client_consumed_messages",
        "Records that fetches have brought, repeats included",
        standings.iter().map(|(tp, standing)| {
            let labels = MessagingLabels::of("poll").destination(&tp.topic);
            let labels = labels.group(&instruments.group_id).partition(tp.partition);
            (labels, standing.delivered)
        }),
    )
}

/// Writes how the work on each partition stands.
fn partitions(
    families: &mut Families<'_>,
    instruments: &Instruments,
    standings: &[(TopicPartition, Standing)],
) -> fmt::Result {
    let is_stopped = instruments.control_paused.get() != 0;
    let boxes = instruments.boxes();
    let paused = standings.iter().flat_map(|(tp, standing)| {
        let is_held_up = standing.letters > 0 && boxes.is_closed_for(tp.partition);
        let [topic, partition] = labels(tp);
        [
            ("registry", standing.waits_for_registry),
            ("dlq", is_held_up),
            ("guard", standing.is_guarded),
            ("window", standing.full.is_some()),
            ("control", is_stopped),
        ]
        .map(|(reason, is_paused)| {
            let reason = ("reason", reason.to_owned());
            ([topic.clone(), partition.clone(), reason], i64::from(is_paused))
        })
    });
    families.gauges(
        "orders_partition_paused",
        "1 while a partition is held up by this: the schema registry, the dead-letter topic, too many dead letters, \
         as much as may be incomplete, the control topic",
        paused,
    )?;
    drop(boxes);
    let now = Instant::now();
    let age =
        |standing: &Standing| standing.oldest.map_or(0.0, |oldest| (now - oldest).as_secs_f64());
    families.gauges(
        "orders_oldest_inflight_seconds",
        "How long ago the oldest record was taken in that is not complete; 0 when there is none",
        standings.iter().map(|(tp, standing)| (labels(tp), age(standing))),
    )?;
    let counts: [(&str, &str, Count); 3] = [
        (
            "orders_incomplete_records",
            "Records that were taken in and are neither processed nor dead-lettered",
            |standing| standing.incomplete,
        ),
        ("orders_waiting_retries", "Records that wait for their next attempt", |standing| {
            standing.waiting
        }),
        (
            "orders_checkpoint_bytes",
            "Length of the last checkpoint, which the broker limits by offset.metadata.max.bytes",
            |standing| standing.checkpoint_bytes,
        ),
    ];
    for (name, help, count) in counts {
        let gauge = |standing| i64::try_from(count(standing)).unwrap_or(i64::MAX);
        let gauges = standings.iter().map(|(tp, standing)| (labels(tp), gauge(standing)));
        families.gauges(name, help, gauges)?;
    }
    Ok(())
}

/// Writes what this process has done, and what the group has.
fn totals(families: &mut Families<'_>, reporter: &Reporter) -> fmt::Result {
    let totals = reporter.totals();
    families.counters(
        "orders_records",
        "Records that this process has completed, by what became of them",
        [
            ("processed", totals.processed),
            ("dead_lettered", totals.dead_letters),
            ("duplicate", totals.duplicates),
        ]
        .map(|(outcome, count)| ([("outcome", outcome)], count)),
    )?;
    let group = reporter.group();
    let average = group.average().map(Micros::as_f64);
    let recent = group.recent_average().map(Micros::as_f64);
    for (name, help, value) in [
        ("orders_price_average", "Average price of all orders of the group", average),
        ("orders_price_recent_average", "Average price of the group's 100 latest orders", recent),
        (
            "orders_revenue",
            "Sum of the prices of all orders of the group",
            Some(group.sum().as_f64()),
        ),
    ] {
        if let Some(value) = value {
            families.gauge(name, help, &value)?;
        }
    }
    let count = i64::try_from(group.orders()).unwrap_or(i64::MAX);
    families.gauge("orders_price_count", "Orders that the group has processed", &count)
}

#[cfg(test)]
mod tests;
