//! The metrics that are read at each scrape.

use std::fmt;
use std::sync::{Arc, Weak};

use kafka_core::TopicPartition;
use order_ledger::aggregate::Micros;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use schema_registry::SchemaRegistry;
use service_runtime::{Families, MessagingLabels, now_ms};
use tokio::time::Instant;

use super::metrics::Instruments;
use super::partition_status::PartitionStatus;
use super::report::Reporter;
use crate::flow::limiter::Limiter;

/// What a scrape reads. The process's metrics outlive the parts that they show.
pub(crate) struct Scrape {
    instruments: Weak<Instruments>,
    reporter: Weak<Reporter>,
    limiter: Weak<Limiter>,
    schemas: SchemaRegistry,
}

impl Scrape {
    pub(crate) fn of(
        instruments: &Arc<Instruments>,
        reporter: &Arc<Reporter>,
        limiter: &Arc<Limiter>,
        schemas: SchemaRegistry,
    ) -> Self {
        Self {
            instruments: Arc::downgrade(instruments),
            reporter: Arc::downgrade(reporter),
            limiter: Arc::downgrade(limiter),
            schemas,
        }
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let parts = (self.instruments.upgrade(), self.reporter.upgrade(), self.limiter.upgrade());
        let (Some(instruments), Some(reporter), Some(limiter)) = parts else { return Ok(()) };
        let mut families = Families::new(encoder);
        let statuses = instruments.statuses();
        group(&mut families, &instruments, &statuses)?;
        partitions(&mut families, &instruments, &statuses)?;
        totals(&mut families, &reporter)?;
        let is_open = i64::from(limiter.is_down());
        let help = "1 while the handler's dependency is down";
        families.gauge("orders_circuit_open", help, &is_open)?;
        families.registry_requests(self.schemas.requests())
    }
}

/// What is counted of a partition.
type Count = fn(&PartitionStatus) -> usize;

type Labels = [(&'static str, String); 2];

fn labels(tp: &TopicPartition) -> Labels {
    [("topic", tp.topic.to_string()), ("partition", tp.partition.to_string())]
}

/// Writes the metrics of consumer groups.
fn group(
    families: &mut Families<'_>,
    instruments: &Instruments,
    statuses: &[(TopicPartition, PartitionStatus)],
) -> fmt::Result {
    let labels = |tp: &TopicPartition| {
        let [topic, partition] = labels(tp);
        [("consumergroup", instruments.group_id.clone()), topic, partition]
    };
    families.gauges(
        "kafka_consumergroup_lag",
        "Offsets from the committed one to the last stable one, of this member's partitions",
        statuses.iter().map(|(tp, status)| (labels(tp), status.lag())),
    )?;
    let now_ms = now_ms();
    let lag_seconds =
        |status: &PartitionStatus| status.lag_time(now_ms).map(|lag| lag.as_secs_f64());
    families.gauges(
        "kafka_consumergroup_lag_seconds",
        "Age of the first incomplete record, by its timestamp; 0 if all of the log is complete",
        statuses.iter().filter_map(|(tp, status)| Some((labels(tp), lag_seconds(status)?))),
    )?;
    families.gauges(
        "kafka_consumergroup_current_offset",
        "The committed offset, of this member's partitions",
        statuses.iter().filter_map(|(tp, status)| Some((labels(tp), status.committed?))),
    )?;
    let status = instruments.membership.get().map(|status| status.borrow().clone());
    if let Some(heard) = status.and_then(|status| status.last_contact) {
        let help = "Time since the group coordinator last answered this member";
        let age = heard.elapsed().as_secs_f64();
        families.gauge("kafka_consumer_heartbeat_age_seconds", help, &age)?;
    }
    families.counters(
        "messaging_client_consumed_messages",
        "Records of all fetches, repeats included",
        statuses.iter().map(|(tp, status)| {
            let labels = MessagingLabels::of("poll").destination(&tp.topic);
            let labels = labels.group(&instruments.group_id).partition(tp.partition);
            (labels, status.delivered)
        }),
    )
}

/// Writes the status of each partition.
fn partitions(
    families: &mut Families<'_>,
    instruments: &Instruments,
    statuses: &[(TopicPartition, PartitionStatus)],
) -> fmt::Result {
    let is_paused = instruments.control_paused.get() != 0;
    let boxes = instruments.boxes();
    let paused = statuses.iter().flat_map(|(tp, status)| {
        let is_held_up = status.letters > 0 && boxes.is_closed_for(tp.partition);
        let [topic, partition] = labels(tp);
        [
            ("registry", status.waits.for_registry),
            ("dlq", is_held_up),
            ("guard", status.waits.for_release),
            ("window", status.waits.full.is_some()),
            ("control", is_paused),
        ]
        .map(|(reason, is_paused)| {
            let reason = ("reason", reason.to_owned());
            ([topic.clone(), partition.clone(), reason], i64::from(is_paused))
        })
    });
    families.gauges(
        "orders_partition_paused",
        "1 while the partition waits for this: the schema registry, the dead-letter topic, a release at the dead-letter \
         limit, room in the window, a resume",
        paused,
    )?;
    drop(boxes);
    let now = Instant::now();
    let age =
        |status: &PartitionStatus| status.oldest.map_or(0.0, |oldest| (now - oldest).as_secs_f64());
    families.gauges(
        "orders_oldest_inflight_seconds",
        "Time since the first incomplete record was taken in; 0 without one",
        statuses.iter().map(|(tp, status)| (labels(tp), age(status))),
    )?;
    let counts: [(&str, &str, Count); 3] = [
        (
            "orders_incomplete_records",
            "Records that were taken in and are not complete",
            |status| status.incomplete,
        ),
        ("orders_waiting_retries", "Records that wait for their next attempt", |status| {
            status.waiting
        }),
        (
            "orders_checkpoint_bytes",
            "Length of the last checkpoint, which the broker limits by offset.metadata.max.bytes",
            |status| status.checkpoint_bytes,
        ),
    ];
    for (name, help, count) in counts {
        let gauge = |status| i64::try_from(count(status)).unwrap_or(i64::MAX);
        let gauges = statuses.iter().map(|(tp, status)| (labels(tp), gauge(status)));
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
        [("processed", totals.processed), ("dead_lettered", totals.dead_letters)]
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
