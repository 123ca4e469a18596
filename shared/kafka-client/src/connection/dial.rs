//! Opening a TCP connection to a host with any number of addresses.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

use crate::race::first_success;

/// How long an address may take before the next one is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(250);
/// How long a connection is silent before the kernel checks that its peer still exists. Shorter than the idle timeouts of
/// common load balancers and NAT gateways.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// Connects to `address` (`host:port`); the addresses of the host are tried in order, each beside those that have not
/// answered.
pub(super) async fn dial(address: &str) -> io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host(address).await?.collect();
    let stream = first_success(addresses, NEXT_ADDRESS_DELAY, TcpStream::connect)
        .await
        .map_err(|error| error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))?;
    stream.set_nodelay(true)?;
    // By default the kernel would send an abandoned request for minutes after the close.
    stream.set_zero_linger()?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(stream)
}
