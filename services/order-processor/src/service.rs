//! `order-processor run`: creates the topics, joins the group, and works until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use control_topic::Participant;
use control_topic::record::Role;
use dead_letter::group_topics::EarlierTopicUsed;
use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::configs::topic_config;
use kafka_client::error::{ClientError, chain};
use kafka_client::offsets::is_committed_in;
use kafka_client::retry::until_ok;
use kafka_client::topics::{NewTopic, ensure_topics};
use order_ledger::checkpoint::Capacity;
use order_ledger::resume::OffsetReset;
use schema_registry::{RegistryConfig, SchemaRegistry};
use service_runtime::settings::TopicSettings;
use service_runtime::{Check, Context, Waiting, host_name};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::dlq_writer::{Desk, Letters};
use crate::flow::limiter::Gate;
use crate::flow::pause_reasons::Pauses;
use crate::flow::pause_switch::{self, Halt};
use crate::flow::releases::Releases;
use crate::flow::retry::{Jitter, RetryPolicy};
use crate::flow::watchdog::Watch;
use crate::handler::simulation::{Simulated, Simulation};
use crate::handler::webhook::Webhook;
use crate::handler::{CountOnly, Handler};
use crate::member::announcing::Standing;
use crate::member::session::{self, Session};
use crate::member::{budget, loading};
use crate::partition;
use crate::settings::{HandlerSettings, ProcessorSettings, RetrySettings};
use crate::telemetry::metrics::Instruments;
use crate::telemetry::readiness::Checks;
use crate::telemetry::report::Reporter;
use crate::telemetry::scrape;

/// How long a process in which something is stuck may take to leave the group, beyond what draining may take.
const STUCK_GRACE: Duration = Duration::from_secs(5);
/// Room that a dead letter, or a replay of it, needs beside the record it is about, in bytes.
const LETTER_OVERHEAD_BYTES: u64 = 64 * 1024;
/// The broker's default of `message.max.bytes`.
const MESSAGE_BYTES_MAX: u64 = 1_048_588;

/// Runs the processor as it comes: orders are posted to `HANDLER_URL`, or only counted, and some of them fail before that
/// where the settings say so.
///
/// # Errors
/// When the group, the registry or a checkpoint makes going on impossible; outages are waited for.
pub async fn run(settings: ProcessorSettings, context: Context) -> anyhow::Result<()> {
    let simulation = Simulation::new(
        settings.simulation.error_rate,
        settings.simulation.transient_prices.clone(),
        settings.simulation.permanent_above,
        settings.retry.retries_max,
    );
    match &settings.handler.url {
        None => run_with(Simulated::new(simulation, CountOnly), settings, context).await,
        Some(url) => {
            let HandlerSettings { concurrency, timeout, .. } = settings.handler;
            let webhook = Webhook::new(url.reveal(), concurrency, timeout)?;
            if let Some(proxy) = webhook.proxy() {
                info!(%url, proxy, "the environment names a proxy for the webhook");
            }
            run_with(Simulated::new(simulation, webhook), settings, context).await
        }
    }
}

/// Runs the processor with a handler of your own.
///
/// # Errors
/// As [`run`].
pub async fn run_with<H: Handler>(
    handler: H,
    settings: ProcessorSettings,
    context: Context,
) -> anyhow::Result<()> {
    let stop = context.stop.clone();
    let kafka = context.health.check("kafka");
    let registry = context.health.check("registry");
    kafka.not_ready("connecting");

    let cluster = settings.cluster();
    let schemas = schemas(&settings)?;
    let participant = participant(&cluster, &settings);
    let prepared = unless(&stop, prepare(&cluster, &settings, &kafka)).await;
    let Some(findings) = prepared.transpose()? else { return Ok(()) };
    let Findings { dlq_partitions, older_partitions: older, capacity } = findings;

    let mut tasks = JoinSet::new();
    let halt = halted(&participant, &context, &mut tasks);
    let pauses = Pauses::new(context.health.check("work"));
    let watch = Arc::new(Watch::default());
    let instruments = Instruments::new(&context.metrics, &settings.group.group_id);
    let desk = Desk {
        instruments: Arc::clone(&instruments),
        cluster: cluster.clone(),
        watch: Arc::clone(&watch),
        pauses: pauses.clone(),
    };
    let letters = Letters::start(&desk, &settings.group.dlq_topic, dlq_partitions, &mut tasks);
    let releases = Releases::default();
    tasks.spawn(releases.clone().watch(cluster.clone(), settings.group_topics.actions.clone()));
    let gate = Gate::new(settings.handler.concurrency, settings.handler.down_after, pauses.clone());
    tasks.spawn(Arc::clone(&gate).keep());
    let grace = settings.member.drain_timeout + session::FINAL_COMMIT + STUCK_GRACE;
    let stuck = Watch::keep(&watch, context.health.clone(), pauses.clone(), grace)
        .context("start the watch's thread")?;
    let shared = Arc::new(partition::Shared {
        handler,
        attempt_timeout: settings.handler.timeout,
        gate,
        halt: Arc::clone(&halt),
        watch,
        pauses,
        dlq_guard: settings.dlq_guard,
        releases,
        group_id: settings.group.group_id.clone(),
        orders_topic: settings.topics.orders_topic.clone(),
        replay_topic: settings.group_topics.replay.clone(),
        retry: retry_policy(&settings.retry),
        ordering: settings.retry.ordering,
        payload_format: settings.payload_format,
        value_bytes_max: settings.value_bytes_max,
        dedupe: settings.dedupe,
        corrupt_batch: settings.corrupt_batch,
        schemas,
        letters,
        reporter: Reporter::new(),
        instruments,
        spans: context.spans.clone(),
        dlq_topic: settings.group.dlq_topic.clone(),
        held_bytes: AtomicUsize::new(0),
        held_bytes_max: settings.retry.in_flight_bytes_max,
    });
    scrape::register(&context.metrics, &shared);
    let standing = Standing::new(participant, &halt);
    let checks = Checks::new(kafka, registry, context.health.check("progress"));
    let session =
        Session::start(cluster, settings, Arc::clone(&shared), checks, older, capacity, standing);
    let outcome = session.run(stop, stuck).await;
    shared.reporter.finish();
    tasks.shutdown().await;
    outcome
}

