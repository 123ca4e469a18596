//! A schema registry for Avro in memory, over Confluent's REST API.
//!
//! It serves the requests of the services: list subjects and versions, get a schema by id, look a schema up, register it.
//! Registration checks the compatibility level `BACKWARD`. There are no references, GUIDs, deletions or other schema types.
//!
//! Reading order: `store` holds schemas and versions, `api` translates requests, `access` checks them first.
//!
//! - [Schema Registry API](https://docs.confluent.io/platform/current/schema-registry/develop/api.html)

mod access;
mod api;
mod refusal;
mod store;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use http_server::Limits;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::StartError;

/// The services and tests of one machine count as one client.
const LIMITS: Limits = Limits::of_connections(512);

/// A running registry. Dropping it stops it and loses its schemas.
#[derive(Debug)]
pub struct EmbeddedRegistry {
    address: SocketAddr,
    _server: JoinSet<()>,
}

impl EmbeddedRegistry {
    /// Starts an empty registry; port 0 picks a free one.
    ///
    /// # Errors
    /// [`StartError`] when the registry cannot listen on the address.
    ///
    /// # Cancel safety
    /// Cancel safe: a registry that is not returned does not run.
    pub async fn start(listen: SocketAddr) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let routes = access::checked(api::routes(Arc::default()), address);
        let mut server = JoinSet::new();
        server.spawn(http_server::serve(listener, routes, LIMITS, pending()));
        Ok(Self { address, _server: server })
    }

    /// Returns the address the registry listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL for clients.
    pub fn url(&self) -> String {
        let host = if self.address.ip().is_unspecified() {
            SocketAddr::from(([127, 0, 0, 1], self.address.port()))
        } else {
            self.address
        };
        format!("http://{host}")
    }
}
