//! Partitions in log lines and readiness reports.

use std::collections::{BTreeMap, BTreeSet};

use kafka_core::TopicPartition;

/// Partitions by the reason why they cannot be read.
pub(crate) type ByReason = BTreeMap<String, BTreeSet<TopicPartition>>;

/// Formats partitions topic by topic: `orders 0 1 2, orders.replay 0`.
pub(crate) fn list(partitions: &BTreeSet<TopicPartition>) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for tp in partitions {
        topics.entry(&tp.topic).or_default().push(tp.partition.to_string());
    }
    let topics: Vec<String> = topics
        .into_iter()
        .map(|(topic, indexes)| format!("{topic} {}", indexes.join(" ")))
        .collect();
    topics.join(", ")
}
