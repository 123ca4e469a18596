//! The committed offsets of a group.

use std::collections::BTreeMap;

/// The longest metadata of a committed offset unless a test says otherwise, counted as Kafka does: in UTF-16 units.
pub(crate) const METADATA_CHARS_MAX: usize = 4096;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    /// The offset of the next record to consume.
    pub(crate) offset: i64,
    /// The leader epoch of the last record consumed, −1 when it is not known.
    pub(crate) leader_epoch: i32,
    /// What the consumer wants to be told back.
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
    /// Commits an offset.
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

    /// Forgets the committed offsets of a topic that was deleted.
    pub(crate) fn delete_topic(&mut self, topic: &str) {
        self.by_topic.remove(topic);
    }
}
