//! An operator's word: written until it is acknowledged.

use std::time::Duration;

use kafka_client::cluster::Cluster;
use kafka_client::error::ClientError;
use kafka_client::exact_writer::ExactWriter;
use kafka_client::topics::ensure_topics;
use kafka_client::writer::ProduceError;
use tokio::time::{Instant, sleep};

use crate::new_topic;
use crate::record::{Desired, Entry, Role, RunState};
use crate::writing::{now_ms, write};

/// How long it is tried.
const TRIED_MAX: Duration = Duration::from_secs(15);
/// Pause before it is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commanded {
    /// What the roles are to do.
    pub desired: Desired,
    /// The offset after the command: a view that is this far has seen it.
    pub next_offset: i64,
}

/// Why a command was not written, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no control topic, and it cannot be created.
    #[error("cannot create the control topic")]
    Topic(#[source] ClientError),
    /// The topic does not take the record, or nobody has acknowledged it for long.
    #[error("cannot write to the control topic")]
    Write(#[source] ProduceError),
}

/// Tells all services of `roles` to run or to pause, in `by`'s name. The topic is created where it is missing. Saying the
/// same again changes who said it last, and when.
///
/// # Errors
/// When it is refused, or when the cluster does not answer for 15 s.
///
/// # Cancel safety
/// What was said may hold all the same.
pub async fn command(
    cluster: &Cluster,
    topic: &str,
    replication_factor: i16,
    roles: &[Role],
    state: RunState,
    by: String,
) -> Result<Commanded, CommandError> {
    let give_up = Instant::now() + TRIED_MAX;
    let topics = [new_topic(topic, replication_factor)];
    while let Err(error) = ensure_topics(cluster, &topics).await {
        if !error.is_retriable() || give_up <= Instant::now() {
            return Err(CommandError::Topic(error));
        }
        sleep(PAUSE).await;
    }
    let desired = Desired { state, at_ms: Some(now_ms()), by: Some(by) };
    let entries: Vec<Entry> =
        roles.iter().map(|role| Entry::Desired(*role, Some(desired.clone()))).collect();
    let mut writer = ExactWriter::new(cluster.clone());
    loop {
        match write(&mut writer, topic, &entries).await {
            Ok(next_offset) => return Ok(Commanded { desired, next_offset }),
            Err(ProduceError::NotSent { .. } | ProduceError::Unknown { .. })
                if Instant::now() < give_up =>
            {
                sleep(PAUSE).await;
            }
            Err(error) => return Err(CommandError::Write(error)),
        }
    }
}