fn schemas(settings: &ProcessorSettings) -> anyhow::Result<SchemaRegistry> {
    let url = settings.connection.schema_registry_url.reveal();
    let schemas = SchemaRegistry::new(RegistryConfig::new(url))
        .context("set up the schema registry's client")?;
    for (url, proxy) in schemas.proxies() {
        info!(url, proxy, "the environment names a proxy for the schema registry");
    }
    Ok(schemas)
}

/// Begins to follow the control topic, which tells when to stop and to start.
fn participant(cluster: &Cluster, settings: &ProcessorSettings) -> Participant {
    let TopicSettings { control_topic, replication_factor, .. } = &settings.topics;
    let role = Role::Processor;
    Participant::start(cluster, control_topic, *replication_factor, role, &host_name())
}

/// Puts the brake on, which is moved from then on as the control topic tells.
fn halted(participant: &Participant, context: &Context, tasks: &mut JoinSet<()>) -> Arc<Halt> {
    let halt = Halt::on();
    let check = context.health.check("control");
    let gauge = context.metrics.control_paused().clone();
    tasks.spawn(pause_switch::obey(participant.instruction(), Arc::clone(&halt), check, gauge));
    halt
}

fn retry_policy(settings: &RetrySettings) -> RetryPolicy {
    RetryPolicy {
        retries_max: settings.retries_max,
        backoff: settings.backoff,
        multiplier: settings.multiplier,
        backoff_max: settings.backoff_max,
        jitter: if settings.jitter { Jitter::Full } else { Jitter::Off },
        elapsed_max: settings.elapsed_max,
    }
}

/// Waits for `future` unless told to stop.
async fn unless<T>(stop: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = stop.cancelled() => None,
        output = future => Some(output),
    }
}

/// Creates what is missing of the orders', replay, dead-letter and actions topics, waiting for the cluster if it must; returns
/// how many partitions each has.
async fn create_topics(
    cluster: &Cluster,
    settings: &ProcessorSettings,
    check: &Check,
) -> anyhow::Result<BTreeMap<String, i32>> {
    let mut waiting = Waiting::new("Kafka", check);
    let orders = settings.topics.orders_topic.as_str();
    let replication_factor = settings.topics.replication_factor;
    let topic = |name: &str, partitions: i32, configs: Vec<(&str, String)>| NewTopic {
        name: name.into(),
        partitions,
        replication_factor,
        configs: configs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    };
    let cleanup = ("cleanup.policy", "delete".to_owned());
    let retention_ms =
        settings.dlq_retention.map_or_else(|| "-1".to_owned(), |kept| kept.as_millis().to_string());

    let new = [topic(orders, settings.topics.topic_partitions, Vec::new())];
    let mut described =
        until_ok(|| ensure_topics(cluster, &new), |error| waiting.goes_on(chain(error))).await?;
    // The replay topic mirrors the orders' partitions, so that a replayed order finds the partition it came from.
    let partitions = described
        .get(orders)
        .map_or(settings.topics.topic_partitions, TopicMetadata::partition_count);
    let told = until_ok(
        || topic_config(cluster, orders, "max.message.bytes"),
        |error| waiting.goes_on(chain(error)),
    )
    .await;
    let letter_bytes_max = message_bytes_max(told) + LETTER_OVERHEAD_BYTES;
    let letter_bytes_max = ("max.message.bytes", letter_bytes_max.to_string());
    let kept_for_ever =
        vec![cleanup.clone(), ("retention.ms", "-1".to_owned()), letter_bytes_max.clone()];
    let new = [
        topic(&settings.group_topics.replay, partitions, kept_for_ever),
        topic(
            &settings.group.dlq_topic,
            settings.dlq_partitions,
            vec![cleanup, ("retention.ms", retention_ms), letter_bytes_max],
        ),
        NewTopic::compacted(&settings.group_topics.actions, settings.topics.replication_factor),
    ];
    let others = until_ok(|| ensure_topics(cluster, &new), |error| waiting.goes_on(chain(error)));
    described.extend(others.await?);
    for name in [&settings.group_topics.replay, &settings.group.dlq_topic] {
        let told = until_ok(
            || topic_config(cluster, name, "cleanup.policy"),
            |error| waiting.goes_on(chain(error)),
        )
        .await;
        refuse_compacted(name, told)?;
    }
    waiting.over();
    Ok(described.into_iter().map(|(name, topic)| (name, topic.partition_count())).collect())
}

