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
use tracing::{info, warn};

use crate::dlq_writer::{DlqContext, DlqWriter};
use crate::flow::limiter::Limiter;
use crate::flow::pause_reasons::PauseReasons;
use crate::flow::pause_switch::{self, PauseSwitch};
use crate::flow::releases::Releases;
use crate::flow::watchdog::Watchdog;
use crate::handler::simulation::Simulated;
use crate::handler::webhook::Webhook;
use crate::handler::{CountOnly, Handler};
use crate::member::budget;
use crate::member::instance_report::InstanceReport;
use crate::member::loading::{self, Loader};
use crate::member::session::{FINAL_COMMIT, Session};
use crate::partition;
use crate::settings::{HandlerSettings, ProcessorSettings};
use crate::telemetry::metrics::Instruments;
use crate::telemetry::readiness::Checks;
use crate::telemetry::report::Reporter;
use crate::telemetry::scrape::Scrape;

/// How long a stuck process may take to leave the group after its drain.
const STUCK_GRACE: Duration = Duration::from_secs(5);
/// Room for the headers of a dead letter, or of its replay, in bytes.
const LETTER_OVERHEAD_BYTES: u64 = 8 * 1024;
/// The broker's default of `message.max.bytes`.
const MESSAGE_BYTES_MAX: u64 = 1_048_588;

/// Runs the processor with its own handler: orders are posted to `HANDLER_URL`, or only counted. The settings can make
/// some of them fail before.
///
/// # Errors
/// When the group, the registry or a checkpoint makes work impossible. Outages are waited for.
pub async fn run(settings: ProcessorSettings, context: Context) -> anyhow::Result<()> {
    let simulation = settings.simulation.clone();
    match &settings.handler.url {
        None => process(Simulated::new(simulation, CountOnly), settings, context).await,
        Some(url) => {
            let HandlerSettings { concurrency, timeout, .. } = settings.handler;
            let webhook = Webhook::new(url.reveal(), concurrency, timeout)?;
            if let Some(proxy) = webhook.proxy() {
                info!(%url, proxy, "the environment names a proxy for the webhook");
            }
            process(Simulated::new(simulation, webhook), settings, context).await
        }
    }
}

/// Runs the processor with a handler of your own. Settings of the processor's own handlers have no effect.
///
/// # Errors
/// As [`run`].
pub async fn run_with<H: Handler>(
    handler: H,
    settings: ProcessorSettings,
    context: Context,
) -> anyhow::Result<()> {
    if let Some(url) = &settings.handler.url {
        warn!(%url, "HANDLER_URL is not used: this program has a handler of its own");
    }
    process(handler, settings, context).await
}

