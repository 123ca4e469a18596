//! A partition's name: the unit of assignment, fetching and committing.

use std::fmt;
use std::sync::Arc;

/// The id of a broker in its cluster (`node.id`).
pub type NodeId = i32;

/// One partition of one topic. Cloning copies a pointer to the topic's name.
///
/// Displays as `<topic>-<partition>`, as Kafka's own tools write it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The name of the topic.
    pub topic: Arc<str>,
    /// The partition's index within the topic, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
