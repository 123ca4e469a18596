//! The committed offsets of a group.

use std::collections::BTreeMap;

/// The default of `offset.metadata.max.bytes`, which Kafka counts in UTF-16 units.
pub(crate) const METADATA_CHARS_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    /// The offset of the next record to consume.
    pub(crate) offset: i64,
    /// The leader epoch of the last record consumed, −1 if unknown.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

impl CommittedOffset {
    /// Returns whether the metadata is short enough.
    pub(crate) fn fits(&self, chars_max: usize) -> bool {
        // UTF-16 never needs more units than UTF-8 needs bytes.
        (self.metadata.len() <= chars_max) || (self.metadata.encode_utf16().count() <= chars_max)
    }
}

/// The committed offsets of a group, by topic and partition.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    by_topic: BTreeMap<String, BTreeMap<i32, CommittedOffset>>,
}

impl Offsets {
    pub(crate) fn commit(&mut self, topic: &str, partition: i32, committed: CommittedOffset) {
        if let Some(partitions) = self.by_topic.get_mut(topic) {
            partitions.insert(partition, committed);
        } else {
            self.by_topic.insert(topic.to_owned(), BTreeMap::from([(partition, committed)]));
        }
    }

    /// Returns the committed offset of a partition.
    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.by_topic.get(topic)?.get(&partition)
    }

    /// Returns all committed offsets by topic.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<i32, CommittedOffset>)> {
        self.by_topic.iter().map(|(topic, partitions)| (topic.as_str(), partitions))
    }

    pub(crate) fn delete_topic(&mut self, topic: &str) {
        self.by_topic.remove(topic);
    }
}
