//! Response frames of several chunks, so that record batches reach the socket without a copy.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Smaller chunks are copied into the bytes around them, which costs less than a chunk of their own.
const COPIED_BYTES_MAX: usize = 4096;
/// The size in front of every frame, in bytes.
const SIZE_BYTES: usize = 4;

/// The encoding of lengths, which depends on the version of a message (KIP-482).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lengths {
    /// Integers of fixed size.
    Fixed,
    /// Variable-length integers; structures end with tagged fields.
    Compact,
}

#[derive(Debug)]
pub(crate) struct FrameWriter {
    lengths: Lengths,
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
}

impl FrameWriter {
    pub(crate) fn new(lengths: Lengths) -> Self {
        Self { lengths, chunks: VecDeque::new(), tail: BytesMut::new() }
    }

    /// Returns the buffer of the fields.
    pub(crate) fn meta(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends bytes that the log shares; only few bytes are copied.
    pub(crate) fn put_shared(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED_BYTES_MAX {
            self.tail.put_slice(&bytes);
        } else {
            self.chunks.push_back(self.tail.split().freeze());
            self.chunks.push_back(bytes);
        }
    }

    /// Writes the length of an array or of a byte string.
    pub(crate) fn put_length(&mut self, length: usize) {
        match self.lengths {
            Lengths::Fixed => self.tail.put_i32(i32::try_from(length).unwrap_or(i32::MAX)),
            Lengths::Compact => self.put_unsigned_varint(length + 1),
        }
    }

    pub(crate) fn put_null_array(&mut self) {
        match self.lengths {
            Lengths::Fixed => self.tail.put_i32(-1),
            Lengths::Compact => self.put_unsigned_varint(0),
        }
    }

    pub(crate) fn put_string(&mut self, string: &str) {
        match self.lengths {
            Lengths::Fixed => {
                self.tail.put_i16(i16::try_from(string.len()).unwrap_or(i16::MAX));
            }
            Lengths::Compact => self.put_unsigned_varint(string.len() + 1),
        }
        self.tail.put_slice(string.as_bytes());
    }

    /// Ends a structure without tagged fields.
    pub(crate) fn put_no_tagged_fields(&mut self) {
        match self.lengths {
            Lengths::Fixed => {}
            Lengths::Compact => self.tail.put_u8(0),
        }
    }

    /// Puts the size in front and returns the frame.
    pub(crate) fn finish(mut self) -> Frame {
        self.chunks.push_back(self.tail.freeze());
        let length: usize = self.chunks.iter().map(Bytes::len).sum();
        let size = u32::try_from(length).unwrap_or(u32::MAX);
        self.chunks.push_front(Bytes::copy_from_slice(&size.to_be_bytes()));
        Frame { chunks: self.chunks, remaining: length + SIZE_BYTES }
    }

    fn put_unsigned_varint(&mut self, mut value: usize) {
        while 0x80 <= value {
            self.tail.put_u8(0x80 | u8::try_from(value & 0x7f).unwrap_or_default());
            value >>= 7;
        }
        self.tail.put_u8(u8::try_from(value).unwrap_or_default());
    }
}

/// A response frame on its way to the socket.
#[derive(Debug)]
pub(crate) struct Frame {
    chunks: VecDeque<Bytes>,
    remaining: usize,
}

#[cfg(test)]
impl Frame {
    /// Returns the bytes after the size.
    pub(crate) fn without_size(mut self) -> Bytes {
        self.advance(SIZE_BYTES);
        self.copy_to_bytes(self.remaining())
    }
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.iter().find(|chunk| !chunk.is_empty()).map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = self.chunks.iter().filter(|chunk| !chunk.is_empty());
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.remaining, "cannot advance past the end");
        while 0 < count {
            let Some(chunk) = self.chunks.front_mut() else {
                return;
            };
            let step = count.min(chunk.len());
            chunk.advance(step);
            self.remaining -= step;
            count -= step;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_chunks_are_shared_and_the_size_counts_all() {
        let large = Bytes::from(vec![7; COPIED_BYTES_MAX + 1]);
        let mut writer = FrameWriter::new(Lengths::Fixed);
        writer.meta().put_u8(1);
        writer.put_shared(large.clone());
        writer.put_shared(Bytes::from_static(b"small"));
        let frame = writer.finish();
        assert!(
            frame.chunks.iter().any(|chunk| chunk.as_ptr() == large.as_ptr()),
            "the large chunk was copied"
        );
        let expected_length = 4 + 1 + large.len() + 5;
        assert_eq!(frame.remaining(), expected_length);
        assert_eq!(frame.chunks[0].clone().get_u32(), u32::try_from(expected_length - 4).unwrap());
        let body = frame.without_size();
        assert_eq!((body[0], &body[body.len() - 5..]), (1, &b"small"[..]));
    }

    #[test]
    fn advancing_crosses_chunks() {
        let mut writer = FrameWriter::new(Lengths::Fixed);
        writer.meta().put_slice(b"ab");
        writer.put_shared(Bytes::from(vec![7; COPIED_BYTES_MAX + 1]));
        writer.meta().put_slice(b"yz");
        let mut frame = writer.finish();
        frame.advance(4 + 2 + COPIED_BYTES_MAX);
        assert_eq!(frame.chunk(), [7]);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(frame.chunks_vectored(&mut slices), 2);
        frame.advance(2);
        assert_eq!(frame.chunk(), b"z");
        frame.advance(1);
        assert!(!frame.has_remaining());
    }
}
