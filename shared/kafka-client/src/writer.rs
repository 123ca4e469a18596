//! Writing records through rskafka: one attempt at a time, under a deadline, with an answer that a caller can act on.
//!
//! Everything that is produced goes through [`Writer`], and no other module names rskafka. It gives what rskafka 0.6
//! leaves to its caller:
//!
//! - rskafka has no connect or request timeout and retries without end: here every call has a deadline, and rskafka's
//!   own retries are off, so that the caller decides what is sent again and when.
//! - rskafka keeps a stale leader in its cache: after a timeout, a broken connection or an answer of a broker that does
//!   not lead the partition, its client is replaced. All partitions share the new one, which is made once however many
//!   of them wait for it.
//! - rskafka's errors become three: [`ProduceError::Refused`] (not written, and the same records never will be),
//!   [`ProduceError::NotSent`] (not written, try again) and [`ProduceError::Unknown`] (written or not; sending the
//!   identical records again is the way on).
//!
//! ```text
//!            produce ──→ current Session ──→ rskafka client ──→ partition client ──→ answer
//!                             ↑                                                        │
//!                             └───── a new Session ←── unknown outcome, leader moved ──┘
//! ```
//!
//! One thing cannot be helped from outside: when a broker throttles a client by quota, rskafka 0.6 waits and then sends
//! the records again although they were written. Readers that drop repeats by producer id and sequence see them once.
//!
//! Produce: <https://kafka.apache.org/protocol#The_Messages_Produce>.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::select_ok;
use kafka_core::TopicPartition;
use rskafka::BackoffConfig;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::config::BrokerConfig;
use failure::Failure;

pub use failure::ProduceError;
pub use record::{
    BATCH_BYTES_MAX, BATCH_OVERHEAD_BYTES, OutgoingRecord, RecordHeader, SLOW_BATCH_BYTES,
};

mod failure;
mod record;

/// Writes records with acks=all. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: BrokerConfig,
    /// Replaced as a whole when something about it is in doubt.
    session: Mutex<Arc<Session>>,
}

/// One rskafka client with its partition clients; each is made at the first use.
#[derive(Debug, Default)]
struct Session {
    client: OnceCell<Client>,
    partitions: Mutex<BTreeMap<TopicPartition, Arc<OnceCell<PartitionClient>>>>,
}

impl Writer {
    /// Names a cluster to write to; nothing is connected yet.
    pub fn new(config: BrokerConfig) -> Self {
        let session = Mutex::default();
        Self { shared: Arc::new(Shared { config, session }) }
    }

    /// Sends `records` as one batch to one partition, waits until all in-sync replicas have it, and returns the offset
    /// of the first record; the others follow it without a gap. Without records nothing is sent.
    ///
    /// This is one attempt: nothing is sent twice. `records` should stay below [`BATCH_BYTES_MAX`] together, and no
    /// header name may repeat within a record (the last value would win).
    ///
    /// # Errors
    /// - [`ProduceError::Refused`]: nothing was written, and these records will not be accepted.
    /// - [`ProduceError::NotSent`]: nothing was written, because no broker that leads the partition was reached.
    /// - [`ProduceError::Unknown`]: the broker did not answer before `deadline`, or broke off, or has an error that may
    ///   pass. The records may have been written. To be sure of them, send the identical records again, before any
    ///   newer ones of the same partition.
    ///
    /// # Cancel safety
    /// The outcome is lost when the future is dropped: the records may still be written, even later, as after
    /// [`ProduceError::Unknown`].
    pub async fn produce(
        &self,
        target: &TopicPartition,
        records: &[OutgoingRecord],
        deadline: Instant,
    ) -> Result<i64, ProduceError> {
        let session = self.session();
        let doubt = |failure: Failure| {
            if failure.is_session_doubtful() {
                self.replace(&session);
            }
            failure
        };
        let cell = session.partition(target);
        let connect_deadline = deadline.min(Instant::now() + self.shared.config.connect_timeout);
        let connected = session.connect(&self.shared.config, target, &cell);
        let partition = within(connect_deadline, "no connection in time", connected)
            .await
            .map_err(|failure| doubt(failure).before_sending(target))?;

        let records = records.iter().map(OutgoingRecord::to_rskafka).collect();
        let answer = partition.produce(records, Compression::NoCompression);
        let offsets = within(deadline, "the broker did not answer in time", answer)
            .await
            .map_err(|failure| doubt(failure).after_sending(target))?;
        Ok(offsets.first().copied().unwrap_or_default())
    }

