//! What has to be there before the first order: the schema in the registry, and the topic.
//!
//! What is only unreachable is waited for, saying so; what can never work ends the generator.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::error::chain;
use kafka_client::topics::{NewTopic, ensure_topics};
use order_avro::ORDER_SCHEMA;
use schema_registry::SchemaRegistry;
use service_runtime::Check;
use service_runtime::settings::TopicSettings;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The pause before the second attempt; each further one is twice as long.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long it is waited in silence: a topic that is new is not known to every broker at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is said what is waited for.
const REMINDER: Duration = Duration::from_secs(10);

/// Makes sure that the orders' schema is registered for the topic's values, and returns its id.
///
/// Registering is the check for compatibility, too: a schema that the level of the subject forbids is refused.
///
/// # Errors
///
/// When the registry refuses the schema, in its own words: it is incompatible with earlier versions, or not allowed.
///
/// # Cancel safety
///
/// Cancel safe; the schema may be registered all the same.
pub(crate) async fn register_schema(
    registry: &SchemaRegistry,
    topic: &str,
    check: &Check,
) -> anyhow::Result<u32> {
    let subject = format!("{topic}-value");
    let mut waiting = Waiting::new("the schema registry", check);
    let schema_id = loop {
        match registry.register(&subject, ORDER_SCHEMA).await {
            Ok(schema_id) => break schema_id,
            Err(error) if error.is_unavailable() => waiting.pause(&error).await,
            Err(error) => return Err(error).context("register the schema of orders"),
        }
    };
    waiting.over();
    info!(subject, schema_id, "the schema is registered");
    Ok(schema_id)
}

/// Makes sure that the topic exists, and returns how many partitions it has.
///
/// # Errors
///
/// When the broker refuses to create or describe the topic.
///
/// # Cancel safety
///
/// Cancel safe; the topic may be created all the same.
pub(crate) async fn create_topic(
    cluster: &Cluster,
    settings: &TopicSettings,
    check: &Check,
) -> anyhow::Result<NonZeroU32> {
    let topic = settings.orders_topic.as_str();
    let wanted = [NewTopic {
        name: topic.into(),
        partitions: settings.topic_partitions,
        replication_factor: settings.replication_factor,
        configs: BTreeMap::new(),
    }];
    let mut waiting = Waiting::new("Kafka", check);
    let topics = loop {
        match ensure_topics(cluster, &wanted).await {
            Ok(topics) => break topics,
            Err(error) if error.is_retriable() => waiting.pause(&error).await,
            Err(error) => return Err(error).context(format!("create topic {topic}")),
        }
    };
    waiting.over();
    let partitions = topics.get(topic).map_or(0, TopicMetadata::partition_count);
    let Some(partitions) = u32::try_from(partitions).ok().and_then(NonZeroU32::new) else {
        bail!("topic {topic} has no partitions");
    };
    info!(topic, partitions, "the topic is there");
    Ok(partitions)
}

/// Waits ever longer, says every few seconds what for, and when it is over.
struct Waiting<'a> {
    what: &'static str,
    check: &'a Check,
    begun: Instant,
    mentioned: Option<Instant>,
    backoff: Duration,
}

impl<'a> Waiting<'a> {
    fn new(what: &'static str, check: &'a Check) -> Self {
        Self { what, check, begun: Instant::now(), mentioned: None, backoff: BACKOFF_FIRST }
    }

    /// Waits until the next attempt is due.
    async fn pause(&mut self, error: &(dyn std::error::Error + Send + Sync)) {
        let cause = chain(error);
        self.check.not_ready(format!("waiting for {}: {cause}", self.what));
        let now = Instant::now();
        let due = self.mentioned.map_or(self.begun + PATIENCE, |mentioned| mentioned + REMINDER);
        if now >= due {
            self.mentioned = Some(now);
            let waiting_seconds = (now - self.begun).as_secs();
            warn!(waiting_seconds, "waiting for {}: {cause}", self.what);
        }
        sleep(self.backoff).await;
        self.backoff = BACKOFF_MAX.min(self.backoff * 2);
    }

    fn over(&self) {
        self.check.ready();
        if self.mentioned.is_some() {
            let waited_seconds = self.begun.elapsed().as_secs();
            info!(waited_seconds, "{} is there", self.what);
        }
    }
}
