//! How brokers are reached.

use std::time::Duration;

/// How long a TCP connection to a broker may take, unless said otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a broker may take to answer, unless said otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

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

impl BrokerConfig {
    /// Names brokers to start from, as `host:port`, and the client; connecting may take 5 s, an answer 10 s.
    pub fn new(bootstrap_servers: Vec<String>, client_id: impl Into<String>) -> Self {
        Self {
            bootstrap_servers,
            client_id: client_id.into(),
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}
