//! `order-console stats`: the group's numbers, read from what it has committed, from anywhere and at any time.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use kafka_client::error::chain;
use kafka_client::offsets::GroupOffsets;
use order_ledger::aggregate::{Aggregate, Micros};
use order_ledger::checkpoint::PartitionState;
use serde::Serialize;
use service_runtime::Context;
use tokio::time::sleep;

use crate::group_snapshot::refuse_earlier_topics;
use crate::group_snapshot::{GroupSnapshot, Unavailable};
use crate::settings::ConsoleSettings;
use kafka_client::retry::while_retriable;

/// Pause between two readings with `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How the numbers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How often the numbers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Once.
    Once,
    /// Again and again until stopped.
    Watch,
}

/// The group's numbers at one moment.
#[derive(Debug, Serialize)]
struct GroupStats {
    #[serde(flatten)]
    numbers: Numbers,
    /// Records between the committed offsets and the ends of the logs; absent while it is unknown of one partition.
    lag: Option<i64>,
    /// Whether the numbers cover everything below the committed offsets that the logs still hold.
    complete: bool,
    partitions: Vec<PartitionStats>,
    /// Why something is unknown.
    unavailable: Vec<Unavailable>,
}

/// One partition's numbers.
#[derive(Debug, Serialize)]
struct PartitionStats {
    topic: String,
    partition: i32,
    #[serde(flatten)]
    numbers: Numbers,
    /// Absent while it is unknown.
    lag: Option<i64>,
    complete: bool,
    /// The first offset that the numbers cover; absent before anything was committed.
    since: Option<i64>,
    committed_offset: Option<i64>,
    /// Absent while it is unknown.
    log_end: Option<i64>,
}

/// What an aggregate shows.
#[derive(Debug, Serialize)]
struct Numbers {
    orders: u64,
    /// A decimal number with at most six places, exact.
    sum: String,
    average: Option<f64>,
    recent_average: Option<f64>,
    min: Option<f32>,
    max: Option<f32>,
    retries: u64,
    dead_letters: u64,
    duplicates: u64,
    replayed: u64,
}

impl Numbers {
    fn of(aggregate: &Aggregate) -> Self {
        Self {
            orders: aggregate.orders(),
            sum: aggregate.sum().to_string(),
            average: aggregate.average().map(Micros::as_f64),
            recent_average: aggregate.recent_average().map(Micros::as_f64),
            min: aggregate.min(),
            max: aggregate.max(),
            retries: aggregate.retries(),
            dead_letters: aggregate.dead_letters(),
            duplicates: aggregate.duplicates(),
            replayed: aggregate.replayed(),
        }
    }
}

/// Prints the group's numbers.
///
/// # Errors
/// When the cluster does not answer, or a checkpoint is of a version that is not understood.
pub async fn run(
    settings: ConsoleSettings,
    context: Context,
    format: Format,
    times: Times,
) -> anyhow::Result<()> {
    let cluster = settings.cluster();
    refuse_earlier_topics(&cluster, &settings).await?;
    let read = async || {
        let mut offsets = GroupOffsets::new(cluster.clone(), settings.group.group_id.clone());
        GroupSnapshot::read(&cluster, &settings, &mut offsets).await
    };
    loop {
        match while_retriable(&read).await {
            Ok(reading) => print(&summarize(reading), format)?,
            // Who watches wants to see that, too, and how it goes on.
            Err(error) if times == Times::Watch && error.is_retriable() => {
                tracing::warn!("the group's committed offsets cannot be read: {}", chain(&error));
            }
            Err(error) => return Err(error).context("read the group's committed offsets"),
        }
        if times == Times::Once {
            return Ok(());
        }
        tokio::select! {
            () = context.stop.cancelled() => return Ok(()),
            () = sleep(WATCH_INTERVAL) => {}
        }
    }
}

fn print(stats: &GroupStats, format: Format) -> anyhow::Result<()> {
    let text = match format {
        Format::Json => serde_json::to_string(stats).context("write JSON")? + "\n",
        Format::Text => table(stats),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("print")
}

fn summarize(reading: GroupSnapshot) -> GroupStats {
    let mut group = Aggregate::default();
    let mut partitions = Vec::new();
    for tp in reading.partitions() {
        let state = reading.states.get(&tp);
        let aggregate = state.map(|state| state.aggregate().clone()).unwrap_or_default();
        group.merge(&aggregate);
        partitions.push(PartitionStats {
            topic: tp.topic.to_string(),
            partition: tp.partition,
            numbers: Numbers::of(&aggregate),
            lag: reading.lag(&tp),
            complete: reading.is_complete(&tp, state),
            since: state.map(PartitionState::since),
            committed_offset: reading.committed_offset(&tp),
            log_end: reading.log_ends.get(&tp).copied(),
        });
    }
    GroupStats {
        numbers: Numbers::of(&group),
        lag: reading.total_lag(),
        complete: partitions.iter().all(|partition| partition.complete),
        partitions,
        unavailable: reading.unavailable,
    }
}

fn table(stats: &GroupStats) -> String {
    use std::fmt::Write as _;
    let money =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let count =
        |count: Option<i64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let numbers = &stats.numbers;
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        writeln!(text, "{words}").unwrap_or_default();
    };
    line(format_args!("orders          {}", numbers.orders));
    line(format_args!("revenue         {}", numbers.sum));
    line(format_args!("average         {}", money(numbers.average)));
    line(format_args!("last 100        {}", money(numbers.recent_average)));
    line(format_args!(
        "cheapest        {}   dearest {}",
        money(numbers.min.map(f64::from)),
        money(numbers.max.map(f64::from))
    ));
    line(format_args!(
        "retries {}   dead letters {}   duplicates {}   replayed {}   lag {}",
        numbers.retries,
        numbers.dead_letters,
        numbers.duplicates,
        numbers.replayed,
        stats.lag.map_or_else(|| "unknown".to_owned(), |lag| lag.to_string())
    ));
    for missing in &stats.unavailable {
        line(format_args!("unavailable: {missing}"));
    }
    if !stats.complete {
        line(format_args!(
            "incomplete: some partitions' numbers do not reach back to the beginning of their log (see since)"
        ));
    }
    line(format_args!(""));
    line(format_args!(
        "{:<40} {:>10} {:>10} {:>10} {:>8} {:>10} {:>10}",
        "partition", "since", "committed", "log end", "lag", "orders", "average"
    ));
    for partition in &stats.partitions {
        line(format_args!(
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
    text
}
