//! `order-console stats`: the group's numbers, read from what it has committed.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use kafka_client::error::chain;
use kafka_client::offsets::GroupOffsets;
use kafka_client::retry::while_retriable;
use serde::Serialize;
use service_runtime::Context;
use tokio::time::sleep;

use super::output::{self, print_json};
use crate::group_snapshot::{GroupSnapshot, Unavailable, refuse_earlier_topics};
use crate::settings::ConsoleSettings;
use crate::stats::{GroupStats, PartitionStats};

/// Pause between two readings with `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Options of `stats`.
#[derive(Clone, Copy, Debug, Args)]
pub struct StatsArguments {
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Print again every second until interrupted.
    #[arg(long)]
    watch: bool,
}

/// Prints the group's numbers.
///
/// # Errors
/// When the cluster does not answer, or a checkpoint is of an unknown version.
pub async fn run(
    settings: ConsoleSettings,
    context: Context,
    arguments: StatsArguments,
) -> anyhow::Result<()> {
    let cluster = settings.cluster();
    refuse_earlier_topics(&cluster, &settings).await?;
    let read = async || {
        let mut offsets = GroupOffsets::new(&cluster, settings.group.group_id.clone());
        GroupSnapshot::read(&cluster, &settings, &mut offsets).await
    };
    loop {
        match while_retriable(&read).await {
            Ok(snapshot) => print(&snapshot, arguments)?,
            Err(error) if arguments.watch && error.is_retriable() => {
                tracing::warn!("the group's committed offsets cannot be read: {}", chain(&error));
            }
            Err(error) => return Err(error).context("read the group's committed offsets"),
        }
        if !arguments.watch {
            return Ok(());
        }
        tokio::select! {
            () = context.stop.cancelled() => return Ok(()),
            () = sleep(WATCH_INTERVAL) => {}
        }
    }
}

/// The group's numbers with `--json`.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    stats: &'a GroupStats,
    unavailable: &'a [Unavailable],
}

fn print(snapshot: &GroupSnapshot, arguments: StatsArguments) -> anyhow::Result<()> {
    let (stats, unavailable) = (&GroupStats::of(snapshot), snapshot.unavailable.as_slice());
    if arguments.json {
        print_json(&Body { stats, unavailable })
    } else {
        output::print(&table(stats, unavailable))
    }
}

fn table(stats: &GroupStats, unavailable: &[Unavailable]) -> String {
    let money =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let count =
        |count: Option<i64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let numbers = &stats.numbers;
    let mut lines = Vec::new();
    lines.push(format!("orders          {}", numbers.orders));
    lines.push(format!("revenue         {}", stats.sum));
    lines.push(format!("average         {}", money(numbers.average)));
    lines.push(format!("last 100        {}", money(numbers.recent_average)));
    lines.push(format!(
        "cheapest        {}   dearest {}",
        money(numbers.min.map(f64::from)),
        money(numbers.max.map(f64::from))
    ));
    lines.push(format!(
        "retries {}   dead letters {}   replayed {}   lag {}",
        numbers.retries,
        numbers.dead_letters,
        numbers.replayed,
        stats.lag.map_or_else(|| "unknown".to_owned(), |lag| lag.to_string())
    ));
    for missing in unavailable {
        lines.push(format!("unavailable: {missing}"));
    }
    for partition in stats.partitions.iter().filter(|partition| partition.truncated > 0) {
        let PartitionStats { topic, partition, truncated, .. } = partition;
        lines.push(format!(
            "incomplete: {topic}-{partition} counts {truncated} offsets that its log has lost"
        ));
    }
    if stats.partitions.iter().any(|partition| !partition.complete && partition.truncated == 0) {
        lines.push("incomplete: some partitions' numbers do not reach back to the beginning of their log (see since)".to_owned());
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<40} {:>10} {:>10} {:>10} {:>8} {:>10} {:>10}",
        "partition", "since", "committed", "log end", "lag", "orders", "average"
    ));
    for partition in &stats.partitions {
        lines.push(format!(
            "{:<40} {:>10} {:>10} {:>10} {:>8} {:>10} {:>10}",
            format!("{}-{}", partition.topic, partition.partition),
            count(partition.since),
            count(partition.committed_offset),
            count(partition.log_end),
            count(partition.lag),
            partition.numbers.orders,
            money(partition.numbers.average)
        ));
    }
    lines.join(
        "
",
    ) + "
"
}
