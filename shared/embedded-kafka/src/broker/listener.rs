//! Accepting connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kafka_core::NodeId;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::broker::connection;
use crate::broker::owner::Owner;

/// The most connections at a time; more wait in the operating system's queue.
const CONNECTIONS_MAX: usize = 4096;
/// The pause after a failed accept, for instance because file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections to `node` and serves each in its own task.
///
/// # Cancel safety
/// Dropping the future closes all connections.
pub(crate) async fn accept(owner: Arc<Owner>, node: NodeId, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(Arc::clone(&owner), node, stream, peer));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "connection task failed");
                }
            }
        }
    }
}

async fn serve(owner: Arc<Owner>, node: NodeId, stream: TcpStream, peer: SocketAddr) {
    debug!(%peer, "client connected");
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let client_host = format!("/{}", peer.ip());
    match connection::serve(&owner, node, &client_host, stream).await {
        Ok(()) => debug!(%peer, "client disconnected"),
        Err(connection::ConnectionError::Socket(error)) => debug!(%peer, %error, "connection lost"),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            warn!(%peer, error, "connection closed");
        }
    }
}
