//! A schema registry for Avro in memory, over Confluent's REST API.
//!
//! It answers what services and `curl` ask in development: subjects and their versions, schemas by id, compatibility and its
//! levels, deletion. It has no other schema types, references, modes, contexts or access control. Reading order: `canonical`
//! says when two schemas are the same text, `store` what a registry does with them, `api` how it is asked, `access` which
//! requests it answers.
//!
//! - [Schema Registry API](https://docs.confluent.io/platform/current/schema-registry/develop/api.html)

mod canonical;

mod store;

mod api;

mod access;

#[cfg(test)]
mod goldens;

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http_server::Limits;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{StartError, registry::store::Store};

/// Services and tests on one machine are one client.
const LIMITS: Limits = Limits::of_connections(512);

/// A running registry. Dropping it stops it and loses its schemas.
#[derive(Debug)]
pub struct EmbeddedRegistry {
    store: Arc<Mutex<Store>>,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

/// A stopped registry: its schemas, subjects and compatibility levels.
#[derive(Debug)]
pub struct StoppedRegistry {
    store: Arc<Mutex<Store>>,
    address: SocketAddr,
}

impl EmbeddedRegistry {
    /// Starts an empty registry; port 0 picks a free one.
    ///
    /// # Errors
    /// [`StartError`] when the address cannot be listened on.
    ///
    /// # Cancel safety
    /// Cancel safe: a registry that is not returned does not run.
    pub async fn start(listen: SocketAddr) -> Result<Self, StartError> {
        Self::start_with(Arc::default(), listen).await
    }

    /// Returns the address the registry listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what clients are configured with.
    pub fn url(&self) -> String {
        let host = if self.address.ip().is_unspecified() {
            SocketAddr::from(([127, 0, 0, 1], self.address.port()))
        } else {
            self.address
        };
        format!("http://{host}")
    }

    /// Stops the registry, closing its connections, and returns what can be started again.
    ///
    /// # Cancel safety
    /// When dropped the registry is stopped all the same and its schemas lost.
    pub async fn stop(mut self) -> StoppedRegistry {
        self.tasks.shutdown().await;
        StoppedRegistry { store: self.store, address: self.address }
    }

    async fn start_with(store: Arc<Mutex<Store>>, address: SocketAddr) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let routes = access::guarded(api::routes(Arc::clone(&store)), address);
        let mut tasks = JoinSet::new();
        tasks.spawn(http_server::serve(listener, routes, LIMITS, pending()));
        Ok(Self { store, address, tasks })
    }
}

impl StoppedRegistry {
    /// Starts the registry again on the same port, with its schemas.
    ///
    /// # Errors
    /// [`StartError`] when the address cannot be listened on, perhaps because somebody else has taken the port.
    ///
    /// # Cancel safety
    /// When dropped the schemas are lost.
    pub async fn start(self) -> Result<EmbeddedRegistry, StartError> {
        EmbeddedRegistry::start_with(self.store, self.address).await
    }
}
