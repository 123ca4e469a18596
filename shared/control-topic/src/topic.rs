//! The partitions and settings of the topic.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_client::cluster::TopicMetadata;
use kafka_client::topics::NewTopic;

/// The partition of commands, which every service reads.
pub(crate) const COMMANDS: i32 = 0;
/// The partition of reports. A topic with one partition has reports beside the commands.
pub(crate) const REPORTS: i32 = 1;
/// How often an instance reports.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// An instance without a report for so long counts as gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Returns the control topic to create.
///
/// Segments are small and short-lived, because only closed ones are compacted, and every service reads the whole topic at
/// its start.
pub fn new_topic(name: &str, replication_factor: i16) -> NewTopic {
    let configs = [
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "LogAppendTime"),
        ("segment.ms", "600000"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("delete.retention.ms", "3600000"),
    ];
    let configs: BTreeMap<String, String> =
        configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    NewTopic { name: name.into(), partitions: REPORTS + 1, replication_factor, configs }
}

pub(crate) fn reports(topic: &TopicMetadata) -> i32 {
    if topic.leaders.contains_key(&REPORTS) { REPORTS } else { COMMANDS }
}

pub(crate) fn partitions(topic: &TopicMetadata) -> impl Iterator<Item = i32> + use<> {
    COMMANDS..=reports(topic)
}
