//! An operator's part: commands, and the deletion of old reports.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Utc;
use kafka_client::cluster::Cluster;
use kafka_client::error::ClientError;
use kafka_client::offsets::{OffsetAt, list_offset};
use kafka_client::producer::{ProduceError, Producer};
use kafka_client::topics::ensure_topics;
use kafka_core::TopicPartition;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::time::{Instant, sleep};

use crate::record::{Desired, Entry, Role, RunState};
use crate::topic::{COMMANDS, new_topic, partitions};
use crate::view::Instance;
use crate::writing::write;

/// How long a command is tried.
const TRIED_MAX: Duration = Duration::from_secs(15);
/// Pause before a command is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// Reports that one request deletes.
const DELETED_AT_ONCE: usize = 1_000;

/// Why a command was not written, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no control topic, and it cannot be created.
    #[error("cannot create the control topic")]
    Topic(#[source] ClientError),
    /// The broker refused the record, or did not acknowledge it in time.
    #[error("cannot write to the control topic")]
    Write(#[source] ProduceError),
}

/// Commands all services of `roles` to run or to pause, in `by`'s name, and returns the command. Creates the topic where
/// it is missing. A command that repeats the last one changes its author and its time.
///
/// # Errors
/// When it is refused, or when the cluster does not answer for 15 s.
///
/// # Cancel safety
/// A dropped future may have written the command.
pub async fn command(
    cluster: &Cluster,
    topic: &str,
    replication_factor: i16,
    roles: &[Role],
    state: RunState,
    by: String,
) -> Result<Desired, CommandError> {
    let give_up = Instant::now() + TRIED_MAX;
    let topics = [new_topic(topic, replication_factor)];
    while let Err(error) = ensure_topics(cluster, &topics).await {
        if !error.is_retriable() || give_up <= Instant::now() {
            return Err(CommandError::Topic(error));
        }
        sleep(PAUSE).await;
    }
    let at_ms = Utc::now().timestamp_millis();
    let digits = SysRng.try_next_u64().unwrap_or_else(|_no_source| at_ms.unsigned_abs());
    let id = Some(format!("{digits:016x}"));
    let desired = Desired { id, state, at_ms: Some(at_ms), by: Some(by) };
    let entries: Vec<Entry> =
        roles.iter().map(|role| Entry::Desired(*role, Some(desired.clone()))).collect();
    let producer = Producer::start(cluster.clone(), None);
    let written = write(&producer, topic, COMMANDS, &entries, give_up).await;
    written.map(|()| desired).map_err(CommandError::Write)
}

/// Returns the ends of the partitions that a [`Follower`](crate::Follower) reads. A view that has reached them has every
/// report that was acknowledged before.
///
/// # Errors
/// As [`list_offset`]; where there is no topic, there are no ends.
///
/// # Cancel safety
/// Cancel safe.
pub async fn ends(cluster: &Cluster, topic: &str) -> Result<BTreeMap<i32, i64>, ClientError> {
    let described = cluster.metadata(&[topic]).await?;
    let mut ends = BTreeMap::new();
    for partition in described.get(topic).into_iter().flat_map(partitions) {
        let tp = TopicPartition::new(topic, partition);
        ends.insert(partition, list_offset(cluster, &tp, OffsetAt::LastStable).await?);
    }
    Ok(ends)
}

/// Deletes the reports of instances of a role.
///
/// # Errors
/// As [`Producer::produce`]; some may have been deleted.
///
/// # Cancel safety
/// Some may have been deleted.
pub async fn forget(
    cluster: &Cluster,
    topic: &str,
    role: Role,
    instances: &[&Instance],
) -> Result<(), ProduceError> {
    let producer = Producer::start(cluster.clone(), None);
    let mut by_partition: BTreeMap<i32, Vec<Entry>> = BTreeMap::new();
    for Instance { name, partition, .. } in instances {
        let entry = Entry::Instance { role, name: name.clone(), report: None };
        by_partition.entry(*partition).or_default().push(entry);
    }
    for (partition, entries) in by_partition {
        for entries in entries.chunks(DELETED_AT_ONCE) {
            write(&producer, topic, partition, entries, Instant::now() + TRIED_MAX).await?;
        }
    }
    Ok(())
}