    /// Forgets what is known about the cluster, to be called when a topic has got more partitions: rskafka keeps what it
    /// has learnt about a topic, and calls a partition that came later unknown.
    ///
    /// Requests on their way are not touched.
    pub fn refresh(&self) {
        self.replace(&self.session());
    }

    fn session(&self) -> Arc<Session> {
        let session = self.shared.session.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&session)
    }

    /// Replaces the session unless another task has replaced it already.
    ///
    /// Requests of other partitions that are on their way keep the old one alive until they are answered.
    fn replace(&self, doubtful: &Arc<Session>) {
        let mut session = self.shared.session.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&session, doubtful) {
            *session = Arc::default();
        }
    }
}

impl Session {
    fn partition(&self, target: &TopicPartition) -> Arc<OnceCell<PartitionClient>> {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(partition) = partitions.get(target) {
            return Arc::clone(partition);
        }
        let partition = Arc::default();
        partitions.insert(target.clone(), Arc::clone(&partition));
        partition
    }

    /// Returns the partition's client, connected to its leader.
    async fn connect<'a>(
        &self,
        config: &BrokerConfig,
        target: &TopicPartition,
        partition: &'a OnceCell<PartitionClient>,
    ) -> Result<&'a PartitionClient, Failure> {
        let connect = || async {
            let client = self.client.get_or_try_init(|| build_client(config)).await?;
            let (topic, index) = (target.topic.as_ref(), target.partition);
            let unknown = UnknownTopicHandling::Error;
            Ok(client.partition_client(topic, index, unknown).await?)
        };
        partition.get_or_try_init(connect).await
    }
}

/// Waits for rskafka until `deadline`.
///
/// Its futures are nested so deeply that the compiler gives up on what holds them; boxed, they are one layer.
async fn within<T, E: Into<Failure>>(
    deadline: Instant,
    timeout_cause: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match timeout_at(deadline, Box::pin(call)).await {
        Ok(answer) => answer.map_err(E::into),
        Err(_elapsed) => Err(Failure::doubtful(timeout_cause)),
    }
}

/// Makes rskafka's client, from the first bootstrap server that accepts a connection.
///
/// rskafka would try one server after the other, without a timeout for each, and log every one that fails.
async fn build_client(config: &BrokerConfig) -> Result<Client, Failure> {
    if config.bootstrap_servers.is_empty() {
        return Err(Failure::doubtful("there are no bootstrap servers"));
    }
    let probes = config.bootstrap_servers.iter().map(|server| Box::pin(probe(server)));
    let (server, _other_probes) = select_ok(probes).await?;
    let client = ClientBuilder::new(vec![server.clone()])
        .client_id(config.client_id.as_str())
        .backoff_config(no_retries())
        .build()
        .await?;
    Ok(client)
}

async fn probe(server: &String) -> Result<&String, Failure> {
    match TcpStream::connect(server).await {
        Ok(_connection) => Ok(server),
        Err(error) => Err(Failure::doubtful(format!("{server}: {error}"))),
    }
}

/// A backoff that is over before its first pause.
fn no_retries() -> BackoffConfig {
    BackoffConfig { deadline: Some(Duration::ZERO), ..BackoffConfig::default() }
}

#[cfg(test)]
mod tests;
