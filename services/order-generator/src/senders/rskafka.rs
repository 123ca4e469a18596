//! The library rskafka as the transport of `PRODUCER=rskafka`: at least once, and one batch of a partition in flight.
//!
//! rskafka 0.6 retries without end and without a timeout. Here its own retries are off, every attempt has a deadline, and this
//! module decides what is sent again: the identical records, until the broker has them, refuses them, or time is up. After an
//! unknown outcome the client is replaced, because rskafka keeps what it has learnt about leaders.
//!
//! What this cannot give: a batch whose acknowledgement is lost is written again, and a client that is throttled by quota
//! writes its batch until the throttling ends, because rskafka takes a throttled answer for none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::select_ok;
use kafka_client::config::BrokerConfig;
use kafka_client::producer::{
    Appended, Attempted, BROKER_ERROR, Failures, NO_ANSWER, NOT_SENT, OnAttempt, ProduceError,
    Produced,
};
use kafka_core::TopicPartition;
use kafka_core::producer::ErrorClass;
use kafka_core::record_batch::{self, EncodedBatch};
use kafka_protocol::ResponseError;
use pacing::Backoff;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use rskafka::{BackoffConfig, BackoffError};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, timeout_at};

use crate::senders::delivery::{Delivery, Queued, Transport};

/// How long to wait for an acknowledgement before the next attempt.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The highest of Kafka's error codes that rskafka may name.
const CODE_MAX: i16 = 255;
/// The pauses between two attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Writes by rskafka. Cloning shares the connections.
#[derive(Clone, Debug)]
pub(crate) struct Rskafka(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: BrokerConfig,
    refusals_max: u32,
    on_attempt: OnAttempt,
    failures: watch::Sender<Failures>,
    /// Replaced as a whole when something about it is in doubt.
    session: Mutex<Arc<Session>>,
}

/// One client with its partitions; each is made at its first use.
#[derive(Debug, Default)]
struct Session {
    client: OnceCell<Client>,
    partitions: Mutex<BTreeMap<TopicPartition, Arc<OnceCell<PartitionClient>>>>,
}

/// What went wrong in an attempt.
enum Failure {
    Refused(ResponseError),
    /// The leader answered an error that may pass.
    Postponed(String),
    /// Connection, leader or answer are in doubt.
    Doubtful(String),
}

impl Rskafka {
    /// Names a cluster to write to; nothing is connected yet.
    pub(crate) fn new(config: BrokerConfig, refusals_max: u32, on_attempt: OnAttempt) -> Self {
        let failures = watch::Sender::default();
        let session = Mutex::default();
        Self(Arc::new(Shared { config, refusals_max, on_attempt, failures, session }))
    }

    /// Returns why batches wait.
    pub(crate) fn failures(&self) -> watch::Receiver<Failures> {
        self.0.failures.subscribe()
    }

    async fn deliver(
        self,
        target: TopicPartition,
        batch: EncodedBatch,
        give_up: Instant,
    ) -> Produced {
        let records = records(batch)
            .map_err(|cause| ProduceError::NotSent { target: target.clone(), cause })?;
        let mut backoff = BACKOFF;
        let mut refusals = 0;
        // The error of the last attempt whose records may have been written.
        let mut in_doubt = None;
        loop {
            let deadline = give_up.min(Instant::now() + REQUEST_TIMEOUT);
            let begun = Instant::now();
            let produced = self.attempt(&target, records.clone(), deadline).await;
            self.observe(&target, begun, produced.as_ref().err());
            let error = match produced {
                Ok(base_offset) => return Ok(Appended { base_offset: Some(base_offset) }),
                Err(error) => error,
            };
            let is_last = match &error {
                ProduceError::Refused { .. } => {
                    refusals += 1;
                    self.0.refusals_max < refusals || error.is_too_large()
                }
                ProduceError::NotSent { .. } => give_up <= Instant::now() + backoff.peek(),
                ProduceError::Unknown { .. } => {
                    in_doubt = Some(error.clone());
                    give_up <= Instant::now() + backoff.peek()
                }
            };
            if is_last {
                return Err(in_doubt.unwrap_or(error));
            }
            backoff.wait().await;
        }
    }

