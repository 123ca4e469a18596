//! Shared by the APIs: the context of a request, references to topics, strings of messages.

use std::time::Duration;

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::topics::Topics;

/// The first versions of Produce and Fetch that name topics by id.
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

/// The client, the version and the time of a request, and the node that it reached.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// The time since the broker started.
    pub(crate) now: Duration,
    pub(crate) node: NodeId,
    /// The version of the request.
    pub(crate) api_version: i16,
    /// The client's id, empty when it has none.
    pub(crate) client_id: String,
    /// The client's address, written as Kafka does: `/127.0.0.1`.
    pub(crate) client_host: String,
}

/// The name or the id of a topic in a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TopicReference<'a> {
    Name(&'a str),
    Id(Uuid),
}

impl<'a> TopicReference<'a> {
    pub(crate) fn of_produce(topic: &'a TopicProduceData, api_version: i16) -> Self {
        Self::new(&topic.name, topic.topic_id, api_version)
    }

    /// Returns the name of the topic.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_ID`, `UNKNOWN_TOPIC_OR_PARTITION`.
    pub(crate) fn resolve(self, topics: &Topics) -> Result<String, ResponseError> {
        match self {
            Self::Name(name) if topics.get(name).is_some() => Ok(name.to_owned()),
            Self::Name(_) => Err(ResponseError::UnknownTopicOrPartition),
            Self::Id(id) => {
                topics.name_of(id).map(str::to_owned).ok_or(ResponseError::UnknownTopicId)
            }
        }
    }

    pub(crate) fn new(name: &'a TopicName, id: Uuid, api_version: i16) -> Self {
        if FIRST_VERSION_WITH_TOPIC_IDS <= api_version { Self::Id(id) } else { Self::Name(name) }
    }
}

/// Converts a string for a message.
pub(crate) fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

/// Converts a topic name for a message.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Copies a string that outlives the request, so that it does not keep its buffer.
pub(crate) fn owned(value: Option<&StrBytes>) -> Option<String> {
    value.map(ToString::to_string)
}
