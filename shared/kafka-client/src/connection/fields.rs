//! Reads the fields of a response while its bytes arrive, and long byte strings into buffers of their own.
//!
//! A response is never in memory as a whole. Fields pass through a buffer of the connection. A partition's records, which
//! are most of a Fetch response, go from the socket to a buffer of their exact size, so they live as long as somebody
//! needs them and keep nothing else alive.
//!
//! No count or length is believed that the rest of the frame cannot hold.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use uuid::Uuid;

/// The size of the buffer of fields, and the largest field in it.
const BUFFER_BYTES: usize = 64 * 1024;
/// How much is read at once between long byte strings. What follows the fields is copied out of the buffer, so a full
/// buffer would copy more than it saves.
const SMALL_READ_BYTES: usize = 4 * 1024;
/// The most bytes for which memory is reserved before any of them has arrived.
const RESERVED_MAX: usize = 8 * 1024 * 1024;

/// Why a response could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The connection failed.
    Io(io::Error),
    /// The bytes do not follow the protocol.
    Malformed(&'static str),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The buffer of a connection between the socket and the fields.
#[derive(Debug, Default)]
pub(crate) struct FieldBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// The rest of one response. Lengths are varints in flexible versions (KIP-482), and fixed integers in others.
pub(crate) struct Fields<'a, S> {
    stream: &'a mut S,
    buffer: &'a mut FieldBuffer,
    /// How many bytes of the frame the stream still holds.
    unread: usize,
    is_flexible: bool,
    read_max: usize,
}

impl<'a, S: AsyncRead + Unpin> Fields<'a, S> {
    /// Begins a response of `size` bytes.
    pub(crate) fn new(stream: &'a mut S, buffer: &'a mut FieldBuffer, size: usize) -> Self {
        if buffer.bytes.is_empty() {
            buffer.bytes.resize(BUFFER_BYTES, 0);
        }
        (buffer.start, buffer.end) = (0, 0);
        Self { stream, buffer, unread: size, is_flexible: false, read_max: BUFFER_BYTES }
    }

    /// Reads the header: the correlation id, and the tagged fields of a flexible one.
    pub(crate) async fn header(&mut self, is_flexible: bool) -> Result<i32, ReadError> {
        let correlation_id = self.i32().await?;
        self.is_flexible = is_flexible;
        self.skip_tags().await?;
        Ok(correlation_id)
    }

    /// Ends a response, which has to be read to its end.
    pub(crate) fn finish(self) -> Result<(), ReadError> {
        match self.rest() {
            0 => Ok(()),
            _ => Err(ReadError::Malformed("there are bytes after the answer")),
        }
    }

    pub(crate) async fn i16(&mut self) -> Result<i16, ReadError> {
        Ok(i16::from_be_bytes(self.array().await?))
    }

    pub(crate) async fn i32(&mut self) -> Result<i32, ReadError> {
        Ok(i32::from_be_bytes(self.array().await?))
    }

    pub(crate) async fn i64(&mut self) -> Result<i64, ReadError> {
        Ok(i64::from_be_bytes(self.array().await?))
    }

    pub(crate) async fn uuid(&mut self) -> Result<Uuid, ReadError> {
        Ok(Uuid::from_bytes(self.array().await?))
    }

    /// Reads the number of elements of an array of which each takes at least `element_bytes_min`; 0 for null.
    pub(crate) async fn count(&mut self, element_bytes_min: usize) -> Result<usize, ReadError> {
        let count = if self.is_flexible {
            self.varint().await?.checked_sub(1)
        } else {
            u32::try_from(self.i32().await?).ok()
        };
        let count = usize::try_from(count.unwrap_or(0)).unwrap_or(usize::MAX);
        if count > self.rest() / element_bytes_min.max(1) {
            return Err(ReadError::Malformed("a count exceeds the answer"));
        }
        Ok(count)
    }

    /// Reads a text; empty for null.
    pub(crate) async fn text(&mut self) -> Result<String, ReadError> {
        let length = if self.is_flexible {
            self.length().await?
        } else {
            usize::try_from(self.i16().await?).unwrap_or(0)
        };
        if length > BUFFER_BYTES {
            return Err(ReadError::Malformed("a text is too long"));
        }
        self.need(length).await?;
        let text = self.take(length).to_vec();
        String::from_utf8(text).map_err(|_error| ReadError::Malformed("a text is not UTF-8"))
    }

