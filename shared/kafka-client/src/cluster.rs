//! The cluster: its brokers, the leaders of partitions, coordinators, and single requests to any broker.
//!
//! [`Cluster`] caches the metadata that brokers have reported ([`Cluster::known`]) for the whole process, and keeps one idle
//! connection per broker for requests that belong to no group and no reader. Readers, producers, group members
//! and committers open their own ([`Cluster::connect`]), because a broker processes one request per connection at a time.

mod metadata;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_core::TopicPartition;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{self, TopicName};
use kafka_protocol::protocol::StrBytes;
use pacing::Backoff;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

pub use self::metadata::{Described, Leader, Metadata, TopicMetadata};
use crate::api::{Call, StreamedCall};
use crate::config::BrokerConfig;
use crate::connection::{Connection, ConnectionError};
use crate::coordinator::{Coordinator, Coordinators};
use crate::error::ClientError;
use crate::race::first_success;

/// How long a broker may take to answer before another one is asked the same beside it.
const NEXT_BROKER_DELAY: Duration = Duration::from_secs(1);
/// Pauses between refreshes that bring no news, as `retry.backoff.ms` and `retry.backoff.max.ms` of Kafka's own clients.
const REFRESH_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

/// The metadata of topics. A topic that does not exist is in neither map.
#[derive(Clone, Debug, Default)]
pub struct ExistingTopics {
    /// The described topics.
    pub topics: BTreeMap<String, TopicMetadata>,
    /// The error of each topic that the cluster refuses to describe.
    pub refused: BTreeMap<String, ResponseError>,
}

impl ExistingTopics {
    /// Returns the partitions of the described topics.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        partitions(&self.topics)
    }
}

/// Returns all partitions of these topics.
pub fn partitions(topics: &BTreeMap<String, TopicMetadata>) -> Vec<TopicPartition> {
    topics.iter().flat_map(|(name, topic)| topic.partitions(name)).collect()
}

/// A Kafka cluster. Cloning shares the connections and what is known.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: BrokerConfig,
    known: watch::Sender<Arc<Metadata>>,
    refreshes: tokio::sync::Mutex<Refreshes>,
    /// The brokers that answered last, the latest first.
    answered: Mutex<Vec<Arc<str>>>,
    /// Idle connections by address, taken out while in use.
    idle: Mutex<BTreeMap<String, Connection>>,
    coordinators: Coordinators,
}

/// When topics were asked about, and when the next refresh may be sent.
#[derive(Debug)]
struct Refreshes {
    asked_at: BTreeMap<String, Instant>,
    backoff: Backoff,
    not_before: Instant,
}

impl Cluster {
    /// Returns a handle to a cluster without connecting to it.
    pub fn new(config: BrokerConfig) -> Self {
        let refreshes = Refreshes {
            asked_at: BTreeMap::new(),
            backoff: REFRESH_BACKOFF,
            not_before: Instant::now(),
        };
        let inner = Inner {
            config,
            known: watch::Sender::default(),
            refreshes: refreshes.into(),
            answered: Mutex::default(),
            idle: Mutex::default(),
            coordinators: Coordinators::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns how brokers are reached.
    pub fn config(&self) -> &BrokerConfig {
        &self.inner.config
    }

    /// Returns what the cluster has told so far of its brokers and topics, without asking it.
    pub fn known(&self) -> Arc<Metadata> {
        Arc::clone(&self.inner.known.borrow())
    }

    /// Returns what the cluster has told; the receiver sees every change.
    pub fn watch(&self) -> watch::Receiver<Arc<Metadata>> {
        self.inner.known.subscribe()
    }

    /// Describes `topics`; topics that do not exist are left out. Creates nothing.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] while no broker answers, [`ClientError::Refused`] where one of the topics may
    /// not be described.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn metadata(
        &self,
        topics: &[&str],
    ) -> Result<BTreeMap<String, TopicMetadata>, ClientError> {
        let mut described = BTreeMap::new();
        for (name, topic) in self.describe(topics).await? {
            match topic {
                Ok(topic) => {
                    described.insert(name, topic);
                }
                Err(ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId) => {}
                Err(error) => {
                    return Err(ClientError::refused(format!("describe topic {name}"), error));
                }
            }
        }
        Ok(described)
    }

    /// Describes the existing ones of `topics`. Creates nothing.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] while no broker answers.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn existing(&self, topics: &[&str]) -> Result<ExistingTopics, ClientError> {
        let mut existing = ExistingTopics::default();
        for (name, topic) in self.describe(topics).await? {
            match topic {
                Ok(topic) => drop(existing.topics.insert(name, topic)),
                Err(ResponseError::UnknownTopicOrPartition) => {}
                Err(error) => drop(existing.refused.insert(name, error)),
            }
        }
        Ok(existing)
    }