    /// Sends the records once and returns the offset of the first.
    async fn attempt(
        &self,
        target: &TopicPartition,
        records: Vec<Record>,
        deadline: Instant,
    ) -> Result<i64, ProduceError> {
        let session = self.session();
        let doubt = |failure: Failure| {
            if matches!(failure, Failure::Doubtful(_)) {
                self.replace(&session);
            }
            failure
        };
        let connect_deadline = deadline.min(Instant::now() + self.0.config.connect_timeout);
        let cell = session.partition(target);
        let connected = cell.get_or_try_init(|| session.connect(&self.0.config, target));
        let partition = within(connect_deadline, "no connection in time", connected)
            .await
            .map_err(|failure| doubt(failure).before_sending(target))?;
        let answer = partition.produce(records, Compression::NoCompression);
        let offsets = within(deadline, "the broker did not answer in time", answer)
            .await
            .map_err(|failure| doubt(failure).after_sending(target))?;
        Ok(offsets.first().copied().unwrap_or_default())
    }

    fn observe(&self, target: &TopicPartition, begun: Instant, error: Option<&ProduceError>) {
        let (error_type, waits_for) = match error {
            None => (None, None),
            Some(ProduceError::Refused { .. }) => (Some(BROKER_ERROR), None),
            Some(ProduceError::NotSent { cause, .. }) => (Some(NOT_SENT), Some(cause)),
            Some(ProduceError::Unknown { cause, .. }) => (Some(NO_ANSWER), Some(cause)),
        };
        self.0.on_attempt.observe(target, Attempted { duration: begun.elapsed(), error_type });
        self.0.failures.send_if_modified(|failures| match waits_for {
            Some(cause) => failures.insert(target.clone(), cause.clone()).as_ref() != Some(cause),
            None => failures.remove(target).is_some(),
        });
    }

    fn session(&self) -> Arc<Session> {
        Arc::clone(&self.0.session.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the session unless another task has done so. Requests on their way keep the old one.
    fn replace(&self, doubtful: &Arc<Session>) {
        let mut session = self.0.session.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&session, doubtful) {
            *session = Arc::default();
        }
    }
}

impl Transport for Rskafka {
    fn in_flight_max(&self) -> usize {
        1
    }

    fn enqueue(
        &self,
        target: TopicPartition,
        batch: EncodedBatch,
        deadline: Instant,
    ) -> Queued<'_> {
        let delivery = Delivery::new(self.clone().deliver(target, batch, deadline));
        Box::pin(async { delivery })
    }

    /// rskafka calls a partition unknown that came after it has read the topic's metadata.
    fn has_grown(&self) {
        self.replace(&self.session());
    }
}

impl Session {
    fn partition(&self, target: &TopicPartition) -> Arc<OnceCell<PartitionClient>> {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(partitions.entry(target.clone()).or_default())
    }

    /// Connects to the partition's leader.
    async fn connect(
        &self,
        config: &BrokerConfig,
        target: &TopicPartition,
    ) -> Result<PartitionClient, Failure> {
        let client = self.client.get_or_try_init(|| client(config)).await?;
        let (topic, partition) = (target.topic.as_ref(), target.partition);
        Ok(client.partition_client(topic, partition, UnknownTopicHandling::Error).await?)
    }
}

impl Failure {
    /// Returns what it means before the records were handed to rskafka.
    fn before_sending(self, target: &TopicPartition) -> ProduceError {
        match self.after_sending(target) {
            ProduceError::Unknown { target, cause } => ProduceError::NotSent { target, cause },
            other @ (ProduceError::Refused { .. } | ProduceError::NotSent { .. }) => other,
        }
    }

