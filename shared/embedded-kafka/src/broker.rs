//! The broker as its users see it: start, addresses, controls, stop and restart.

mod connection;
mod controls;
mod dispatch;
mod listener;
mod owner;
mod port;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kafka_core::NodeId;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::broker::owner::Owner;
use crate::broker::port::NodePort;
use crate::cluster::Cluster;
use crate::groups::GroupSettings;
use crate::state::{FETCH_BYTES_MAX, Settings, State};

/// The settings of a broker.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Where the first node listens; port 0 picks a free one. The others follow on the next ports, or pick free ones.
    /// Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// How many nodes the cluster has, at least 1. Their ids count from 1. Default 1.
    pub nodes: u16,
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
            nodes: 1,
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

/// Why a control had no effect.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The broker has no such topic.
    #[error("there is no topic {topic}")]
    UnknownTopic {
        /// The topic's name.
        topic: String,
    },
    /// The broker has no such partition.
    #[error("there is no partition {index} of topic {topic}")]
    UnknownPartition {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        index: i32,
    },
    /// The node does not exist, does not run, or has no replica of the partition that is online.
    #[error("node {node} is not available")]
    UnavailableNode {
        /// The node's id.
        node: NodeId,
    },
    /// The node did not start.
    #[error(transparent)]
    Start(StartError),
}

/// A running broker of one or several nodes, on the tokio runtime that started it. Dropping it stops it and loses its
/// state.
///
/// A topic has a replica of each partition on every node, unless its creator asks for fewer. Partition 0 is led by the
/// first node, partition 1 by the second, and so on in turn. Replicas share one log, and a change takes effect for all
/// nodes at once.
#[derive(Debug)]
pub struct EmbeddedKafka {
    owner: Arc<Owner>,
    options: BrokerOptions,
    ports: Vec<NodePort>,
    timers: JoinSet<()>,
}

/// A stopped broker: its topics, records, groups and committed offsets.
#[derive(Debug)]
pub struct StoppedKafka {
    state: State,
    addresses: Vec<SocketAddr>,
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
        let mut listeners = Vec::new();
        for place in 0..options.nodes.max(1) {
            listeners.push(bind(options.address_of(place)).await?);
        }
        let addresses = listeners.iter().map(|(address, _)| reachable_name(*address));
        let settings = Settings {
            auto_create_topics: options.auto_create_topics,
            default_partitions: options.default_partitions,
            retention_bytes: options.retention_bytes,
            idle_max: None,
            fetch_bytes_max: FETCH_BYTES_MAX,
            min_insync_replicas: 1,
            groups: GroupSettings { min_session_timeout: options.min_session_timeout },
        };
        let state = State::new(settings, Cluster::new(addresses));
        Ok(Self::serve(state, options, listeners))
    }

    /// Returns the address of the first node.
    pub fn address(&self) -> SocketAddr {
        self.ports.first().map_or(self.options.listen, |port| port.address)
    }

    /// Returns the address of each node, in the order of their ids.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.ports.iter().map(|port| port.address)
    }

    /// Returns the addresses of all nodes for clients, as `host:port,host:port`.
    pub fn bootstrap_servers(&self) -> String {
        let names = self.addresses().map(reachable_name);
        names.map(|(host, port)| format!("{host}:{port}")).collect::<Vec<_>>().join(",")
    }

    /// Stops all nodes, cuts all connections, and returns their state for a restart.
    ///
    /// # Cancel safety
    /// Dropping the future stops the broker and loses its state.
    pub async fn stop(mut self) -> StoppedKafka {
        self.timers.shutdown().await;
        for port in &self.ports {
            port.close().await;
        }
        let state = self.owner.with_state(|state, _| {
            let empty = State::new(state.settings.clone(), Cluster::new([]));
            std::mem::replace(state, empty)
        });
        StoppedKafka { state, addresses: self.addresses().collect(), options: self.options }
    }

    fn serve(
        state: State,
        options: BrokerOptions,
        listeners: Vec<(SocketAddr, TcpListener)>,
    ) -> Self {
        let owner = Arc::new(Owner::new(state));
        let open = |(node, (address, listener))| NodePort::open(&owner, node, address, listener);
        let ports = (1..).zip(listeners).map(open).collect();
        let mut timers = JoinSet::new();
        let timed = Arc::clone(&owner);
        timers.spawn(async move { timed.run_timers().await });
        Self { owner, options, ports, timers }
    }
}

impl BrokerOptions {
    /// Returns where a node listens; places count from 0.
    fn address_of(&self, place: u16) -> SocketAddr {
        let port = self.listen.port();
        let port = if port == 0 { 0 } else { port.saturating_add(place) };
        SocketAddr::new(self.listen.ip(), port)
    }
}

async fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

impl StoppedKafka {
    /// Starts all nodes again on the same ports, as real brokers restart: with topics, records and committed offsets.
    ///
    /// Members of stable groups keep their membership and begin new sessions. Unfinished rebalances are lost.
    ///
    /// # Errors
    /// [`StartError`] when the broker cannot listen on the address, for instance because another process has the port.
    ///
    /// # Cancel safety
    /// Dropping the future loses the state.
    pub async fn start(self) -> Result<EmbeddedKafka, StartError> {
        let mut listeners = Vec::new();
        for address in self.addresses {
            listeners.push(bind(address).await?);
        }
        Ok(EmbeddedKafka::serve(self.state.restarted(Duration::ZERO), self.options, listeners))
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