/// Refuses a topic of dead letters that forgets them: they keep the keys of their records, so compaction would leave one letter
/// a key.
fn refuse_compacted(name: &str, told: Result<Option<String>, ClientError>) -> anyhow::Result<()> {
    match told {
        Ok(Some(policy)) if policy.split(',').any(|part| part.trim() == "compact") => bail!(
            "topic {name} has cleanup.policy={policy}: dead letters about records with the same key would erase one another. \
             Set it to delete, or name another topic"
        ),
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(name, error = %chain(&error), "cleanup.policy is not known");
        }
    }
    Ok(())
}

/// What was found out about the cluster before the work begins.
struct Findings {
    dlq_partitions: i32,
    /// How many partitions of each topic begin where `AUTO_OFFSET_RESET` says.
    older_partitions: BTreeMap<String, i32>,
    /// Room for checkpoints.
    capacity: Capacity,
}

/// Creates the topics that are missing, and finds out what depends on the cluster.
async fn prepare(
    cluster: &Cluster,
    settings: &ProcessorSettings,
    check: &Check,
) -> anyhow::Result<Findings> {
    let mut waiting = Waiting::new("Kafka", check);
    if let Some(earlier) = &settings.group_topics.earlier_replay {
        let ask = || is_committed_in(cluster, &settings.group.group_id, earlier);
        let is_used = until_ok(ask, |error| waiting.goes_on(chain(error)))
            .await
            .context("find out about the group's topics of earlier releases")?;
        ensure!(!is_used, EarlierTopicUsed(earlier.clone()));
    }
    waiting.over();
    let partitions = create_topics(cluster, settings, check).await?;
    let dlq_partitions = partitions.get(&settings.group.dlq_topic).copied().unwrap_or(1);
    let older_partitions = older_partitions(cluster, settings, partitions, check).await?;
    let capacity = budget::ask(cluster, settings, check).await;
    let capacity = capacity.context("keep checkpoints beside the group's offsets")?;
    Ok(Findings { dlq_partitions, older_partitions, capacity })
}

/// Returns how many of `partitions` are older than the group, waiting for the cluster if it must.
async fn older_partitions(
    cluster: &Cluster,
    settings: &ProcessorSettings,
    mut partitions: BTreeMap<String, i32>,
    check: &Check,
) -> anyhow::Result<BTreeMap<String, i32>> {
    let (orders, group) = (&settings.topics.orders_topic, &settings.group.group_id);
    if settings.commit.offset_reset != OffsetReset::Earliest
        && let Some(count) = partitions.get_mut(orders)
    {
        let mut waiting = Waiting::new("Kafka", check);
        let asked = *count;
        let ask = || loading::older_than_group(cluster, group, orders, asked);
        *count = until_ok(ask, |error| waiting.goes_on(chain(error)))
            .await
            .context("find out whether the group is new to the topic")?;
        waiting.over();
    }
    Ok(partitions)
}

/// Returns how large a batch of a topic may be that its configuration tells about; the broker's usual default where
/// nobody says, or who asks may not know.
fn message_bytes_max(told: Result<Option<String>, ClientError>) -> u64 {
    match told {
        Ok(told) => told.and_then(|text| text.parse().ok()).unwrap_or(MESSAGE_BYTES_MAX),
        Err(error) => {
            tracing::debug!(error = %chain(&error), "max.message.bytes of the orders is not known");
            MESSAGE_BYTES_MAX
        }
    }
}
