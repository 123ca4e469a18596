//! One connection to one broker: one request, then its response.
//!
//! A broker processes one request per connection at a time, so a connection has one owner and is never shared. After a broken
//! frame, a missed deadline or a dropped future the connection is unusable, and its owner connects again. An abandoned
//! request is not sent later: the client writes no more of it after its deadline, and closing the connection discards what
//! the kernel still holds. The owner of a kept connection calls [`Connection::if_open`] before each request.
//!
//! Framing: <https://kafka.apache.org/protocol#protocol_common>.

mod bounded;
mod dial;
pub(crate) mod fields;
pub(crate) mod pipeline;
mod shape;

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
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use self::bounded::Bounded;
use self::dial::dial;
use self::fields::{FieldBuffer, Fields, ReadError};
use crate::api::{Call, StreamedCall};
use crate::config::BrokerConfig;

/// Most bytes of a response that is decoded while it arrives: the default of the broker's `socket.request.max.bytes`.
const STREAMED_FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;
/// Most bytes of any other response. Its elements take more memory decoded than encoded.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The byte stream of a connection: TCP, or a pipe in tests.
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
        /// The network error.
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
        /// The network error.
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
        /// The deadline.
        deadline: Duration,
    },
    /// The answer, or the request, does not follow the protocol.
    #[error("{api:?} with {address} does not follow the protocol: {reason}")]
    Malformed {
        /// The broker's `host:port`.
        address: String,
        /// The API in use.
        api: ApiKey,
        /// The codec's message.
        reason: String,
    },
    /// The broker and this crate have no version of an API in common.
    #[error("{address} supports {api:?} {theirs:?}, but {ours:?} is needed (Kafka 2.8 or newer)")]
    Unsupported {
        /// The broker's `host:port`.
        address: String,
        /// The API in use.
        api: ApiKey,
        /// The versions that this crate supports.
        ours: RangeInclusive<i16>,
        /// The versions that the broker supports, if any.
        theirs: Option<RangeInclusive<i16>>,
    },
}

/// A connection to one broker, with the API versions it supports.
pub struct Connection {
    transport: Box<dyn Transport>,
    address: String,
    client_id: StrBytes,
    versions: BTreeMap<i16, RangeInclusive<i16>>,
    correlation_id: i32,
    /// Until when the broker, which enforces a quota, wants no request. It would not read one earlier (KIP-219).
    throttled_until: Option<Instant>,
    /// Set while a request is in flight. Still set at the next request if the future was dropped.
    in_doubt: bool,
    /// What a streamed response passes through.
    fields: FieldBuffer,
}

impl Connection {
    /// Connects to `address` (`host:port`) and requests the broker's API versions.
    ///
    /// # Errors
    /// [`ConnectionError::Connect`] or [`ConnectionError::Deadline`] if there is no broker (yet);
    /// [`ConnectionError::Unsupported`] if it is older than Kafka 2.8.
    ///
    /// # Cancel safety
    /// Cancel safe: an unfinished connection is closed.
    pub async fn connect(address: &str, config: &BrokerConfig) -> Result<Self, ConnectionError> {
        let failed = |source| ConnectionError::Connect { address: address.to_owned(), source };
        let stream = timeout(config.connect_timeout, dial(address))
            .await
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        Self::handshake(Box::new(stream), address, config).await
    }