    /// Returns what it means once the records were handed to rskafka.
    fn after_sending(self, target: &TopicPartition) -> ProduceError {
        let target = target.clone();
        match self {
            Self::Refused(error) => ProduceError::Refused { target, error, message: String::new() },
            Self::Postponed(cause) | Self::Doubtful(cause) => {
                ProduceError::Unknown { target, cause }
            }
        }
    }
}

impl From<Error> for Failure {
    #[expect(clippy::wildcard_enum_match_arm, reason = "foreign enums: the rest is in doubt")]
    fn from(error: Error) -> Self {
        match error {
            Error::ServerError { protocol_error, .. } => answered(protocol_error),
            Error::RetryFailed(BackoffError::DeadlineExceded { source, .. }) => {
                match source.downcast::<Error>() {
                    Ok(error) => Self::from(*error),
                    Err(other) => Self::Doubtful(other.to_string()),
                }
            }
            other => Self::Doubtful(other.to_string()),
        }
    }
}

/// Returns what a broker's answer to a produce request, or to the metadata request before it, means.
fn answered(error: ProtocolError) -> Failure {
    let code = (-1..=CODE_MAX).find(|code| ProtocolError::new(*code) == Some(error));
    let Some(error) = code.and_then(ResponseError::try_from_code) else {
        return Failure::Doubtful(error.to_string());
    };
    match ErrorClass::of(error) {
        ErrorClass::Refused | ErrorClass::NotAuthorised => Failure::Refused(error),
        ErrorClass::NotWritten | ErrorClass::InDoubt => Failure::Postponed(format!("{error:?}")),
        ErrorClass::LeaderInDoubt
        | ErrorClass::Duplicate
        | ErrorClass::OutOfOrder
        | ErrorClass::UnknownProducer
        | ErrorClass::Fenced => Failure::Doubtful(format!("{error:?}")),
    }
}

/// Waits for rskafka until `deadline`. Its futures are boxed: the compiler gives up on what holds them.
async fn within<T, E: Into<Failure>>(
    deadline: Instant,
    timeout_cause: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match timeout_at(deadline, Box::pin(call)).await {
        Ok(answer) => answer.map_err(E::into),
        Err(_elapsed) => Err(Failure::Doubtful(timeout_cause.to_owned())),
    }
}

/// Makes rskafka's client, from the first bootstrap server that accepts a connection: rskafka would try one after the other, without
/// a timeout for each.
async fn client(config: &BrokerConfig) -> Result<Client, Failure> {
    let probes = config.bootstrap_servers.iter().map(|server| {
        Box::pin(async move {
            let connected = TcpStream::connect(server).await;
            connected.map_err(|error| Failure::Doubtful(format!("{server}: {error}")))?;
            Ok::<_, Failure>(server.clone())
        })
    });
    let (server, _other_probes) = select_ok(probes).await?;
    // Over before its first pause: no retries.
    let backoff = BackoffConfig { deadline: Some(Duration::ZERO), ..BackoffConfig::default() };
    let builder = ClientBuilder::new(vec![server]).client_id(config.client_id.as_str());
    Ok(builder.backoff_config(backoff).build().await?)
}

/// Reads the records of a batch.
fn records(mut batch: EncodedBatch) -> Result<Vec<Record>, String> {
    let bytes_max = batch.uncompressed_bytes();
    let bytes = batch.stamped(-1, -1, -1);
    let mut records = Vec::new();
    for raw in record_batch::batches(bytes) {
        let opened = raw.open(bytes_max).map_err(|error| error.to_string())?;
        for record in opened.records() {
            let record = record.map_err(|error| format!("{error:?}"))?;
            let header = |header: record_batch::Header<'_>| {
                let name = String::from_utf8_lossy(header.name).into_owned();
                (name, header.value.unwrap_or_default().to_vec())
            };
            records.push(Record {
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers.iter().map(header).collect(),
                timestamp: DateTime::<Utc>::from_timestamp_millis(record.timestamp_ms)
                    .unwrap_or_default(),
            });
        }
    }
    Ok(records)
}
