//! One connection to one broker: requests go out and answers come back in turn.
//!
//! A broker works on one request per connection at a time, so a connection is owned by one user and never shared.
//! Anything that leaves the stream in doubt (a broken frame, a missed deadline, a dropped future) makes the connection
//! unusable, and its owner connects again. A request that was given up is not sent later: after its deadline nothing
//! more of it is written, and closing the connection discards what the kernel still holds. Whoever keeps a connection asks
//! [`Connection::if_open`] before each request.
//!
//! Framing: <https://kafka.apache.org/protocol#protocol_common>.

mod bounded;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{self, ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use self::bounded::Bounded;
use crate::api::Call;
use crate::config::BrokerConfig;

/// Largest answer that is accepted, in bytes: the default of the broker's `socket.request.max.bytes`.
const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;
/// Largest answer without records that is accepted, in bytes. Elements take more memory decoded than encoded.
const PLAIN_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a connection runs over: TCP in the product, a pipe in tests.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Transport for T {}

/// Why a connection could not be made or could not answer. The connection is unusable afterwards, unless the
/// request was [`ConnectionError::Unsupported`].
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No connection could be made.
    #[error("cannot connect to {address}")]
    Connect {
        /// The broker's `host:port`.
        address: String,
        /// What the network said.
        #[source]
        source: io::Error,
    },
    /// The connection was closed or failed under way.
    #[error("the connection to {address} broke during {api:?}")]
    Broken {
        /// The broker's `host:port`.
        address: String,
        /// The API in use.
        api: ApiKey,
        /// What the network said.
        #[source]
        source: io::Error,
    },
    /// No answer within the deadline; the broker may or may not have acted on the request.
    #[error("{address} did not answer {api:?} within {deadline:?}")]
    Deadline {
        /// The broker's `host:port`.
        address: String,
        /// The API in use.
        api: ApiKey,
        /// How long was waited.
        deadline: Duration,
    },
    /// The answer, or the request, does not follow the protocol.
    #[error("{api:?} with {address} does not follow the protocol: {reason}")]
    Malformed {
        /// The broker's `host:port`.
        address: String,
        /// The API in use.
        api: ApiKey,
        /// The codec's words.
        reason: String,
    },
    /// The broker speaks no version of an API that this crate speaks.
    #[error("{address} speaks {api:?} {theirs:?}, but {ours:?} is needed (Kafka 3.0 or newer)")]
    Unsupported {
        /// The broker's `host:port`.
        address: String,
        /// The API in use.
        api: ApiKey,
        /// The versions this crate speaks.
        ours: RangeInclusive<i16>,
        /// The versions the broker speaks, if any.
        theirs: Option<RangeInclusive<i16>>,
    },
}

/// A connection to one broker, with the API versions it speaks.
pub struct Connection {
    transport: Box<dyn Transport>,
    address: String,
    client_id: StrBytes,
    versions: BTreeMap<i16, RangeInclusive<i16>>,
    correlation_id: i32,
    /// Set while a request is under way; still set at the next one when a future was dropped between.
    in_doubt: bool,
}