    /// Takes over `transport` and requests the broker's API versions.
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
            throttled_until: None,
            in_doubt: false,
            fields: FieldBuffer::default(),
        };
        let request = messages::ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let response = connection.call(&request, config.connect_timeout).await?;
        if let Some(error) = ResponseError::try_from_code(response.error_code) {
            return Err(connection.malformed(ApiKey::ApiVersions, &error));
        }
        connection.versions.extend(
            response.api_keys.iter().map(|api| (api.api_key, api.min_version..=api.max_version)),
        );
        Ok(connection)
    }

    /// Returns the connection if it can take a request: none is in flight, and the broker has not closed it.
    ///
    /// A broker closes idle connections (`connections.max.idle.ms`). A request that was never sent over such a connection
    /// has a known outcome, which matters for requests that must not be sent twice.
    pub fn if_open(mut self) -> Option<Self> {
        (!self.in_doubt && self.is_open()).then_some(self)
    }

    fn is_open(&mut self) -> bool {
        let mut unasked = [0];
        let mut unasked = ReadBuf::new(&mut unasked);
        // The next read registers a waker of its own.
        let cx = &mut Context::from_waker(Waker::noop());
        Pin::new(&mut self.transport).poll_read(cx, &mut unasked).is_pending()
    }

    /// Returns the broker's `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the version of requests of this kind: the newest that both sides support.
    ///
    /// # Errors
    /// [`ConnectionError::Unsupported`] if there is none; the connection stays usable.
    pub fn version<R: Call>(&self) -> Result<i16, ConnectionError> {
        self.newest(R::KEY, R::VERSIONS)
    }

    /// Returns the newest version of an API that both sides support.
    pub(crate) fn newest(
        &self,
        api: ApiKey,
        ours: RangeInclusive<i16>,
    ) -> Result<i16, ConnectionError> {
        let theirs = self.versions.get(&api_code(api));
        theirs
            .map(|range| (*range.start().max(ours.start()), *range.end().min(ours.end())))
            .filter(|(lowest, highest)| lowest <= highest)
            .map(|(_, highest)| highest)
            .ok_or_else(|| ConnectionError::Unsupported {
                address: self.address.clone(),
                api,
                ours,
                theirs: theirs.cloned(),
            })
    }

    /// Sends `request` and waits at most `deadline` for the response. While the broker throttles this client, the call waits
    /// before it sends; that time is not part of the deadline.
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
        self.be_ready(R::KEY).await?;
        let frame = match request.older(version) {
            Some(older) => self.encode(R::KEY, &older, version)?,
            None => self.encode(R::KEY, request, version)?,
        };
        self.in_doubt = true;
        let give_up = Instant::now() + deadline;
        let answer = timeout_at(give_up, self.exchange(&frame, give_up)).await;
        let body = match answer {
            Ok(Ok(body)) => body,
            Ok(Err(source)) => return Err(self.broken(R::KEY, source)),
            Err(_elapsed) => return Err(self.late(R::KEY, deadline)),
        };
        let response = self.decode::<R>(body, version, self.correlation_id)?;
        self.in_doubt = false;
        self.note_throttle(R::throttle_time_ms(&response));
        Ok(response)
    }

    /// Sends `request` in version `version`, and decodes the response while it arrives; otherwise as [`Connection::call`].
    ///
    /// # Errors
    /// As [`Connection::call`].
    ///
    /// # Cancel safety
    /// As [`Connection::call`].
    pub(crate) async fn call_streamed<R: StreamedCall>(
        &mut self,
        request: &R,
        version: i16,
        deadline: Duration,
    ) -> Result<R::Answer, ConnectionError> {
        self.be_ready(R::KEY).await?;
        let frame = self.encode(R::KEY, request, version)?;
        self.in_doubt = true;
        let give_up = Instant::now() + deadline;
        let exchange = async {
            self.send(&frame, give_up).await?;
            let size = frame_size(self.transport.read_i32().await?, STREAMED_FRAME_BYTES_MAX)?;
            let mut fields = Fields::new(&mut self.transport, &mut self.fields, size);
            if fields.header(R::is_flexible(version)).await? != self.correlation_id {
                return Err(ReadError::Malformed("the answer belongs to another request"));
            }
            let answer = R::read(&mut fields, version).await?;
            fields.finish()?;
            Ok(answer)
        };
        let answer = match timeout_at(give_up, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(ReadError::Io(source))) => return Err(self.broken(R::KEY, source)),
            Ok(Err(ReadError::Malformed(reason))) => return Err(self.malformed(R::KEY, &reason)),
            Err(_elapsed) => return Err(self.late(R::KEY, deadline)),
        };
        self.in_doubt = false;
        self.note_throttle(R::throttle_time_ms(&answer));
        Ok(answer)
    }

    /// Waits until the broker takes a request.
    async fn be_ready(&self, api: ApiKey) -> Result<(), ConnectionError> {
        if self.in_doubt {
            let source = io::Error::other("an earlier request was abandoned");
            return Err(self.broken(api, source));
        }
        if let Some(throttled_until) = self.throttled_until {
            sleep_until(throttled_until).await;
        }
        Ok(())
    }

    fn encode<R: Encodable + HeaderVersion>(
        &mut self,
        api: ApiKey,
        request: &R,
        version: i16,
    ) -> Result<Bytes, ConnectionError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(api_code(api))
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| self.malformed(api, &error))?;
        let size = u32::try_from(frame.len() - 4).map_err(|error| self.malformed(api, &error))?;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        Ok(frame.freeze())
    }

    async fn exchange(&mut self, frame: &[u8], give_up: Instant) -> io::Result<Bytes> {
        self.send(frame, give_up).await?;
        let size = frame_size(self.transport.read_i32().await?, FRAME_BYTES_MAX)?;
        let mut body = BytesMut::with_capacity(size);
        let mut rest = (&mut self.transport).take(u64::try_from(size).unwrap_or(u64::MAX));
        while body.len() < size {
            if rest.read_buf(&mut body).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(body.freeze())
    }

    /// Writes a frame, and nothing of it after `give_up`.
    async fn send(&mut self, frame: &[u8], give_up: Instant) -> io::Result<()> {
        tokio::select! {
            biased;
            // Checked first: a process that was suspended wakes with the deadline passed and the transport ready.
            () = sleep_until(give_up) => std::future::pending().await,
            written = self.write(frame) => written,
        }
    }

    async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.transport.write_all(frame).await?;
        self.transport.flush().await
    }

    fn decode<R: Call>(
        &self,
        body: Bytes,
        version: i16,
        correlation_id: i32,
    ) -> Result<R::Response, ConnectionError> {
        let header_version = R::Response::header_version(version);
        let is_flexible = header_version > 0 || R::KEY == ApiKey::ApiVersions;
        let mut body = Bounded::new(body, is_flexible);
        let header = ResponseHeader::decode(&mut body, header_version)
            .map_err(|error| self.malformed(R::KEY, &error))?;
        if !is_flexible && !shape::fits(R::KEY, version, body.chunk()) {
            return Err(self.malformed(R::KEY, &"a count is larger than the answer"));
        }
        if header.correlation_id != correlation_id {
            return Err(self.malformed(R::KEY, &"the answer belongs to another request"));
        }
        let response = R::Response::decode(&mut body, version)
            .map_err(|error| self.malformed(R::KEY, &error))?;
        if body.has_remaining() {
            return Err(self.malformed(R::KEY, &"there are bytes after the answer"));
        }
        Ok(R::newer(response, version))
    }

    /// Notes when the broker reads requests again, after an answer with this `throttle_time_ms`.
    fn note_throttle(&mut self, throttle_time_ms: i32) {
        let throttle_ms = u64::try_from(throttle_time_ms).unwrap_or(0);
        self.throttled_until = (throttle_ms > 0).then(|| {
            tracing::debug!(throttle_ms, "the broker throttles this client");
            Instant::now() + Duration::from_millis(throttle_ms)
        });
    }

    fn broken(&self, api: ApiKey, source: io::Error) -> ConnectionError {
        ConnectionError::Broken { address: self.address.clone(), api, source }
    }

    fn late(&self, api: ApiKey, deadline: Duration) -> ConnectionError {
        ConnectionError::Deadline { address: self.address.clone(), api, deadline }
    }

    fn malformed(&self, api: ApiKey, reason: &dyn std::fmt::Display) -> ConnectionError {
        ConnectionError::Malformed {
            address: self.address.clone(),
            api,
            reason: format!("{reason:#}"),
        }
    }
}

fn frame_size(size: i32, bytes_max: usize) -> io::Result<usize> {
    let size = usize::try_from(size).ok().filter(|size| *size <= bytes_max);
    size.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "impossible frame size"))
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
