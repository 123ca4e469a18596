//! How brokers are reached.

use std::time::Duration;

/// How brokers are reached: the one configuration that every connection of this crate is made with.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Brokers to start from, each `host:port`; any one of them that answers is enough.
    pub bootstrap_servers: Vec<String>,
    /// The client id that brokers log and that member ids begin with.
    pub client_id: String,
    /// How long a TCP connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a broker may take to answer a request that does not wait for anything.
    pub request_timeout: Duration,
}
