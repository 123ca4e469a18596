//! Metrics of the whole group, in the dashboard's own `/metrics`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use service_runtime::{Context, Families};
use tokio::time::{Instant, sleep};

use crate::dlq::causes;
use crate::dlq::filter::Filter;
use crate::dlq::letter_state::LetterState;
use crate::dlq::queue::DeadLetterQueue;
use crate::settings::ConsoleSettings;
use crate::time::Time;
use crate::view::View;
use crate::view::body::Group;

/// Pause between two walks over the dead-letter topic while its letters change.
const PAUSE: Duration = Duration::from_secs(30);
/// So many pauses after a walk the next one begins in any case: a dismissal changes no number.
const PAUSES_MAX: u32 = 10;

/// Walks take at most one part in so many of the time.
const WALKS_SHARE: u32 = 20;

/// The result of the last walk: how many letters are unresolved, and when the first of them failed.
type Found = Arc<Mutex<Option<(u64, Option<Time>)>>>;

/// Adds the group to the process's metrics, and counts the unresolved dead letters at intervals, for as long as it runs.
pub(super) async fn keep(settings: ConsoleSettings, context: Context, view: View) {
    let found = Found::default();
    let group = settings.group.group_id.clone();
    let scrape = Scrape { group, view: view.clone(), found: Arc::clone(&found) };
    context.metrics.register(|registry| registry.register_collector(Box::new(scrape)));
    let mut counted = None;
    let mut pauses = 0;
    loop {
        let began = Instant::now();
        let numbers = view.latest().stats.numbers.clone();
        let counts = Some((numbers.dead_letters, numbers.replayed));
        if counts != counted || pauses >= PAUSES_MAX {
            match unresolved(&settings, &context).await {
                Ok(unresolved) => {
                    *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(unresolved);
                    (counted, pauses) = (counts, 0);
                }
                Err(error) => tracing::debug!("dead letters cannot be counted: {error:#}"),
            }
        }
        sleep(PAUSE.max(began.elapsed() * WALKS_SHARE)).await;
        pauses += 1;
    }
}

async fn unresolved(
    settings: &ConsoleSettings,
    context: &Context,
) -> anyhow::Result<(u64, Option<Time>)> {
    let queue = DeadLetterQueue::read(settings.clone(), context.clone()).await?;
    let only = Some(LetterState::Unresolved);
    let report = causes::count(&queue, &Filter::default(), only).await?;
    Ok((report.total.letters, report.causes.iter().map(|cause| cause.first).min()))
}

#[derive(Debug)]
struct Scrape {
    group: String,
    view: View,
    found: Found,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        let latest = self.view.latest();
        let labels = || [("consumergroup", self.group.clone())];
        // Before the first reading there is no value, and not 0.
        let members = i64::try_from(latest.group.members.len()).unwrap_or(i64::MAX);
        let members = (latest.group.state != Group::UNKNOWN).then(|| (labels(), members));
        families.gauges("kafka_consumergroup_members", "Members of the group", members)?;
        let lag = latest.stats.lag.filter(|_| latest.stats.at.is_some());
        let lag = lag.map(|lag| (labels(), lag));
        let help = "Records of all partitions that the group has not committed, while that is known of each";
        families.gauges("kafka_consumergroup_lag_sum", help, lag)?;
        let found = *self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((letters, oldest)) = found else { return Ok(()) };
        let letters = i64::try_from(letters).unwrap_or(i64::MAX);
        let help = "Dead letters of the group that were neither replayed nor dismissed";
        families.gauge("orders_dlq_unresolved", help, &letters)?;
        let help = "When the oldest of them failed, in seconds since 1970; 0 where there is none";
        let oldest = oldest.map_or(0, Time::seconds);
        families.gauge("orders_dlq_oldest_unresolved_timestamp_seconds", help, &oldest)
    }
}
