//! The platform of a suite: a broker and a registry inside the test, or a real Kafka and a real registry.
//!
//! `TEST_PLATFORM=embedded` (the default) needs nothing. `TEST_PLATFORM=kafka` needs `BOOTSTRAP_SERVERS` and
//! `SCHEMA_REGISTRY_URL`; without them a test fails. All tests share them, so none stops the broker.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use embedded_kafka::registry::EmbeddedRegistry;
use embedded_kafka::{BrokerOptions, EmbeddedKafka, StartError};

/// A broker and a schema registry.
#[derive(Debug)]
pub enum Platform {
    /// A broker and a registry inside this process.
    Embedded(Box<Embedded>),
    /// Apache Kafka and a registry outside this process.
    Kafka(Kafka),
}

/// A broker and a registry inside this process.
#[derive(Debug)]
pub struct Embedded {
    /// Absent only during a restart.
    broker: Option<EmbeddedKafka>,
    _registry: EmbeddedRegistry,
    bootstrap_servers: String,
    registry_url: String,
}

impl Embedded {
    async fn start(nodes: u16) -> Result<Self> {
        let broker = start_broker(nodes).await?;
        let registry = EmbeddedRegistry::start((Ipv4Addr::LOCALHOST, 0).into()).await;
        let registry = registry.context("start the embedded registry")?;
        Ok(Self {
            bootstrap_servers: broker.bootstrap_servers(),
            registry_url: registry.url(),
            broker: Some(broker),
            _registry: registry,
        })
    }

    /// Returns the embedded broker.
    ///
    /// # Errors
    /// When its last restart failed.
    pub fn broker(&self) -> Result<&EmbeddedKafka> {
        self.broker.as_ref().context("the embedded broker is gone")
    }

    /// Stops the broker, which cuts all connections, and starts it again with its state.
    ///
    /// # Errors
    /// When the broker does not start again.
    pub async fn restart_broker(&mut self) -> Result<()> {
        let stopped = self.broker.take().context("the embedded broker is gone")?.stop().await;
        self.broker = Some(stopped.start().await.context("start the embedded broker again")?);
        Ok(())
    }
}

/// Starts a broker at ports outside the range of outgoing connections: a restart needs the same ports again.
async fn start_broker(nodes: u16) -> Result<EmbeddedKafka> {
    const PORTS: Range<u16> = 20_000..32_000;
    static STARTED: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        let next =
            process::id().wrapping_mul(31).wrapping_add(STARTED.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(next % u32::from(PORTS.end - PORTS.start))?;
        let listen = (Ipv4Addr::LOCALHOST, port).into();
        let options =
            BrokerOptions { listen, nodes, auto_create_topics: false, ..BrokerOptions::default() };
        match EmbeddedKafka::start(options).await {
            Err(StartError::Listen { source, .. }) if source.kind() == ErrorKind::AddrInUse => {}
            started => return started.context("start the embedded broker"),
        }
    }
    bail!("no port is free for a broker")
}

/// The addresses of a real Kafka and a real registry.
#[derive(Debug)]
pub struct Kafka {
    bootstrap_servers: String,
    registry_url: String,
}

impl Platform {
    /// Starts a broker of several nodes and a registry inside this process, whatever `TEST_PLATFORM` names.
    ///
    /// # Errors
    /// When the broker or the registry does not start.
    pub async fn embedded(nodes: u16) -> Result<Self> {
        Ok(Self::Embedded(Box::new(Embedded::start(nodes).await?)))
    }

    /// Starts or finds the platform that `TEST_PLATFORM` names.
    ///
    /// # Errors
    /// When `TEST_PLATFORM` names no platform, or the addresses are missing.
    pub async fn start() -> Result<Self> {
        match variable("TEST_PLATFORM").as_deref() {
            None | Some("embedded") => Self::embedded(1).await,
            Some("kafka") => {
                let bootstrap_servers = required("BOOTSTRAP_SERVERS")?;
                let is_one = !bootstrap_servers.contains(',');
                ensure!(is_one, "BOOTSTRAP_SERVERS names several: the fault proxy stands for one");
                Ok(Self::Kafka(Kafka {
                    bootstrap_servers,
                    registry_url: required("SCHEMA_REGISTRY_URL")?,
                }))
            }
            Some(other) => bail!("TEST_PLATFORM is {other:?}; embedded and kafka exist"),
        }
    }

    /// Returns the platform of a real Kafka and a real registry that a test has started itself.
    pub fn at(bootstrap_servers: String, registry_url: String) -> Self {
        Self::Kafka(Kafka { bootstrap_servers, registry_url })
    }

    /// Returns the value for `BOOTSTRAP_SERVERS`.
    pub fn bootstrap_servers(&self) -> &str {
        match self {
            Self::Embedded(embedded) => &embedded.bootstrap_servers,
            Self::Kafka(kafka) => &kafka.bootstrap_servers,
        }
    }

    /// Returns the value for `SCHEMA_REGISTRY_URL`.
    pub fn registry_url(&self) -> &str {
        match self {
            Self::Embedded(embedded) => &embedded.registry_url,
            Self::Kafka(kafka) => &kafka.registry_url,
        }
    }
}

/// Returns the repository's root folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns an environment variable; an empty value counts as unset.
#[expect(
    clippy::disallowed_methods,
    reason = "the make targets choose the platform by environment variables"
)]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub(crate) fn required(name: &str) -> Result<String> {
    variable(name).with_context(|| {
        format!("{name} is not set: `make test-kafka` starts a broker and sets it")
    })
}
