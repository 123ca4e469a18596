//! The service: start, publish, drain, report.
//!
//! ```text
//! registry, topic ─→ make orders ─┬─ queue ─→ sender of partition 0 ─┐
//!                        ↑        ├─ queue ─→ sender of partition 1 ─┼─→ report ─→ exit code
//!    pause, stop, new partitions  └─ queue ─→ sender of partition 2 ─┘
//! ```
//!
//! The generator stops making orders at a signal, at `ORDER_COUNT`, or after a failed delivery. The senders then deliver the
//! queued orders, and the report logs the final statistics.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use control_topic::Participant;
use control_topic::record::Role;
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::producer::{Failures, Producer};
use schema_registry::{RegistryConfig, SchemaRegistry};
use service_runtime::{Check, Context, Progress, host_name, now_ms};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;
use tokio::task::{JoinSet, consume_budget};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::{self, Measures};
use crate::orders::Orders;
use crate::pace::Pace;
use crate::partition_watch;
use crate::pause_control::PauseControl;
use crate::report::Report;
use crate::senders::batch::{BatchLimits, PendingOrder};
use crate::senders::delivery::Transport;
#[cfg(feature = "rskafka")]
use crate::senders::rskafka::Rskafka;
use crate::senders::{Common, Senders, outage, random_number};
use crate::settings::{GeneratorSettings, ProducerKind};
use crate::startup;

/// How often the progress bar is updated.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Publishes orders until `ORDER_COUNT`, a signal, or a failed delivery.
///
/// # Errors
///
/// When the registry or the broker refuses the schema or the topic, and when an order has failed or its outcome is
/// unknown, after the delivery of all other orders.
///
/// # Cancel safety
///
/// Not cancel safe: orders in flight would have no outcome. Cancel [`Context::stop`] instead.
pub async fn run(settings: GeneratorSettings, context: Context) -> anyhow::Result<()> {
    let stop = context.stop.clone();
    let Some(publisher) = stop.run_until_cancelled(Publisher::start(settings, context)).await
    else {
        info!("stopped before the first order");
        return Ok(());
    };
    publisher?.publish().await
}

/// A generator that is ready to publish.
struct Publisher {
    settings: GeneratorSettings,
    context: Context,
    seed: u64,
    schema_id: u32,
    partitions: NonZeroU32,
    cluster: Cluster,
    limits: BatchLimits,
    kafka_check: Check,
    pause_control: PauseControl,
}

impl Publisher {
    async fn start(settings: GeneratorSettings, context: Context) -> anyhow::Result<Self> {
        let registry_check = context.health.check("registry");
        let kafka_check = context.health.check("kafka");
        let control_check = context.health.check("control");
        let paused = context.metrics.control_paused().clone();
        let servers = settings.connection.bootstrap_servers.clone();
        let brokers = BrokerConfig::new(servers, Role::Generator.client_id());
        let registry_url = settings.connection.schema_registry_url.reveal();
        let registry = SchemaRegistry::new(RegistryConfig::new(registry_url))
            .context("use SCHEMA_REGISTRY_URL")?;
        for (url, proxy) in registry.proxies() {
            info!(url, proxy, "the environment names a proxy for the schema registry");
        }
        metrics::register(&context.metrics, registry.clone(), settings.order_rate);

        let topic = &settings.topics.orders_topic;
        let schema_id = startup::register_schema(&registry, topic, &registry_check).await?;
        let cluster = Cluster::new(brokers);
        let participant = Participant::start(
            &cluster,
            &settings.topics.control_topic,
            settings.topics.replication_factor,
            Role::Generator,
            &host_name(),
        );
        let partitions = startup::create_topic(&cluster, &settings.topics, &kafka_check).await?;
        let seed = match settings.seed {
            Some(seed) => seed,
            None => random_number()?,
        };
        let bytes_max = startup::batch_bytes_max(&cluster, topic).await;
        let limits = BatchLimits::new(bytes_max, settings.compression);
        Ok(Self {
            settings,
            context,
            seed,
            schema_id,
            partitions,
            cluster,
            limits,
            kafka_check,
            pause_control: PauseControl::new(participant, control_check, paused),
        })
    }

    async fn publish(mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        // Cancelled by a signal, and after a failed delivery.
        let enough = self.context.stop.child_token();
        let report = Arc::new(Report::new(&self.context.metrics, enough.clone()));
        let progress = Progress::start(self.settings.order_count, "orders", &self.context.console);
        let abandon = CancellationToken::new();
        let (mut senders, failures) = self.start_senders(&report, &abandon)?;
        let (watched, partitions) = watch::channel(self.partitions);
        let mut beside = JoinSet::new();
        beside.spawn(outage::follow(failures, self.kafka_check.clone()));
        beside.spawn(show(progress.clone(), Arc::clone(&report)));
        let GeneratorSettings { ref topics, metadata_age_max, .. } = self.settings;
        let topic = topics.orders_topic.clone();
        beside.spawn(partition_watch::watch(
            self.cluster.clone(),
            topic,
            metadata_age_max,
            watched,
        ));

        let made = self.make_orders(&mut senders, partitions, &report, &enough).await;
        let drained = self.drain(senders.close(), &abandon).await;
        beside.shutdown().await;
        self.pause_control.end().await;
        progress.finish();
        let shortfall = report.conclude(begun.elapsed());
        made?;
        drained?;
        if shortfall.failed + shortfall.unknown > 0 {
            bail!("{} orders failed, {} may be lost", shortfall.failed, shortfall.unknown);
        }
        Ok(())
    }

