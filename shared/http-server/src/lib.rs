//! What the project's HTTP servers share: bounds on what a client may hold, and the names that they answer to.
//!
//! | what a client can hold | bound |
//! |---|---|
//! | connections | [`Limits`], in all and of one client |
//! | a request head that is not finished, or an idle connection | [`HEAD_TIME`], [`HEAD_BYTES_MAX`] |
//! | a request body | [`read_body`]: bytes and time |
//! | an answer that it does not read | [`Limits::unread_time`] |
//!
//! Reading order: this file (the accept loop), `places` (how many may connect), `body`, `hosts`.
//!
//! # Invariants
//!
//! - No client of an HTTP port holds it for others: connections, heads, bodies and unread answers are bounded.
//! - A server answers to its own hosts and those that were added, and to no other site.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use pacing::ReportLimit;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::{ServiceExt as _, service_fn};

pub use self::body::{BODY_TIME, BodyError, read_body};
pub use self::hosts::{Hosts, UnknownHost};
pub use self::places::{Place, Places, client};

mod body;
mod hosts;
mod places;

/// How long a client may take to send the head of a request, and how long its connection may be idle before that.
pub const HEAD_TIME: Duration = Duration::from_secs(30);
/// The most bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How often a refused connection is reported at most.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// What the clients of one server may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once of one client.
    pub client_connections_max: usize,
    /// How long an answer may lie unread, or unacknowledged, before its connection is closed.
    pub unread_time: Duration,
}

impl Limits {
    /// Returns limits by which no single client takes more than half of the connections.
    pub const fn of_connections(connections_max: usize) -> Self {
        Self {
            connections_max,
            client_connections_max: connections_max.div_ceil(2),
            unread_time: Duration::from_secs(30),
        }
    }
}

/// The two ends of the connection that a request came by, which each request carries as an extension.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The client, or the proxy in front of it.
    pub peer: SocketAddr,
    /// The address that it has connected to.
    pub local: SocketAddr,
}

/// Serves `router` until `stop` ends and every request under way is answered. Dropping it closes all connections.
///
/// # Cancel safety
/// Dropping it ends the server and all requests under way.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    let places = Places::new(limits.connections_max, limits.client_connections_max);
    let mut refusals = ReportLimit::every(REPORT_INTERVAL);
    let mut connections = JoinSet::new();
    let stopping = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES_MAX);
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut stop => break,
            accepted = Listener::accept(&mut listener) => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        let Some(place) = places.take(client(peer.ip())) else {
            if refusals.is_due() {
                tracing::warn!(%peer, "refused a connection: too many are open");
            }
            continue;
        };
        // A connection that is closed already has no address.
        let Ok(local) = prepare(&stream, limits.unread_time) else { continue };
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Connection { peer, local });
            router.clone().oneshot(request)
        });
        let service = TowerToHyperService::new(service);
        let served = stopping.watch(http.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = served.await {
                tracing::debug!(%peer, %error, "a connection has failed");
            }
        });
    }
    drop(listener);
    stopping.shutdown().await;
}

/// Sets the options of a connection and returns its own address.
fn prepare(stream: &TcpStream, unread_time: Duration) -> io::Result<SocketAddr> {
    stream.set_nodelay(true)?;
    // The kernel ends a connection whose client has vanished, or leaves no room for more.
    #[cfg(target_os = "linux")]
    {
        let unread_ms = u32::try_from(unread_time.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(stream, unread_ms)?;
    }
    stream.local_addr()
}

#[cfg(test)]
mod tests;
