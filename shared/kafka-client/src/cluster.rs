//! The cluster: its brokers, the leaders of partitions, and single requests to any broker.
//!
//! [`Cluster`] keeps one idle connection per broker for requests that belong to no group and no reader. Readers,
//! group members and committers open their own ([`Cluster::connect`]), because a broker processes one request per
//! connection at a time.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{self, BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::api::Call;
use crate::config::BrokerConfig;
use crate::connection::{Connection, ConnectionError};
use crate::error::ClientError;

/// FindCoordinator's key type of consumer groups.
const GROUP_KEY_TYPE: i8 = 0;

/// The metadata of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The topic's id: another one after the topic was deleted and created again (KIP-516).
    pub topic_id: Uuid,
    /// The leader of each partition, `None` while it has none.
    pub leaders: BTreeMap<i32, Option<NodeId>>,
}

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

impl TopicMetadata {
    /// Returns the partitions of this topic with the name `name`.
    pub fn partitions(&self, name: &str) -> Vec<TopicPartition> {
        self.leaders.keys().map(|index| TopicPartition::new(name, *index)).collect()
    }

    /// Returns how many partitions the topic has.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.leaders.len()).unwrap_or(i32::MAX)
    }
}

/// A Kafka cluster. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: BrokerConfig,
    /// `host:port` of every broker that the last metadata response named.
    addresses: Mutex<BTreeMap<NodeId, String>>,
    /// Idle connections by address, taken out while in use.
    idle: Mutex<BTreeMap<String, Connection>>,
}

impl Cluster {
    /// Returns a handle to a cluster without connecting to it.
    pub fn new(config: BrokerConfig) -> Self {
        let inner = Inner { config, addresses: Mutex::default(), idle: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Returns how brokers are reached.
    pub fn config(&self) -> &BrokerConfig {
        &self.inner.config
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

    /// Describes `topics`; each has its own metadata or error. Creates nothing.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] while no broker answers.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn describe(
        &self,
        topics: &[&str],
    ) -> Result<BTreeMap<String, Result<TopicMetadata, ResponseError>>, ClientError> {
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
        {
            let mut addresses = self.inner.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            *addresses = response
                .brokers
                .iter()
                .map(|broker| {
                    (broker.node_id.0, format!("{}:{}", broker.host.as_str(), broker.port))
                })
                .collect();
        }
        let topics = response.topics.iter().map(|topic| {
            let name = topic.name.as_ref().map(|name| name.0.to_string()).unwrap_or_default();
            match ResponseError::try_from_code(topic.error_code) {
                None | Some(ResponseError::LeaderNotAvailable) => (name, Ok(read_topic(topic))),
                Some(error) => (name, Err(error)),
            }
        });
        Ok(topics.collect())
    }

    /// Returns the `host:port` of the coordinator of consumer group `group_id`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `CoordinatorNotAvailable` while a new cluster has none yet.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn find_coordinator(&self, group_id: &str) -> Result<String, ClientError> {
        let request = messages::FindCoordinatorRequest::default()
            .with_key_type(GROUP_KEY_TYPE)
            .with_coordinator_keys(vec![StrBytes::from_string(group_id.to_owned())]);
        let response = self.call_any(&request).await?;
        let what = || format!("find the coordinator of group {group_id}");
        let coordinator = response
            .coordinators
            .first()
            .ok_or_else(|| ClientError::refused(what(), ResponseError::CoordinatorNotAvailable))?;
        match ResponseError::try_from_code(coordinator.error_code) {
            None => Ok(format!("{}:{}", coordinator.host.as_str(), coordinator.port)),
            Some(error) => Err(ClientError::refused(what(), error)),
        }
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

    /// Returns the broker at `address`, if the last metadata response named it.
    pub fn node(&self, address: &str) -> Option<NodeId> {
        let addresses = self.inner.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.iter().find(|(_, known)| *known == address).map(|(node, _)| *node)
    }

    /// Returns the `host:port` of broker `node`, if the last metadata response named it.
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.inner.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// Sends `request` to any broker that answers: those known from metadata first, then the bootstrap servers.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] with the last broker's failure when all of them failed.
    ///
    /// # Cancel safety
    /// Cancel safe for the connection; the broker may still act on the request.
    pub async fn call_any<R: Call>(&self, request: &R) -> Result<R::Response, ClientError> {
        let mut failure = None;
        for address in self.candidates() {
            match self.call(&address, request).await {
                Ok(response) => return Ok(response),
                Err(error) => {
                    tracing::debug!(address, error = %error, "broker did not answer, trying the next");
                    failure = Some(error);
                }
            }
        }
        Err(failure.map_or_else(no_servers, ClientError::from))
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
        self.call_made::<R, &R>(address, |_version| request).await
    }

    /// Sends the request that `make` builds for the negotiated version; otherwise as [`Cluster::call`].
    pub(crate) async fn call_made<R: Call, B: Borrow<R>>(
        &self,
        address: &str,
        make: impl Fn(i16) -> B,
    ) -> Result<R::Response, ConnectionError> {
        let deadline = self.inner.config.request_timeout;
        let idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
        if let Some(mut connection) = idle.and_then(Connection::if_open) {
            let request = make(connection.version::<R>()?);
            match connection.call(request.borrow(), deadline).await {
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
        let request = make(connection.version::<R>()?);
        let response = connection.call(request.borrow(), deadline).await?;
        self.put_back(connection);
        Ok(response)
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.insert(connection.address().to_owned(), connection);
    }

    fn candidates(&self) -> Vec<String> {
        let addresses = self.inner.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut candidates: Vec<String> = addresses.values().cloned().collect();
        for server in &self.inner.config.bootstrap_servers {
            if !candidates.contains(server) {
                candidates.push(server.clone());
            }
        }
        candidates
    }
}

/// Wraps a topic's name for the wire.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn read_topic(topic: &messages::metadata_response::MetadataResponseTopic) -> TopicMetadata {
    let leaders = topic
        .partitions
        .iter()
        .map(|partition| {
            let BrokerId(leader) = partition.leader_id;
            (partition.partition_index, (leader >= 0).then_some(leader))
        })
        .collect();
    TopicMetadata { topic_id: topic.topic_id, leaders }
}

fn no_servers() -> ClientError {
    let source = std::io::Error::new(
        std::io::ErrorKind::InvalidInput,
        "no bootstrap servers are configured",
    );
    ClientError::Unreachable(ConnectionError::Connect { address: String::new(), source })
}