    /// Returns the senders, and why their batches wait.
    fn start_senders(
        &self,
        report: &Arc<Report>,
        abandon: &CancellationToken,
    ) -> anyhow::Result<(Senders, watch::Receiver<Failures>)> {
        let measures = Measures::new(&self.context);
        let (transport, failures) = self.start_transport(&measures);
        let common = Common {
            transport,
            topic: self.settings.topics.orders_topic.as_str().into(),
            schema_id: self.schema_id,
            limits: self.limits,
            trace_ratio: self.settings.trace_ratio,
            delivery_timeout: self.settings.delivery_timeout,
            measures,
            report: Arc::clone(report),
            abandon: abandon.clone(),
        };
        Ok((Senders::start(common, self.partitions)?, failures))
    }

    fn start_transport(
        &self,
        measures: &Measures,
    ) -> (Arc<dyn Transport>, watch::Receiver<Failures>) {
        let GeneratorSettings { producer, retries_max, .. } = self.settings;
        let (cluster, on_attempt) = (self.cluster.clone(), measures.on_attempt());
        match producer {
            ProducerKind::Native => {
                let producer = Producer::start_retrying(cluster, retries_max, Some(on_attempt));
                let failures = producer.failures();
                (Arc::new(producer), failures)
            }
            #[cfg(feature = "rskafka")]
            ProducerKind::Rskafka => {
                let config = cluster.config().clone();
                let writer = Rskafka::new(config, retries_max, on_attempt);
                let failures = writer.failures();
                (Arc::new(writer), failures)
            }
        }
    }

    /// Makes orders and queues them for their partitions, until `ORDER_COUNT` or until `enough` is cancelled.
    ///
    /// The key decides the partition, as in every other client. The orders of a seed are in the same partitions in every run
    /// with the same number of them.
    async fn make_orders(
        &mut self,
        senders: &mut Senders,
        mut partitions: watch::Receiver<NonZeroU32>,
        report: &Report,
        enough: &CancellationToken,
    ) -> anyhow::Result<()> {
        let GeneratorSettings { order_count, order_id_format, price_min, price_max, .. } =
            self.settings;
        let mut orders = Orders::new(self.seed, order_id_format, price_min, price_max)
            .with_faults(self.settings.faults.rate, &self.settings.faults.kinds);
        let mut pace = Pace::new(self.settings.order_rate, Instant::now());
        let mut made = 0;
        while (order_count == 0 || made < order_count) && !enough.is_cancelled() {
            let due = pace.next(Instant::now());
            if due.is_some() || self.pause_control.has_news() {
                let is_due = self.pause_control.until_due(due, &mut pace, report);
                if enough.run_until_cancelled(is_due).await.is_none() {
                    return Ok(());
                }
            }
            if partitions.has_changed().unwrap_or(false) {
                senders.grow(*partitions.borrow_and_update())?;
            }
            let order = orders.draw();
            let queue = senders.queue_of(&order);
            let pending = PendingOrder { order, timestamp_ms: now_ms() };
            let is_queued = match queue.try_send(pending) {
                Ok(()) => true,
                Err(TrySendError::Full(order)) => {
                    let sent = enough.run_until_cancelled(queue.send(order)).await;
                    sent.is_some_and(|sent| sent.is_ok())
                }
                Err(TrySendError::Closed(_order)) => false,
            };
            if !is_queued {
                return Ok(());
            }
            report.sent();
            made += u64::from(!order.is_bad());
            // The loop rarely waits, and has to leave the threads to the senders.
            consume_budget().await;
        }
        Ok(())
    }

    /// Waits for the senders; after a signal for at most `DRAIN_TIMEOUT_MS`.
    async fn drain(
        &self,
        mut senders: JoinSet<()>,
        abandon: &CancellationToken,
    ) -> anyhow::Result<()> {
        let drain_timeout = self.settings.drain_timeout;
        let mut all = pin!(async {
            while let Some(joined) = senders.join_next().await {
                joined.context("deliver orders")?;
            }
            Ok(())
        });
        let timed_out = async {
            self.context.stop.cancelled().await;
            sleep(drain_timeout).await;
        };
        tokio::select! {
            biased;
            drained = &mut all => return drained,
            () = timed_out => {}
        }
        warn!(?drain_timeout, "giving up unacknowledged orders");
        abandon.cancel();
        all.await
    }
}

/// Updates the progress bar and the report's log lines.
async fn show(progress: Progress, report: Arc<Report>) {
    let mut interval = interval(PROGRESS_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        progress.set(report.acknowledged_orders());
        report.tick();
    }
}
