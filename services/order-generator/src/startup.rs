//! The conditions of the first order: the schema in the registry, and the topic.
//!
//! The generator waits for an unreachable registry or broker. A refusal ends it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use anyhow::{Context as _, bail};
use kafka_client::cluster::{Cluster, TopicMetadata};
use kafka_client::configs::topic_config;
use kafka_client::error::chain;
use kafka_client::retry::until_ok;
use kafka_client::topics::{NewTopic, ensure_topics};
use order_avro::ORDER_SCHEMA;
use schema_registry::SchemaRegistry;
use service_runtime::settings::TopicSettings;
use service_runtime::{Check, Waiting};
use tracing::info;

/// Registers the orders' schema for the topic's values unless the subject has it, and returns its id.
///
/// The generator needs the right to write only for the registration, which also checks the subject's compatibility level.
///
/// # Errors
///
/// When the registry refuses the schema; the error has the registry's message.
///
/// # Cancel safety
///
/// Cancel safe; a cancelled call may have registered the schema.
pub(crate) async fn register_schema(
    registry: &SchemaRegistry,
    topic: &str,
    check: &Check,
) -> anyhow::Result<u32> {
    let subject = format!("{topic}-value");
    let mut waiting = Waiting::new("the schema registry", check);
    let schema_id = registry
        .ensure_registered(&subject, ORDER_SCHEMA, |error| waiting.goes_on(error))
        .await
        .with_context(|| {
            format!("the subject {subject} does not have the orders' schema, and the generator cannot register it")
        })?;
    waiting.over();
    check.ready();
    info!(subject, schema_id, "the schema is registered");
    Ok(schema_id)
}

/// Creates the topic unless it exists, and returns the number of its partitions.
///
/// # Errors
///
/// When the broker refuses to create or describe the topic.
///
/// # Cancel safety
///
/// Cancel safe; a cancelled call may have created the topic.
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
    let topics =
        until_ok(|| ensure_topics(cluster, &wanted), |error| waiting.goes_on(chain(error)))
            .await
            .with_context(|| format!("create topic {topic}"))?;
    waiting.over();
    check.ready();
    let partitions = topics.get(topic).map_or(0, TopicMetadata::partition_count);
    let Some(partitions) = u32::try_from(partitions).ok().and_then(NonZeroU32::new) else {
        bail!("topic {topic} has no partitions");
    };
    info!(topic, partitions, "the topic exists");
    Ok(partitions)
}

/// Returns the most bytes of a batch that the topic takes; `None` if the generator may not ask (`DescribeConfigs` on the topic), or
/// gets no answer.
///
/// # Cancel safety
///
/// Cancel safe.
pub(crate) async fn batch_bytes_max(cluster: &Cluster, topic: &str) -> Option<usize> {
    match topic_config(cluster, topic, "max.message.bytes").await {
        Ok(value) => value?.parse().ok(),
        Err(error) => {
            info!("the topic's max.message.bytes is unknown: {}", chain(&error));
            None
        }
    }
}
