//! The variable-length integers of records: zigzag, seven bits a byte, lowest first.
//!
//! Encoding: `VARINT` and `VARLONG` in <https://kafka.apache.org/protocol#protocol_types>.

/// The unread rest of a slice. Every read either takes all of its bytes or returns `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    #[inline]
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    /// Reads a signed integer of at most five bytes; as in Java, bits beyond the 32nd are dropped.
    #[inline]
    pub(super) fn varint(&mut self) -> Option<i32> {
        let first = self.byte()?;
        let raw = if first < 0x80 { u32::from(first) } else { self.varint_from(first)? };
        Some((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    #[inline]
    fn varint_from(&mut self, first: u8) -> Option<u32> {
        let mut raw = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            raw |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(raw);
            }
        }
        None
    }

    /// Reads a signed integer of at most ten bytes.
    #[inline]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let first = self.byte()?;
        let raw = if first < 0x80 { u64::from(first) } else { self.varlong_from(first)? };
        Some((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    #[inline]
    fn varlong_from(&mut self, first: u8) -> Option<u64> {
        let mut raw = u64::from(first & 0x7f);
        for shift in [7, 14, 21, 28, 35, 42, 49, 56, 63] {
            let byte = self.byte()?;
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(raw);
            }
        }
        None
    }

    /// Reads a length and as many bytes.
    #[inline]
    pub(super) fn sized_bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.bytes(length)
    }

    /// Reads a length and as many bytes; a negative length stands for null.
    #[expect(clippy::option_option, reason = "outside: whether it could be read; inside: null")]
    #[inline]
    pub(super) fn nullable_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.varint()?) {
            Ok(length) => Some(Some(self.bytes(length)?)),
            Err(_negative) => Some(None),
        }
    }
}

/// Appends `value` in as few bytes as possible.
pub(super) fn write_varlong(value: i64, into: &mut Vec<u8>) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        into.push(raw.to_le_bytes()[0] | 0x80);
        raw >>= 7;
    }
    into.push(raw.to_le_bytes()[0]);
}

/// Returns how many bytes [`write_varlong`] appends for `value`.
#[inline]
pub(super) fn varlong_bytes(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    // Seven bits a byte, at least one byte.
    match raw.leading_zeros() {
        57.. => 1,
        50.. => 2,
        43.. => 3,
        36.. => 4,
        29.. => 5,
        22.. => 6,
        15.. => 7,
        8.. => 8,
        1.. => 9,
        0 => 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn written_integers_are_read_back(long: i64, int: i32) {
            let mut bytes = Vec::new();
            write_varlong(long, &mut bytes);
            prop_assert_eq!(bytes.len(), varlong_bytes(long));
            write_varlong(i64::from(int), &mut bytes);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varlong(), Some(long));
            prop_assert_eq!(cursor.varint(), Some(int));
            prop_assert!(cursor.is_empty());
        }
    }

    #[test]
    fn the_length_is_known_at_every_power_of_two() {
        for bits in 0..63 {
            for value in [1 << bits, (1 << bits) - 1, -(1 << bits), i64::MIN, i64::MAX] {
                let mut bytes = Vec::new();
                write_varlong(value, &mut bytes);
                assert_eq!(bytes.len(), varlong_bytes(value), "{value}");
            }
        }
    }

    #[test]
    fn integers_that_are_cut_off_or_never_end_are_refused() {
        assert_eq!(Cursor::new(&[]).varint(), None);
        assert_eq!(Cursor::new(&[0x80, 0x80]).varint(), None);
        assert_eq!(Cursor::new(&[0x80; 6]).varint(), None);
        assert_eq!(Cursor::new(&[0xff; 11]).varlong(), None);
        assert_eq!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint(), Some(i32::MIN));
    }

    #[test]
    fn a_length_beyond_the_end_takes_nothing_and_a_negative_one_is_null() {
        assert_eq!(Cursor::new(&[8, 1, 2, 3]).sized_bytes(), None);
        assert_eq!(Cursor::new(&[1, 1, 2, 3]).sized_bytes(), None);
        assert_eq!(Cursor::new(&[1, 1, 2, 3]).nullable_bytes(), Some(None));
        assert_eq!(Cursor::new(&[4, 1, 2, 3]).nullable_bytes(), Some(Some(&[1, 2][..])));
    }
}