    /// Reads bytes into a buffer of their own; empty for null.
    pub(crate) async fn bytes(&mut self) -> Result<Bytes, ReadError> {
        let length = if self.is_flexible {
            self.length().await?
        } else {
            usize::try_from(self.i32().await?).unwrap_or(0)
        };
        if length > self.rest() {
            return Err(ReadError::Malformed("a length exceeds the answer"));
        }
        let mut bytes = BytesMut::with_capacity(length.min(RESERVED_MAX));
        let buffered = length.min(self.buffered());
        bytes.put_slice(self.take(buffered));
        self.read_max = if buffered < length { SMALL_READ_BYTES } else { BUFFER_BYTES };
        while bytes.len() < length {
            if bytes.len() == bytes.capacity() {
                bytes.reserve(bytes.len().min(length - bytes.len()));
            }
            let left = length - bytes.len();
            let mut room = (&mut bytes).limit(left);
            let read = self.stream.read_buf(&mut room).await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.unread -= read;
        }
        Ok(bytes.freeze())
    }

    /// Skips a structure's tagged fields; a response that is not flexible has none.
    pub(crate) async fn skip_tags(&mut self) -> Result<(), ReadError> {
        for _ in 0..self.tags().await? {
            let (_tag, size) = self.tag().await?;
            self.skip(size).await?;
        }
        Ok(())
    }

    /// Reads the number of a structure's tagged fields.
    pub(crate) async fn tags(&mut self) -> Result<usize, ReadError> {
        if !self.is_flexible {
            return Ok(0);
        }
        let count = usize::try_from(self.varint().await?).unwrap_or(usize::MAX);
        // A tagged field has at least its number and its size.
        if count > self.rest() / 2 {
            return Err(ReadError::Malformed("a count exceeds the answer"));
        }
        Ok(count)
    }

    /// Reads the number and the size of a tagged field.
    pub(crate) async fn tag(&mut self) -> Result<(u32, usize), ReadError> {
        let tag = self.varint().await?;
        let size = usize::try_from(self.varint().await?).unwrap_or(usize::MAX);
        if size > self.rest() {
            return Err(ReadError::Malformed("a length exceeds the answer"));
        }
        Ok((tag, size))
    }

    /// Skips what is left of a tagged field of `size` bytes that began when `rest_before` bytes were left.
    pub(crate) async fn end_tag(
        &mut self,
        size: usize,
        rest_before: usize,
    ) -> Result<(), ReadError> {
        let end = rest_before.checked_sub(size);
        let left = end.and_then(|end| self.rest().checked_sub(end));
        let left = left.ok_or(ReadError::Malformed("a tagged field exceeds its size"))?;
        self.skip(left).await
    }

    /// Returns how many bytes of the frame are left.
    pub(crate) fn rest(&self) -> usize {
        self.unread + self.buffered()
    }

    async fn length(&mut self) -> Result<usize, ReadError> {
        let length = self.varint().await?.saturating_sub(1);
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    async fn varint(&mut self) -> Result<u32, ReadError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array().await?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value)
                    .map_err(|_error| ReadError::Malformed("a varint is too large"));
            }
        }
        Err(ReadError::Malformed("a varint is too long"))
    }

    async fn skip(&mut self, count: usize) -> Result<(), ReadError> {
        let mut left = count;
        while left > 0 {
            let step = left.min(BUFFER_BYTES);
            self.need(step).await?;
            self.take(step);
            left -= step;
        }
        Ok(())
    }

    async fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        self.need(N).await?;
        let mut array = [0; N];
        array.copy_from_slice(self.take(N));
        Ok(array)
    }

    fn buffered(&self) -> usize {
        self.buffer.end - self.buffer.start
    }

    /// Takes bytes that are in the buffer.
    fn take(&mut self, count: usize) -> &[u8] {
        let start = self.buffer.start;
        self.buffer.start += count;
        &self.buffer.bytes[start..start + count]
    }

    /// Reads until the buffer holds `count` bytes, at most as many as it has room for.
    async fn need(&mut self, count: usize) -> Result<(), ReadError> {
        if count > self.rest() {
            return Err(ReadError::Malformed("the answer ends early"));
        }
        while self.buffered() < count {
            if BUFFER_BYTES - self.buffer.start < count.max(SMALL_READ_BYTES) {
                self.buffer.bytes.copy_within(self.buffer.start..self.buffer.end, 0);
                self.buffer.end -= self.buffer.start;
                self.buffer.start = 0;
            }
            let room = self.read_max.max(count).min(self.unread);
            let end = (self.buffer.end + room).min(BUFFER_BYTES);
            let read = self.stream.read(&mut self.buffer.bytes[self.buffer.end..end]).await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.buffer.end += read;
            self.unread -= read;
        }
        Ok(())
    }
}