    /// Describes `topics` by asking the cluster; each has its own metadata or error. Creates nothing.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] while no broker answers.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn describe(&self, topics: &[&str]) -> Result<Described, ClientError> {
        let names = topics
            .iter()
            .map(|name| {
                messages::metadata_request::MetadataRequestTopic::default()
                    .with_name(Some(topic_name(name)))
            })
            .collect();
        let request = messages::MetadataRequest::default()
            .with_topics(Some(names))
            .with_allow_auto_topic_creation(false);
        let response = self.call_any(&request).await?;
        let mut described = Described::new();
        self.inner.known.send_if_modified(|known| {
            let mut newer = Metadata::clone(known);
            described = newer.merge(&response);
            let has_changed = newer != **known;
            if has_changed {
                *known = Arc::new(newer);
            }
            has_changed
        });
        Ok(described)
    }

    /// Asks the cluster about `topics`, because what is known of them is missing, old or wrong. Calls at the same time share
    /// one request, and refreshes that bring no news have pauses between them.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] while no broker answers.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn refresh(&self, topics: &[&str]) -> Result<(), ClientError> {
        let called_at = Instant::now();
        let mut refreshes = self.inner.refreshes.lock().await;
        let is_answered = |topic: &&str| {
            let asked_at = refreshes.asked_at.get(*topic);
            asked_at.is_some_and(|asked_at| called_at <= *asked_at)
        };
        if topics.iter().all(is_answered) {
            return Ok(());
        }
        sleep_until(refreshes.not_before).await;
        let (asked_at, before) = (Instant::now(), self.known());
        let described = self.describe(topics).await;
        if described.is_ok() && !Arc::ptr_eq(&before, &self.known()) {
            refreshes.backoff.reset();
        }
        refreshes.not_before = Instant::now() + refreshes.backoff.advance();
        described?;
        refreshes.asked_at.extend(topics.iter().map(|topic| ((*topic).to_owned(), asked_at)));
        Ok(())
    }

    /// Notes a leader that a broker has named in another answer than Metadata (KIP-951), with its address if it did.
    pub fn note_leader(&self, tp: &TopicPartition, leader: Leader, address: Option<Arc<str>>) {
        self.inner.known.send_if_modified(|known| {
            let mut newer = Metadata::clone(known);
            let is_news = newer.note_leader(tp, leader, address);
            if is_news {
                *known = Arc::new(newer);
            }
            is_news
        });
    }

    /// Returns the coordinator of consumer group `group_id`. All handles of this cluster share what they find out about it.
    pub fn coordinator(&self, group_id: impl Into<String>) -> Coordinator {
        let group_id = group_id.into();
        let state = self.inner.coordinators.of(&group_id);
        Coordinator::new(self.clone(), group_id, state)
    }

    /// Opens a new connection to `address`.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn connect(&self, address: &str) -> Result<Connection, ConnectionError> {
        Connection::connect(address, &self.inner.config).await
    }

    /// Sends `request` to any broker that answers: those that answered last first. Another broker is asked beside one that does not
    /// answer for a second.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] with the last broker's failure when all of them failed.
    ///
    /// # Cancel safety
    /// Cancel safe for the connection; the brokers may still act on the request.
    pub async fn call_any<R: Call>(&self, request: &R) -> Result<R::Response, ClientError> {
        let ask = async |address: Arc<str>| {
            let response = self.call(&address, request).await;
            match &response {
                Ok(_) => self.note_answer(&address),
                Err(error) => {
                    tracing::debug!(address = %address, error = %error, "broker did not answer, trying the next");
                    self.answered().retain(|other| *other != address);
                }
            }
            response
        };
        first_success(self.candidates(), NEXT_BROKER_DELAY, ask)
            .await
            .map_err(|failure| failure.map_or_else(no_servers, ClientError::from))
    }

    /// Sends `request` to the controller, or to any broker while none is known. Brokers of a `KRaft` cluster forward what is the
    /// controller's.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if it does not answer.
    ///
    /// # Cancel safety
    /// As [`Cluster::call_any`].
    pub async fn call_controller<R: Call>(&self, request: &R) -> Result<R::Response, ClientError> {
        match self.known().controller() {
            Some(address) => Ok(self.call(address, request).await?),
            None => self.call_any(request).await,
        }
    }

    /// Sends `request` to the broker at `address`, over an idle connection if there is one.
    ///
    /// # Errors
    /// Any [`ConnectionError`]; an idle connection that turns out to be closed is replaced once.
    ///
    /// # Cancel safety
    /// As [`Cluster::call_any`].
    pub async fn call<R: Call>(
        &self,
        address: &str,
        request: &R,
    ) -> Result<R::Response, ConnectionError> {
        self.exchange(address, &Plain(request)).await
    }

    /// Sends the request that `make` builds for the negotiated version, and decodes the response while it arrives; otherwise
    /// as [`Cluster::call`].
    pub(crate) async fn call_streamed<R: StreamedCall>(
        &self,
        address: &str,
        make: impl Fn(i16) -> R + Send + Sync,
    ) -> Result<R::Answer, ConnectionError> {
        self.exchange(address, &Streamed(make)).await
    }

    async fn exchange<E: Exchange>(
        &self,
        address: &str,
        exchange: &E,
    ) -> Result<E::Answer, ConnectionError> {
        let deadline = self.inner.config.request_timeout;
        let idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
        if let Some(mut connection) = idle.and_then(Connection::if_open) {
            match exchange.run(&mut connection, deadline).await {
                Ok(response) => {
                    self.put_back(connection);
                    return Ok(response);
                }
                // The broker may just have closed it (connections.max.idle.ms, a restart). Every request of this method may
                // be sent twice.
                Err(ConnectionError::Broken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.connect(address).await?;
        let response = exchange.run(&mut connection, deadline).await?;
        self.put_back(connection);
        Ok(response)
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.insert(connection.address().to_owned(), connection);
    }

    /// Returns the brokers to ask, in order: those that answered last, those known from metadata, the bootstrap servers.
    fn candidates(&self) -> Vec<Arc<str>> {
        let mut candidates = self.answered().clone();
        let known = self.known();
        let bootstrap = self.inner.config.bootstrap_servers.iter();
        for address in
            known.addresses().cloned().chain(bootstrap.map(|server| server.as_str().into()))
        {
            if !candidates.contains(&address) {
                candidates.push(address);
            }
        }
        candidates
    }

    fn answered(&self) -> std::sync::MutexGuard<'_, Vec<Arc<str>>> {
        self.inner.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_answer(&self, address: &Arc<str>) {
        let mut answered = self.answered();
        if answered.first() != Some(address) {
            answered.retain(|other| other != address);
            answered.insert(0, Arc::clone(address));
        }
    }
}

/// A request that any connection to its broker may carry.
trait Exchange: Sync {
    type Answer;

    fn run(
        &self,
        connection: &mut Connection,
        deadline: Duration,
    ) -> impl Future<Output = Result<Self::Answer, ConnectionError>> + Send;
}

struct Plain<'a, R>(&'a R);

struct Streamed<F>(F);

impl<R: Call> Exchange for Plain<'_, R> {
    type Answer = R::Response;

    async fn run(
        &self,
        connection: &mut Connection,
        deadline: Duration,
    ) -> Result<R::Response, ConnectionError> {
        connection.call(self.0, deadline).await
    }
}

impl<R: StreamedCall, F: Fn(i16) -> R + Sync> Exchange for Streamed<F> {
    type Answer = R::Answer;

    async fn run(
        &self,
        connection: &mut Connection,
        deadline: Duration,
    ) -> Result<R::Answer, ConnectionError> {
        let version = connection.newest(R::KEY, R::VERSIONS)?;
        connection.call_streamed(&(self.0)(version), version, deadline).await
    }
}

/// Wraps a topic's name for the wire.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn no_servers() -> ClientError {
    let source = std::io::Error::new(
        std::io::ErrorKind::InvalidInput,
        "no bootstrap servers are configured",
    );
    ClientError::Unreachable(ConnectionError::Connect { address: String::new(), source })
}

#[cfg(test)]
mod tests;
