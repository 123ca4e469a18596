//! Requests of one kind that follow each other on a connection without waiting for the answers before them.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::{Connection, ConnectionError, FRAME_BYTES_MAX, frame_size};
use crate::api::Call;

/// The bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// A connection with requests in flight. After an error it is unusable, and no request in flight has an answer.
pub(crate) struct Pipeline<R> {
    connection: Connection,
    version: i16,
    in_flight: VecDeque<InFlight>,
    /// What has arrived of the next answers.
    received: BytesMut,
    requests: PhantomData<fn(R)>,
}

struct InFlight {
    correlation_id: i32,
    timeout: Duration,
    deadline: Instant,
}

/// Why a request was not sent.
#[derive(Debug)]
pub(crate) struct SendError {
    /// Whether a part of the request was written, so that the broker may act on it.
    pub(crate) is_begun: bool,
    pub(crate) error: ConnectionError,
}

impl<R: Call> Pipeline<R> {
    /// Takes over a connection without a request in flight.
    ///
    /// # Errors
    /// [`ConnectionError::Unsupported`] if the broker does not know the request.
    pub(crate) fn new(connection: Connection) -> Result<Self, ConnectionError> {
        let version = connection.version::<R>()?;
        let (in_flight, received) = (VecDeque::new(), BytesMut::new());
        Ok(Self { connection, version, in_flight, received, requests: PhantomData })
    }

    /// Returns how many requests have no answer yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns until when the broker wants no request, if it throttles this client (KIP-219).
    pub(crate) fn throttled_until(&self) -> Option<Instant> {
        self.connection.throttled_until
    }

    /// Returns whether the broker has not closed the connection. It has sent nothing unasked while no request is in flight.
    pub(crate) fn is_open(&mut self) -> bool {
        self.connection.is_open()
    }

    /// Sends a request, whose answer is to come within `timeout`.
    ///
    /// # Errors
    /// [`SendError`]; the connection is unusable.
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped future may have written a part of the request.
    pub(crate) async fn send(&mut self, request: &R, timeout: Duration) -> Result<(), SendError> {
        let connection = &mut self.connection;
        let mut frame = connection
            .encode(R::KEY, request, self.version)
            .map_err(|error| SendError { is_begun: false, error })?;
        let length = frame.len();
        let deadline = Instant::now() + timeout;
        let written = timeout_at(deadline, async {
            while frame.has_remaining() {
                if connection.transport.write_buf(&mut frame).await? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
            connection.transport.flush().await
        })
        .await;
        let error = match written {
            Ok(Ok(())) => {
                let correlation_id = connection.correlation_id;
                self.in_flight.push_back(InFlight { correlation_id, timeout, deadline });
                return Ok(());
            }
            Ok(Err(source)) => connection.broken(R::KEY, source),
            Err(_elapsed) => connection.late(R::KEY, timeout),
        };
        Err(SendError { is_begun: frame.len() < length, error })
    }

    /// Waits for the answer to the oldest request in flight; for ever if there is none.
    ///
    /// # Errors
    /// Any [`ConnectionError`].
    ///
    /// # Cancel safety
    /// Cancel safe: what has arrived is kept.
    pub(crate) async fn receive(&mut self) -> Result<R::Response, ConnectionError> {
        let Some(oldest) = self.in_flight.front() else { return std::future::pending().await };
        let connection = &mut self.connection;
        let frame = loop {
            match next_frame(&mut self.received) {
                Ok(Some(frame)) => break frame,
                Ok(None) => {}
                Err(source) => return Err(connection.broken(R::KEY, source)),
            }
            let read = connection.transport.read_buf(&mut self.received);
            match timeout_at(oldest.deadline, read).await {
                Ok(Ok(0)) => {
                    return Err(connection.broken(R::KEY, io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(Ok(_bytes)) => {}
                Ok(Err(source)) => return Err(connection.broken(R::KEY, source)),
                Err(_elapsed) => return Err(connection.late(R::KEY, oldest.timeout)),
            }
        };
        let response = connection.decode::<R>(frame, self.version, oldest.correlation_id)?;
        connection.note_throttle(R::throttle_time_ms(&response));
        self.in_flight.pop_front();
        Ok(response)
    }
}

/// Takes the first whole frame, without its length.
fn next_frame(received: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = frame_size(i32::from_be_bytes(*length), FRAME_BYTES_MAX)?;
    if received.len() < LENGTH_BYTES + length {
        received.reserve(LENGTH_BYTES + length - received.len());
        return Ok(None);
    }
    received.advance(LENGTH_BYTES);
    Ok(Some(received.split_to(length).freeze()))
}
