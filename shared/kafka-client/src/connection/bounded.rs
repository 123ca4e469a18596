//! A buffer from which no decoder learns of more elements than there are bytes.
//!
//! The generated decoders reserve memory for as many elements as a count on the wire claims, so a few bytes can ask for
//! hundreds of gigabytes. In flexible versions (KIP-482) every count and length is an unsigned varint, and each element takes
//! at least a byte.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::buf::ByteBuf;

/// The bytes of the longest varint that are followed by another one.
const CONTINUED_MAX: usize = 4;

/// An answer that is being decoded.
pub(super) struct Bounded {
    bytes: Bytes,
    is_flexible: bool,
    /// The last bytes that were read one by one and announce another byte of a varint.
    continued: Vec<u8>,
}

impl Bounded {
    /// Wraps an answer of a flexible version, or of one whose counts were checked.
    pub(super) fn new(bytes: Bytes, is_flexible: bool) -> Self {
        Self { bytes, is_flexible, continued: Vec::with_capacity(CONTINUED_MAX + 1) }
    }

    /// Returns the largest varint that may end with `byte`. A Boolean is a byte as well, so where a varint begins is not
    /// certain; the earliest place gives the largest number unless it cuts the varint off.
    fn largest_varint(&self, byte: u8) -> u64 {
        let is_last = |length: usize| byte < 0x80 || length == CONTINUED_MAX;
        let starts = (0..=self.continued.len()).filter(|length| is_last(*length));
        let value = |length: usize| {
            let continued = &self.continued[self.continued.len() - length..];
            let bytes = continued.iter().chain([&byte]).rev();
            bytes.fold(0, |value, byte| (value << 7) | u64::from(byte & 0x7f))
        };
        starts.map(value).max().unwrap_or(0)
    }
}

impl Buf for Bounded {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.bytes.try_get_u8()?;
        if !self.is_flexible {
            return Ok(byte);
        }
        let requested = usize::try_from(self.largest_varint(byte)).unwrap_or(usize::MAX);
        let available = self.bytes.remaining();
        // Compact lengths are one more than what they count; 0 stands for null.
        if requested > available + 1 {
            return Err(TryGetError { requested, available });
        }
        if byte < 0x80 {
            self.continued.clear();
        } else {
            self.continued.push(byte);
            let surplus = self.continued.len().saturating_sub(CONTINUED_MAX);
            self.continued.drain(..surplus);
        }
        Ok(byte)
    }
}

impl ByteBuf for Bounded {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.bytes.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_response::MetadataResponse;
    use kafka_protocol::protocol::Decodable;

    use super::*;

    const VERSION: i16 = 12;

    fn decode(bytes: &[&[u8]]) -> Result<MetadataResponse, String> {
        let mut bounded = Bounded::new(bytes.concat().into(), true);
        MetadataResponse::decode(&mut bounded, VERSION).map_err(|error| error.to_string())
    }

    /// What stands before the topics: no throttling, no brokers, no cluster id, a controller.
    const BEFORE_TOPICS: [u8; 10] = [0, 0, 0, 0, 1, 0, 0, 0, 0, 1];

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused() {
        for count in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff, 0xff, 0xff, 0xff, 0xff], &[4]] {
            let refused = decode(&[&BEFORE_TOPICS, count, &[0]]);
            assert!(refused.is_err(), "{count:x?}: {refused:?}");
        }
        let empty = decode(&[&BEFORE_TOPICS, &[1], &[0]]).unwrap();
        assert_eq!((empty.topics.len(), empty.controller_id.0), (0, 1));
    }

    #[test]
    fn a_boolean_hides_no_count_behind_it() {
        // One topic without an error code, a name and an id; whether it is internal, then its partitions.
        let topic = [&[2, 0, 0, 0][..], &[7; 16]].concat();
        for internal in [0x01, 0x80, 0xff] {
            for count in [&[0x81, 0x80, 0x80, 0x80, 0x08][..], &[0xff, 0xff, 0xff, 0x7f]] {
                let refused = decode(&[&BEFORE_TOPICS, &topic, &[internal], count, &[0; 9]]);
                assert!(refused.is_err(), "{internal} {count:x?}: {refused:?}");
            }
        }
        let topics = decode(&[&BEFORE_TOPICS, &topic, &[1, 1], &[0; 4], &[0, 0]]).unwrap().topics;
        assert_eq!((topics.len(), topics[0].is_internal), (1, true));
    }
}
