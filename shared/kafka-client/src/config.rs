//! The configuration of connections to brokers.

use std::time::Duration;

/// Default time to open a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Default time for a broker to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The configuration of every connection of this crate.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Bootstrap brokers, each `host:port`; one that answers is enough.
    pub bootstrap_servers: Vec<String>,
    /// The client id; brokers log it, and member ids begin with it.
    pub client_id: String,
    /// How long opening a TCP connection may take, and then the broker's first answer.
    pub connect_timeout: Duration,
    /// How long a broker may take to answer a request without a wait of its own.
    pub request_timeout: Duration,
}

impl BrokerConfig {
    /// Returns a configuration with 5 s to connect and 10 s to answer.
    pub fn new(bootstrap_servers: Vec<String>, client_id: impl Into<String>) -> Self {
        Self {
            bootstrap_servers,
            client_id: client_id.into(),
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}