impl Connection {
    /// Connects to `address` (`host:port`) and asks for the API versions the broker speaks.
    ///
    /// # Errors
    /// [`ConnectionError::Connect`] or [`ConnectionError::Deadline`] where there is no broker (yet);
    /// [`ConnectionError::Unsupported`] where it is older than Kafka 3.0.
    ///
    /// # Cancel safety
    /// Cancel safe: a connection that is being made is closed.
    pub async fn connect(address: &str, config: &BrokerConfig) -> Result<Self, ConnectionError> {
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            // With the default the kernel would go on sending an abandoned request for minutes after the close.
            stream.set_zero_linger()?;
            Ok(stream)
        };
        let failed = |source| ConnectionError::Connect { address: address.to_owned(), source };
        let stream = timeout(config.connect_timeout, connecting)
            .await
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        Self::handshake(Box::new(stream), address, config).await
    }

    /// Takes over `transport` and asks for the API versions the broker speaks.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    ///
    /// # Cancel safety
    /// Cancel safe: the transport is closed.
    pub async fn handshake(
        transport: Box<dyn Transport>,
        address: &str,
        config: &BrokerConfig,
    ) -> Result<Self, ConnectionError> {
        let versions = <messages::ApiVersionsRequest as Call>::VERSIONS;
        let mut connection = Self {
            transport,
            address: address.to_owned(),
            client_id: StrBytes::from_string(config.client_id.clone()),
            versions: BTreeMap::from([(api_code(ApiKey::ApiVersions), versions)]),
            correlation_id: 0,
            in_doubt: false,
        };
        let request = messages::ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let response = connection.call(&request, config.request_timeout).await?;
        if let Some(error) = ResponseError::try_from_code(response.error_code) {
            return Err(connection.malformed::<messages::ApiVersionsRequest>(&error));
        }
        connection.versions.extend(
            response.api_keys.iter().map(|api| (api.api_key, api.min_version..=api.max_version)),
        );
        Ok(connection)
    }

    /// Returns the connection if a request may be sent over it: none is under way, and the broker has not closed it.
    ///
    /// A broker closes connections that were idle for long (`connections.max.idle.ms`). What is not sent over such a
    /// connection is not in doubt, which matters for whatever must not be sent twice.
    pub fn if_open(mut self) -> Option<Self> {
        let mut unasked = [0];
        let mut unasked = ReadBuf::new(&mut unasked);
        // It is read with a waker before anybody waits for it again.
        let cx = &mut Context::from_waker(Waker::noop());
        let is_open = Pin::new(&mut self.transport).poll_read(cx, &mut unasked).is_pending();
        (is_open && !self.in_doubt).then_some(self)
    }

    /// Returns the broker's `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the version in which requests of this kind are sent: the newest both sides speak.
    ///
    /// # Errors
    /// [`ConnectionError::Unsupported`] where there is none; the connection stays usable.
    pub fn version<R: Call>(&self) -> Result<i16, ConnectionError> {
        let theirs = self.versions.get(&api_code(R::KEY));
        theirs
            .map(|range| {
                (*range.start().max(R::VERSIONS.start()), *range.end().min(R::VERSIONS.end()))
            })
            .filter(|(lowest, highest)| lowest <= highest)
            .map(|(_, highest)| highest)
            .ok_or_else(|| ConnectionError::Unsupported {
                address: self.address.clone(),
                api: R::KEY,
                ours: R::VERSIONS,
                theirs: theirs.cloned(),
            })
    }

    /// Sends `request` and waits at most `deadline` for its answer.
    ///
    /// # Errors
    /// Any [`ConnectionError`]. Kafka's own error codes are inside the answer.
    ///
    /// # Cancel safety
    /// A dropped future leaves the connection unusable: the next call fails with [`ConnectionError::Broken`].
    pub async fn call<R: Call>(
        &mut self,
        request: &R,
        deadline: Duration,
    ) -> Result<R::Response, ConnectionError> {
        let version = self.version::<R>()?;
        if self.in_doubt {
            let source = io::Error::other("an earlier request was abandoned");
            return Err(ConnectionError::Broken {
                address: self.address.clone(),
                api: R::KEY,
                source,
            });
        }
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = self.encode(request, version)?;
        self.in_doubt = true;
        let give_up = Instant::now() + deadline;
        let bytes_max =
            if R::KEY == ApiKey::Fetch { FRAME_BYTES_MAX } else { PLAIN_FRAME_BYTES_MAX };
        let answer = timeout_at(give_up, self.exchange(&frame, give_up, bytes_max)).await;
        let body = match answer {
            Ok(Ok(body)) => body,
            Ok(Err(source)) => {
                return Err(ConnectionError::Broken {
                    address: self.address.clone(),
                    api: R::KEY,
                    source,
                });
            }
            Err(_elapsed) => {
                return Err(ConnectionError::Deadline {
                    address: self.address.clone(),
                    api: R::KEY,
                    deadline,
                });
            }
        };
        let response = self.decode::<R>(body, version)?;
        self.in_doubt = false;
        Ok(response)
    }

    fn encode<R: Call>(&self, request: &R, version: i16) -> Result<Bytes, ConnectionError> {
        let header = RequestHeader::default()
            .with_request_api_key(api_code(R::KEY))
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| self.malformed::<R>(&error))?;
        let size = u32::try_from(frame.len() - 4).map_err(|error| self.malformed::<R>(&error))?;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        Ok(frame.freeze())
    }

    async fn exchange(
        &mut self,
        frame: &[u8],
        give_up: Instant,
        bytes_max: usize,
    ) -> io::Result<Bytes> {
        tokio::select! {
            biased;
            // Looked at first: a process that stood still wakes with the deadline passed and the transport ready.
            () = sleep_until(give_up) => std::future::pending().await,
            written = self.write(frame) => written?,
        }
        let size = usize::try_from(self.transport.read_i32().await?)
            .ok()
            .filter(|size| *size <= bytes_max)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "impossible frame size"))?;
        let mut body = BytesMut::with_capacity(size);
        let mut rest = (&mut self.transport).take(u64::try_from(size).unwrap_or(u64::MAX));
        while body.len() < size {
            if rest.read_buf(&mut body).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(body.freeze())
    }

    async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.transport.write_all(frame).await?;
        self.transport.flush().await
    }

    fn decode<R: Call>(&self, body: Bytes, version: i16) -> Result<R::Response, ConnectionError> {
        let mut body = Bounded::new(body);
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(version))
            .map_err(|error| self.malformed::<R>(&error))?;
        if header.correlation_id != self.correlation_id {
            return Err(self.malformed::<R>(&"the answer belongs to another request"));
        }
        let response =
            R::Response::decode(&mut body, version).map_err(|error| self.malformed::<R>(&error))?;
        if body.has_remaining() {
            return Err(self.malformed::<R>(&"there are bytes after the answer"));
        }
        Ok(response)
    }

    fn malformed<R: Call>(&self, reason: &dyn std::fmt::Display) -> ConnectionError {
        ConnectionError::Malformed {
            address: self.address.clone(),
            api: R::KEY,
            reason: format!("{reason:#}"),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

#[expect(
    clippy::as_conversions,
    reason = "the numbers of the API keys are the enum's discriminants"
)]
pub(crate) fn api_code(key: ApiKey) -> i16 {
    key as i16
}

#[cfg(test)]
mod tests;
