//! The value of a letter, also where the letter was too large to carry it.

use anyhow::Context as _;
use bytes::Bytes;
use kafka_client::cluster::Cluster;
use kafka_group::TopicPartition;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::dead_letter::{hex, names};
use crate::dlq::letter::Letter;
use crate::dlq::reading::Scan;
use crate::dlq::topic_log::TopicLog;

/// What there is of a record's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The value; null is one.
    Of(Option<Bytes>),
    /// It was left out of the letter, and cannot be had from where the record was: why not.
    Gone(String),
}

/// Returns the value of a letter; one that was left out is read from the topic the record failed in.
///
/// # Errors
/// When the cluster does not answer, or when told to stop.
pub(super) async fn of(
    letter: &Letter<'_>,
    cluster: &Cluster,
    stop: &CancellationToken,
) -> anyhow::Result<Value> {
    if letter.text(names::VALUE) != Some(names::OMITTED) {
        return Ok(Value::Of(letter.value.map(Bytes::copy_from_slice)));
    }
    let origin = &letter.origin;
    let gone = |why: &str| Ok(Value::Gone(format!("its value was left out, and {origin} {why}")));
    let Some(topic) = TopicLog::of(cluster, &origin.topic).await? else {
        return gone("is in no topic any more");
    };
    if topic.id != origin.topic_id {
        return gone("was in a topic that has been deleted and created again");
    }
    if topic.ranges.get(&origin.partition).is_none_or(|range| !range.contains(&origin.offset)) {
        return gone("is no longer in the log");
    }
    let tp = TopicPartition::new(origin.topic.as_str(), origin.partition);
    let part = origin.offset..origin.offset + 1;
    let mut scan = Scan::start(cluster, tp, topic.id, part, stop);
    while let Some(chunk) = scan.next().await.context("fetch a value that was left out")? {
        if let Some(record) = chunk.records().next() {
            let digest = hex(&Sha256::digest(record.value.unwrap_or_default()));
            if letter.text(names::VALUE_SHA256) != Some(digest.as_str()) {
                return gone("is not what it was");
            }
            return Ok(Value::Of(record.value.map(Bytes::copy_from_slice)));
        }
    }
    gone("cannot be read as a record")
}
