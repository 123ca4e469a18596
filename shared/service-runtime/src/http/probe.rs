//! The `healthcheck` commands' HTTP client: one blocking GET, so that an image needs no curl.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long connecting, sending and each part of the answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes of an answer that are read.
const RESPONSE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Returns what the server at `address` answers for `path`.
///
/// The unspecified addresses (`0.0.0.0`, `::`), which a container listens on, connect to the machine itself.
///
/// # Errors
///
/// If there is no answer in time, or none in HTTP.
pub(crate) fn get(address: &str, path: &str) -> io::Result<Response> {
    let mut unreachable = io::Error::new(ErrorKind::NotFound, "the address has no host");
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, TIMEOUT) {
            Ok(stream) => return exchange(stream, address, path),
            Err(error) => unreachable = error,
        }
    }
    Err(unreachable)
}

fn exchange(mut stream: TcpStream, host: &str, path: &str) -> io::Result<Response> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_string(&mut text)?;
    parse(&text).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "not an HTTP response"))
}

fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = body.to_owned();
    Some(Response { status, body })
}
