//! The broker as its users see it: start, address, faults, stop and restart.

mod connection;
mod dispatch;
mod listener;
mod owner;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::broker::owner::Owner;
use crate::groups::GroupSettings;
use crate::state::{Settings, State};
use crate::topics::Topic;

/// The settings of a broker.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Where to listen; port 0 picks a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// Whether a client that asks for the metadata of an unknown topic creates it. Default `true`.
    pub auto_create_topics: bool,
    /// How many partitions a topic gets when its creator sets none, at least 1. Default 1.
    pub default_partitions: i32,
    /// `retention.bytes` of topics that do not set it, per partition. Default `None`: the broker keeps everything.
    pub retention_bytes: Option<usize>,
    /// The shortest session timeout that a group member may ask for. Default 6 s.
    pub min_session_timeout: Duration,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            auto_create_topics: true,
            default_partitions: 1,
            retention_bytes: None,
            min_session_timeout: Duration::from_secs(6),
        }
    }
}

/// Why a broker or a registry did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process cannot listen on the address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address to listen on.
        address: SocketAddr,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
}

/// A partition that the broker does not have.
#[derive(Debug, thiserror::Error)]
#[error("there is no partition {partition} of topic {topic}")]
pub struct UnknownPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's index.
    pub partition: i32,
}

/// A running broker, on the tokio runtime that started it. Dropping it stops it and loses its state.
#[derive(Debug)]
pub struct EmbeddedKafka {
    owner: Arc<Owner>,
    options: BrokerOptions,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

/// A stopped broker: its topics, records, groups and committed offsets.
#[derive(Debug)]
pub struct StoppedKafka {
    state: State,
    options: BrokerOptions,
}

impl EmbeddedKafka {
    /// Starts an empty broker.
    ///
    /// # Errors
    /// [`StartError`] when the broker cannot listen on the address.
    ///
    /// # Cancel safety
    /// Cancel safe: a broker that is not returned does not run.
    pub async fn start(options: BrokerOptions) -> Result<Self, StartError> {
        let groups = GroupSettings { min_session_timeout: options.min_session_timeout };
        let state = State::new(Settings {
            advertised: reachable_name(options.listen),
            auto_create_topics: options.auto_create_topics,
            default_partitions: options.default_partitions,
            retention_bytes: options.retention_bytes,
            idle_max: None,
            groups,
        });
        Self::start_with(state, options).await
    }

    /// Returns the address the broker listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address for clients, as `host:port`.
    pub fn bootstrap_servers(&self) -> String {
        let (host, port) = reachable_name(self.address);
        format!("{host}:{port}")
    }

    /// Takes the leader of a partition away until [`EmbeddedKafka::elect_leader`], as if all its replicas were offline.
    ///
    /// Clients can neither read nor write the partition, and waiting fetches return. Committed offsets stay.
    ///
    /// # Errors
    /// [`UnknownPartition`] when there is no such partition.
    pub fn lose_leader(&self, topic: &str, partition: i32) -> Result<(), UnknownPartition> {
        self.change_leader(topic, partition, Topic::lose_leader)
    }

    /// Gives a partition its leader back, with its log.
    ///
    /// # Errors
    /// [`UnknownPartition`] when there is no such partition.
    pub fn elect_leader(&self, topic: &str, partition: i32) -> Result<(), UnknownPartition> {
        self.change_leader(topic, partition, Topic::elect_leader)
    }

    /// Sets `offset.metadata.max.bytes`, in UTF-16 units, for all later commits.
    pub fn limit_offset_metadata(&self, chars_max: usize) {
        self.owner.with_state(|state, _| state.groups.metadata_chars_max = chars_max);
    }

    /// Sets `connections.max.idle.ms`, which applies to a connection from its next request on.
    pub fn limit_idle(&self, idle_max: Duration) {
        self.owner.with_state(|state, _| state.settings.idle_max = Some(idle_max));
    }

    /// Stops the broker, cuts all connections, and returns its state for a restart.
    ///
    /// # Cancel safety
    /// Dropping the future stops the broker and loses its state.
    pub async fn stop(mut self) -> StoppedKafka {
        self.tasks.shutdown().await;
        let state = self.owner.with_state(|state, _| {
            let empty = State::new(state.settings.clone());
            std::mem::replace(state, empty)
        });
        let options = BrokerOptions { listen: self.address, ..self.options };
        StoppedKafka { state, options }
    }

    fn change_leader(
        &self,
        topic: &str,
        partition: i32,
        change: fn(&mut Topic, i32),
    ) -> Result<(), UnknownPartition> {
        self.owner.with_state(|state, _| {
            let found = state.topic_to_change(topic).filter(|topic| topic.has_partition(partition));
            let unknown = || UnknownPartition { topic: topic.to_owned(), partition };
            change(found.ok_or_else(unknown)?, partition);
            Ok(())
        })
    }

    async fn start_with(mut state: State, options: BrokerOptions) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        state.settings.advertised = reachable_name(address);
        let owner = Arc::new(Owner::new(state));
        let mut tasks = JoinSet::new();
        tasks.spawn(listener::accept(Arc::clone(&owner), listener));
        let timers = Arc::clone(&owner);
        tasks.spawn(async move { timers.run_timers().await });
        Ok(Self { owner, options, address, tasks })
    }
}

impl StoppedKafka {
    /// Starts the broker again on the same port, as a real broker restarts: with its topics, records and committed offsets.
    ///
    /// Members of stable groups keep their membership and begin new sessions. Unfinished rebalances are lost.
    ///
    /// # Errors
    /// [`StartError`] when the broker cannot listen on the address, for instance because another process has the port.
    ///
    /// # Cancel safety
    /// Dropping the future loses the state.
    pub async fn start(self) -> Result<EmbeddedKafka, StartError> {
        EmbeddedKafka::start_with(self.state.restarted(Duration::ZERO), self.options).await
    }
}

/// Returns the host and port under which a client on this machine reaches an address.
fn reachable_name(address: SocketAddr) -> (String, u16) {
    let host = if address.ip().is_unspecified() {
        "localhost".to_owned()
    } else {
        address.ip().to_string()
    };
    (host, address.port())
}
