//! The port of a node: open while the node runs, reserved while it is stopped.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_core::NodeId;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use crate::broker::listener;
use crate::broker::owner::Owner;

#[derive(Debug)]
pub(crate) struct NodePort {
    pub(crate) node: NodeId,
    pub(crate) address: SocketAddr,
    use_of_port: Mutex<PortUse>,
}

#[derive(Debug)]
enum PortUse {
    /// The task that accepts connections and owns them.
    Open(JoinSet<()>),
    /// A socket that refuses connections, so that no other program takes the port meanwhile.
    Reserved(Option<TcpSocket>),
}

impl NodePort {
    /// Serves the connections of a listener at `address`.
    pub(crate) fn open(
        owner: &Arc<Owner>,
        node: NodeId,
        address: SocketAddr,
        listener: TcpListener,
    ) -> Self {
        let use_of_port = Mutex::new(PortUse::Open(serve(owner, node, listener)));
        Self { node, address, use_of_port }
    }

    /// Closes all connections and refuses new ones.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call has closed them, too.
    pub(crate) async fn close(&self) {
        let before = std::mem::replace(&mut *self.lock(), PortUse::Reserved(None));
        if let PortUse::Open(mut tasks) = before {
            tasks.shutdown().await;
        }
        *self.lock() = PortUse::Reserved(reserve(self.address).ok());
    }

    /// Accepts connections again.
    ///
    /// # Errors
    /// When another program has taken the port.
    ///
    /// # Cancel safety
    /// Cancel safe: the port is open or closed.
    pub(crate) async fn reopen(&self, owner: &Arc<Owner>) -> std::io::Result<()> {
        if let PortUse::Reserved(socket) = &mut *self.lock() {
            drop(socket.take());
        } else {
            return Ok(());
        }
        let listener = TcpListener::bind(self.address).await?;
        *self.lock() = PortUse::Open(serve(owner, self.node, listener));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, PortUse> {
        self.use_of_port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(owner: &Arc<Owner>, node: NodeId, listener: TcpListener) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(listener::accept(Arc::clone(owner), node, listener));
    tasks
}

/// Binds a socket that does not listen.
fn reserve(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
