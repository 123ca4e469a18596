//! The topics of the broker: names, ids, configurations and the logs of their partitions.

pub(crate) mod config;
pub(crate) mod name;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use crate::log::PartitionLog;
use crate::log::limits::LogLimits;
use crate::refusal::Refusal;
use crate::topics::config::TopicConfig;

/// The most partitions of a topic: a typing error should not take all memory.
const PARTITIONS_MAX: i32 = 10_000;

#[derive(Debug)]
pub(crate) struct Topic {
    /// Distinguishes the topic from a later topic of the same name.
    pub(crate) id: Uuid,
    pub(crate) config: TopicConfig,
    limits: LogLimits,
    partitions: Vec<PartitionLog>,
    leaderless: BTreeSet<i32>,
}

impl Topic {
    pub(crate) fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// Returns whether the topic has a partition, with or without a leader.
    pub(crate) fn has_partition(&self, index: i32) -> bool {
        (0..self.partition_count()).contains(&index)
    }

    /// Returns whether a partition exists and has a leader.
    pub(crate) fn has_leader(&self, index: i32) -> bool {
        self.has_partition(index) && !self.leaderless.contains(&index)
    }

    pub(crate) fn lose_leader(&mut self, index: i32) {
        self.leaderless.insert(index);
    }

    pub(crate) fn elect_leader(&mut self, index: i32) {
        self.leaderless.remove(&index);
    }

    /// Returns the log of a partition.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, `NOT_LEADER_OR_FOLLOWER`.
    pub(crate) fn partition(&self, index: i32) -> Result<&PartitionLog, ResponseError> {
        Ok(&self.partitions[self.led(index)?])
    }

    /// Returns the log of a partition for changes.
    ///
    /// # Errors
    /// As [`Topic::partition`].
    pub(crate) fn partition_mut(&mut self, index: i32) -> Result<&mut PartitionLog, ResponseError> {
        let led = self.led(index)?;
        Ok(&mut self.partitions[led])
    }

    /// Returns the index of a partition with a leader.
    fn led(&self, index: i32) -> Result<usize, ResponseError> {
        let place = usize::try_from(index).ok().filter(|place| *place < self.partitions.len());
        let place = place.ok_or(ResponseError::UnknownTopicOrPartition)?;
        if self.has_leader(index) { Ok(place) } else { Err(ResponseError::NotLeaderOrFollower) }
    }

    /// Appends a batch to a partition and returns the offset of its first record.
    ///
    /// # Errors
    /// As [`Topic::partition`] and [`PartitionLog::append`].
    pub(crate) fn append(&mut self, partition: i32, batch: Bytes) -> Result<i64, Refusal> {
        let limits = self.limits;
        self.partition_mut(partition)
            .map_err(|error| Refusal::new(error, error.to_string()))?
            .append(batch, &limits)
    }

    /// Grows the topic to `count` partitions.
    ///
    /// # Errors
    /// As [`Topic::check_growth`].
    pub(crate) fn grow(&mut self, count: i32) -> Result<(), Refusal> {
        let wanted = self.check_growth(count)?;
        self.partitions.resize_with(wanted, PartitionLog::default);
        Ok(())
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

    /// Checks the name and the partitions of a new topic.
    ///
    /// # Errors
    /// `TOPIC_ALREADY_EXISTS`; `INVALID_TOPIC_EXCEPTION` for an illegal name, or a name that differs from that of a topic
    /// only in `.` and `_`; `INVALID_PARTITIONS`.
    pub(crate) fn check_new(&self, topic: &str, partition_count: i32) -> Result<(), Refusal> {
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
        checked_partition_count(partition_count).map(|_| ())
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// As [`Topics::check_new`].
    pub(crate) fn create(
        &mut self,
        name: &str,
        id: Uuid,
        partition_count: i32,
        config: TopicConfig,
    ) -> Result<(), Refusal> {
        self.check_new(name, partition_count)?;
        let mut partitions = Vec::new();
        partitions.resize_with(checked_partition_count(partition_count)?, PartitionLog::default);
        let leaderless = BTreeSet::new();
        let topic = Topic { id, limits: config.limits(), config, partitions, leaderless };
        self.by_name.insert(name.to_owned(), topic);
        self.names.insert(id, name.to_owned());
        Ok(())
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
