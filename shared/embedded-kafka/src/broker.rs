//! The broker as its users see it: started, asked where it listens, stopped, started again.

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

/// How a broker is set up.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Where to listen; port 0 picks a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// Whether a client that asks for the metadata of an unknown topic creates it. Default `true`.
    pub auto_create_topics: bool,
    /// How many partitions a topic gets when its creator leaves that to the broker, at least 1. Default 1.
    pub default_partitions: i32,
    /// `retention.bytes` of topics that do not set it: beyond that many bytes a partition loses its oldest batches. Default
    /// `None`, everything is kept.
    pub retention_bytes: Option<usize>,
    /// The shortest session timeout a group member may ask for. Default 6 s; tests want less.
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

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
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
    /// The partition's number.
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
    /// [`StartError`] when the address cannot be listened on.
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

    /// Returns what clients are configured with: `host:port` of the listener.
    pub fn bootstrap_servers(&self) -> String {
        let (host, port) = reachable_name(self.address);
        format!("{host}:{port}")
    }

    /// Takes the leader of a partition away until [`EmbeddedKafka::elect_leader`], as if all its replicas were offline: it
    /// can be neither read nor written, and fetches that wait for it are answered. Its committed offsets stay.
    ///
    /// # Errors
    /// [`UnknownPartition`] when there is no such partition.
    pub fn lose_leader(&self, topic: &str, partition: i32) -> Result<(), UnknownPartition> {
        self.change_leader(topic, partition, Topic::lose_leader)
    }

    /// Gives a partition its leader back, with the log that it had.
    ///
    /// # Errors
    /// [`UnknownPartition`] when there is no such partition.
    pub fn elect_leader(&self, topic: &str, partition: i32) -> Result<(), UnknownPartition> {
        self.change_leader(topic, partition, Topic::elect_leader)
    }

    /// Takes no longer metadata beside an offset from here on, as a coordinator with another `offset.metadata.max.bytes`.
    pub fn limit_offset_metadata(&self, chars_max: usize) {
        self.owner.with_state(|state, _| state.groups.metadata_chars_max = chars_max);
    }

    /// Closes connections that send nothing for so long, counted from their next request on, as a broker with another
    /// `connections.max.idle.ms`.
    pub fn limit_idle(&self, idle_max: Duration) {
        self.owner.with_state(|state, _| state.settings.idle_max = Some(idle_max));
    }

    /// Stops the broker, cutting all connections, and returns what can be started again.
    ///
    /// # Cancel safety
    /// When dropped the broker is stopped all the same and its state lost.
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
    /// Starts the broker again on the same port, as a real broker comes back: with its topics, records and committed offsets;
    /// with the members of stable groups, whose sessions begin anew; without rebalances that were going on.
    ///
    /// # Errors
    /// [`StartError`] when the address cannot be listened on, perhaps because somebody else has taken the port.
    ///
    /// # Cancel safety
    /// When dropped the state is lost.
    pub async fn start(self) -> Result<EmbeddedKafka, StartError> {
        EmbeddedKafka::start_with(self.state.restarted(Duration::ZERO), self.options).await
    }
}

/// Returns a name for an address that a client on this machine can connect to.
fn reachable_name(address: SocketAddr) -> (String, u16) {
    let host = if address.ip().is_unspecified() {
        "localhost".to_owned()
    } else {
        address.ip().to_string()
    };
    (host, address.port())
}
