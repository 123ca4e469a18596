//! Creation of topics with their configuration, instead of the broker's automatic creation.
//!
//! CreateTopics: <https://kafka.apache.org/protocol#The_Messages_CreateTopics>.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;

use crate::cluster::{Cluster, TopicMetadata, topic_name};
use crate::error::ClientError;

/// How long the controller may take to create topics, in milliseconds.
const CREATE_TIMEOUT_MS: i32 = 10_000;

/// A topic that has to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// The topic's name.
    pub name: Arc<str>,
    /// How many partitions it gets if it is created; an existing topic keeps its own.
    pub partitions: i32,
    /// How many replicas each partition gets if it is created; −1 is the broker's default.
    pub replication_factor: i16,
    /// Topic configuration that differs from the broker's defaults, for example `cleanup.policy`.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// Names a compacted topic of one partition.
    pub fn compacted(name: &str, replication_factor: i16) -> Self {
        let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        Self { name: name.into(), partitions: 1, replication_factor, configs }
    }
}

/// Creates those of `topics` that do not exist and describes all of them.
///
/// # Errors
/// [`ClientError::Unreachable`] or a retriable [`ClientError::Refused`]: call again, nothing is created twice. Any
/// other [`ClientError::Refused`] names the topic that cannot be created and why.
///
/// # Cancel safety
/// Cancel safe; topics may still be created.
pub async fn ensure_topics(
    cluster: &Cluster,
    topics: &[NewTopic],
) -> Result<BTreeMap<String, TopicMetadata>, ClientError> {
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_ref()).collect();
    let existing = cluster.metadata(&names).await?;
    let missing: Vec<&NewTopic> =
        topics.iter().filter(|topic| !existing.contains_key(topic.name.as_ref())).collect();
    if missing.is_empty() {
        return Ok(existing);
    }
    create(cluster, &missing).await?;
    let described = cluster.metadata(&names).await?;
    match topics.iter().find(|topic| !described.contains_key(topic.name.as_ref())) {
        None => Ok(described),
        // The broker does not have the new topic in its metadata yet.
        Some(topic) => Err(ClientError::refused(
            format!("describe topic {}", topic.name),
            ResponseError::UnknownTopicOrPartition,
        )),
    }
}

async fn create(cluster: &Cluster, topics: &[&NewTopic]) -> Result<(), ClientError> {
    let request = messages::CreateTopicsRequest::default()
        .with_timeout_ms(CREATE_TIMEOUT_MS)
        .with_topics(topics.iter().map(|topic| creatable(topic)).collect());
    let response = cluster.call_controller(&request).await?;
    for result in response.topics {
        match ResponseError::try_from_code(result.error_code) {
            None => tracing::info!(topic = result.name.0.as_str(), "created topic"),
            // Another process has created it.
            Some(ResponseError::TopicAlreadyExists) => {}
            Some(error) => {
                let message =
                    result.error_message.map(|message| format!(" ({message})")).unwrap_or_default();
                return Err(ClientError::refused(
                    format!("create topic {}{message}", result.name.0.as_str()),
                    error,
                ));
            }
        }
    }
    Ok(())
}

fn creatable(topic: &NewTopic) -> messages::create_topics_request::CreatableTopic {
    let configs = topic
        .configs
        .iter()
        .map(|(name, value)| {
            messages::create_topics_request::CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        })
        .collect();
    messages::create_topics_request::CreatableTopic::default()
        .with_name(topic_name(&topic.name))
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replication_factor)
        .with_configs(configs)
}
