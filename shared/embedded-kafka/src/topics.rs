//! The topics of the broker: names, ids, configurations and their partitions.

pub(crate) mod config;
pub(crate) mod name;
pub(crate) mod partition;

use std::collections::BTreeMap;

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use crate::log::limits::LogLimits;
use crate::refusal::Refusal;
use crate::topics::config::TopicConfig;
use crate::topics::partition::Partition;

/// The most partitions of a topic: a typing error should not take all memory.
const PARTITIONS_MAX: i32 = 10_000;

#[derive(Debug)]
pub(crate) struct Topic {
    /// Distinguishes the topic from a later topic of the same name.
    pub(crate) id: Uuid,
    pub(crate) config: TopicConfig,
    pub(crate) limits: LogLimits,
    partitions: Vec<Partition>,
}

impl Topic {
    pub(crate) fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// Returns whether the topic has a partition, with or without a leader.
    pub(crate) fn has_partition(&self, index: i32) -> bool {
        (0..self.partition_count()).contains(&index)
    }

    /// Returns all partitions in the order of their indexes.
    pub(crate) fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Returns a partition.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    pub(crate) fn partition(&self, index: i32) -> Result<&Partition, ResponseError> {
        let found = usize::try_from(index).ok().and_then(|place| self.partitions.get(place));
        found.ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// Returns a partition for changes.
    ///
    /// # Errors
    /// As [`Topic::partition`].
    pub(crate) fn partition_mut(&mut self, index: i32) -> Result<&mut Partition, ResponseError> {
        let found = usize::try_from(index).ok().and_then(|place| self.partitions.get_mut(place));
        found.ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// Returns the number of replicas of each partition.
    pub(crate) fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.replicas().len())
    }

    /// Adds partitions with these replicas.
    pub(crate) fn grow(&mut self, replicas: impl IntoIterator<Item = Vec<NodeId>>) {
        self.partitions.extend(replicas.into_iter().map(Partition::new));
    }

    /// Returns the new number of partitions.
    ///
    /// # Errors
    /// `INVALID_PARTITIONS` when `count` is no increase, `POLICY_VIOLATION` above the maximum.
    pub(crate) fn check_growth(&self, count: i32) -> Result<usize, Refusal> {
        let current = self.partition_count();
        if count <= current {
            return Err(Refusal::new(
                ResponseError::InvalidPartitions,
                format!("the topic has {current} partitions, {count} would not be an increase"),
            ));
        }
        checked_partition_count(count)
    }
}

/// All topics of the broker.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_name: BTreeMap<String, Topic>,
    names: BTreeMap<Uuid, String>,
}

impl Topics {
    /// Returns all topics in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Topic)> {
        self.by_name.iter().map(|(name, topic)| (name.as_str(), topic))
    }

    /// Returns the partitions of all topics for changes.
    pub(crate) fn partitions_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.by_name.values_mut().flat_map(|topic| &mut topic.partitions)
    }

    /// Returns a topic by name.
    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// Returns a topic by name for changes.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    /// Returns the name of the topic with an id.
    pub(crate) fn name_of(&self, id: Uuid) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// Checks the name and the partitions of a new topic, and returns their number.
    ///
    /// # Errors
    /// `TOPIC_ALREADY_EXISTS`; `INVALID_TOPIC_EXCEPTION` for an illegal name, or a name that differs from that of a topic
    /// only in `.` and `_`; `INVALID_PARTITIONS`.
    pub(crate) fn check_new(&self, topic: &str, partition_count: i32) -> Result<usize, Refusal> {
        name::check(topic)?;
        if self.by_name.contains_key(topic) {
            return Err(Refusal::new(
                ResponseError::TopicAlreadyExists,
                format!("Topic '{topic}' already exists."),
            ));
        }
        if let Some(other) = self.by_name.keys().find(|other| name::collide(other, topic)) {
            return Err(Refusal::new(
                ResponseError::InvalidTopicException,
                format!("Topic '{topic}' collides with existing topic: {other}"),
            ));
        }
        checked_partition_count(partition_count)
    }

    /// Adds a topic that [`Topics::check_new`] accepts, with the replicas of its partitions.
    pub(crate) fn create(
        &mut self,
        name: &str,
        id: Uuid,
        replicas: impl IntoIterator<Item = Vec<NodeId>>,
        config: TopicConfig,
    ) {
        let mut topic = Topic { id, limits: config.limits(), config, partitions: Vec::new() };
        topic.grow(replicas);
        self.by_name.insert(name.to_owned(), topic);
        self.names.insert(id, name.to_owned());
    }

    /// Deletes a topic with its records and returns whether it existed.
    pub(crate) fn delete(&mut self, name: &str) -> bool {
        let Some(topic) = self.by_name.remove(name) else {
            return false;
        };
        self.names.remove(&topic.id);
        true
    }
}

fn checked_partition_count(count: i32) -> Result<usize, Refusal> {
    if PARTITIONS_MAX < count {
        return Err(Refusal::new(
            ResponseError::PolicyViolation,
            format!("a topic can have {PARTITIONS_MAX} partitions at most, not {count}"),
        ));
    }
    usize::try_from(count).ok().filter(|count| 0 < *count).ok_or_else(|| {
        Refusal::new(
            ResponseError::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        )
    })
}