async fn process<H: Handler>(
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
    let prepared = stop.run_until_cancelled(prepare(&cluster, &settings, &kafka)).await;
    let Some(Findings { dlq_partitions, older_partitions, capacity }) = prepared.transpose()?
    else {
        return Ok(());
    };

    let mut tasks = JoinSet::new();
    let pause_switch = follow_control_topic(&participant, &context, &mut tasks);
    let pause_reasons = PauseReasons::new(context.health.check("work"));
    let watchdog = Arc::new(Watchdog::default());
    let instruments = Instruments::new(&context.metrics, &settings.group.group_id);
    let dlq_context = DlqContext {
        instruments: Arc::clone(&instruments),
        cluster: cluster.clone(),
        watchdog: Arc::clone(&watchdog),
        pause_reasons: pause_reasons.clone(),
    };
    let dlq_topic = &settings.group.dlq_topic;
    let dlq_writer = DlqWriter::start(&dlq_context, dlq_topic, dlq_partitions, &mut tasks);
    let releases = Arc::new(Releases::default());
    let actions = settings.group_topics.actions.clone();
    tasks.spawn(Arc::clone(&releases).follow_while_paused(cluster.clone(), actions));
    let limiter = Limiter::new(
        settings.handler.concurrency,
        settings.handler.down_after,
        pause_reasons.clone(),
    );
    tasks.spawn(Arc::clone(&limiter).keep());
    let grace = settings.member.drain_timeout + FINAL_COMMIT + STUCK_GRACE;
    let stuck = Watchdog::start(&watchdog, context.health.clone(), pause_reasons.clone(), grace)
        .context("start the watchdog's thread")?;
    let reporter = Arc::new(Reporter::new());
    let scrape = Scrape::of(&instruments, &reporter, &limiter, schemas.clone());
    context.metrics.register(|registry| registry.register_collector(Box::new(scrape)));
    let shared = Arc::new(partition::Shared {
        handler,
        settings,
        limiter,
        pause_switch: Arc::clone(&pause_switch),
        watchdog,
        pause_reasons,
        releases,
        schemas,
        dlq_writer,
        reporter,
        instruments,
        spans: context.spans.clone(),
        in_flight_bytes: AtomicUsize::new(0),
    });
    let report = InstanceReport::new(participant, &pause_switch);
    let checks = Checks::new(kafka, registry, context.health.check("progress"));
    let loader = Loader::new(cluster.clone(), &shared.settings, older_partitions);
    let session = Session::start(cluster, Arc::clone(&shared), checks, loader, capacity, report);
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

/// Begins to follow the control topic, which pauses and resumes services.
fn participant(cluster: &Cluster, settings: &ProcessorSettings) -> Participant {
    let TopicSettings { control_topic, replication_factor, .. } = &settings.topics;
    let role = Role::Processor;
    Participant::start(cluster, control_topic, *replication_factor, role, &host_name())
}

/// Returns a pause switch that is paused until the control topic says that the replica runs, and follows the topic.
fn follow_control_topic(
    participant: &Participant,
    context: &Context,
    tasks: &mut JoinSet<()>,
) -> Arc<PauseSwitch> {
    let pause_switch = PauseSwitch::paused();
    let check = context.health.check("control");
    let gauge = context.metrics.control_paused().clone();
    tasks.spawn(pause_switch::follow(
        participant.instruction(),
        Arc::clone(&pause_switch),
        check,
        gauge,
    ));
    pause_switch
}

/// Asks until the cluster answers; the log and `/readyz` name the wait.
async fn answer<T, F>(
    waiting: &mut Waiting,
    ask: impl FnMut() -> F + Send,
) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>> + Send,
{
    until_ok(ask, |error| waiting.goes_on(chain(error))).await
}

/// Creates the orders', replay, dead-letter and actions topics if they are missing, and returns how many partitions each
/// has.
async fn create_topics(
    cluster: &Cluster,
    settings: &ProcessorSettings,
    waiting: &mut Waiting,
) -> anyhow::Result<BTreeMap<String, i32>> {
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
        settings.dlq.retention.map_or_else(|| "-1".to_owned(), |kept| kept.as_millis().to_string());

    let new = [topic(orders, settings.topics.topic_partitions, Vec::new())];
    let mut described = answer(waiting, || ensure_topics(cluster, &new)).await?;
    // The replay topic mirrors the orders' partitions, so that a replayed order finds the partition it came from.
    let partitions = described
        .get(orders)
        .map_or(settings.topics.topic_partitions, TopicMetadata::partition_count);
    let value = answer(waiting, || topic_config(cluster, orders, "max.message.bytes")).await;
    let letter_bytes_max = message_bytes_max(value) + LETTER_OVERHEAD_BYTES;
    let letter_bytes_max = ("max.message.bytes", letter_bytes_max.to_string());
    let kept_forever =
        vec![cleanup.clone(), ("retention.ms", "-1".to_owned()), letter_bytes_max.clone()];
    let new = [
        topic(&settings.group_topics.replay, partitions, kept_forever),
        topic(
            &settings.group.dlq_topic,
            settings.dlq.partitions,
            vec![cleanup, ("retention.ms", retention_ms), letter_bytes_max],
        ),
        NewTopic::compacted(&settings.group_topics.actions, replication_factor),
    ];
    described.extend(answer(waiting, || ensure_topics(cluster, &new)).await?);
    for name in [&settings.group_topics.replay, &settings.group.dlq_topic] {
        let value = answer(waiting, || topic_config(cluster, name, "cleanup.policy")).await;
        refuse_compacted(name, value)?;
    }
    Ok(described.into_iter().map(|(name, topic)| (name, topic.partition_count())).collect())
}

/// Refuses a compacted topic of dead letters: letters keep the keys of their records, so compaction would leave one letter
/// for each key.
fn refuse_compacted(name: &str, value: Result<Option<String>, ClientError>) -> anyhow::Result<()> {
    match value {
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

/// What the cluster reported before the work begins.
struct Findings {
    dlq_partitions: i32,
    /// How many partitions of each topic begin where `AUTO_OFFSET_RESET` says.
    older_partitions: BTreeMap<String, i32>,
    capacity: Capacity,
}

/// Creates the topics that are missing, and asks the cluster for its limits. Waits while the cluster is away.
async fn prepare(
    cluster: &Cluster,
    settings: &ProcessorSettings,
    check: &Check,
) -> anyhow::Result<Findings> {
    let mut waiting = Waiting::new("Kafka", check);
    let (orders, group) = (&settings.topics.orders_topic, &settings.group.group_id);
    if let Some(earlier) = &settings.group_topics.earlier_replay {
        let is_used = answer(&mut waiting, || is_committed_in(cluster, group, earlier))
            .await
            .context("find out about the group's topics of earlier releases")?;
        ensure!(!is_used, EarlierTopicUsed(earlier.clone()));
    }
    let mut partitions = create_topics(cluster, settings, &mut waiting).await?;
    let dlq_partitions = partitions.get(&settings.group.dlq_topic).copied().unwrap_or(1);
    if settings.commit.offset_reset != OffsetReset::Earliest
        && let Some(count) = partitions.get_mut(orders)
    {
        let asked = *count;
        let ask = || loading::older_than_group(cluster, group, orders, asked);
        *count = answer(&mut waiting, ask)
            .await
            .context("find out whether the group is new to the topic")?;
    }
    waiting.over();
    let capacity = budget::ask(cluster, settings, check).await;
    let capacity = capacity.context("keep checkpoints beside the group's offsets")?;
    Ok(Findings { dlq_partitions, older_partitions: partitions, capacity })
}

/// Returns the largest batch that a topic takes by its configuration, or the broker's default if the configuration is
/// unknown.
fn message_bytes_max(value: Result<Option<String>, ClientError>) -> u64 {
    match value {
        Ok(value) => value.and_then(|text| text.parse().ok()).unwrap_or(MESSAGE_BYTES_MAX),
        Err(error) => {
            tracing::debug!(error = %chain(&error), "max.message.bytes of the orders is not known");
            MESSAGE_BYTES_MAX
        }
    }
}
