//! A TCP relay that a test can close.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Relays connections to a server while open. A closed gate cuts its connections and refuses new ones.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    state: Arc<State>,
    _relay: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    is_open: watch::Sender<bool>,
    refused: watch::Sender<u32>,
}

impl Gate {
    /// Starts an open gate to `upstream` (`host:port`).
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind a gate's port")?;
        let address = listener.local_addr()?;
        let state =
            Arc::new(State { is_open: watch::Sender::new(true), refused: watch::Sender::new(0) });
        let mut relay = JoinSet::new();
        relay.spawn(accept(listener, upstream.to_owned(), Arc::clone(&state)));
        Ok(Self { address, state, _relay: relay })
    }

    /// Returns the gate's `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Cuts all connections and refuses new ones.
    pub fn close(&self) {
        self.state.is_open.send_replace(false);
    }

    /// Forwards connections again.
    pub fn open(&self) {
        self.state.is_open.send_replace(true);
    }

    /// Waits for `count` refused connections since the start of the gate.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn refused(&self, count: u32) {
        let mut refused = self.state.refused.subscribe();
        // The sender outlives this borrow, so the wait cannot fail.
        drop(refused.wait_for(|refused| *refused >= count).await);
    }
}

/// Accepts connections. A closed gate accepts and closes them at once: another process could take a released port.
async fn accept(listener: TcpListener, upstream: String, state: Arc<State>) {
    let mut relays = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while relays.try_join_next().is_some() {}
        if *state.is_open.borrow() {
            relays.spawn(relay(client, upstream.clone(), state.is_open.subscribe()));
        } else {
            state.refused.send_modify(|refused| *refused += 1);
        }
    }
}

async fn relay(mut client: TcpStream, upstream: String, mut is_open: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(&upstream).await else { return };
    // A failed side ends the relay, which closes both connections.
    tokio::select! {
        _ended = copy_bidirectional(&mut client, &mut server) => {}
        _closed = is_open.wait_for(|is_open| !is_open) => {}
    }
}
