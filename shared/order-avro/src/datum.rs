//! Avro's binary encoding, read from the front of a slice.
//!
//! It allocates nothing, whatever lengths a value claims: texts are parts of the slice.

use crate::{DecodeError, PoisonKind};

/// The unread rest of a datum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datum<'a>(&'a [u8]);

impl<'a> Datum<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        self.0.split_off(..length).ok_or_else(truncated)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    /// Reads a long: seven bits a byte, the lowest first, zigzag.
    #[inline]
    pub(crate) fn long(&mut self) -> Result<i64, DecodeError> {
        let mut number = 0_u64;
        let mut shift = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if (shift == 63) && (*byte > 1) {
                return Err(mismatch("a number is larger than 64 bits"));
            }
            number |= u64::from(byte & 0x7F) << shift;
            if *byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
            shift += 7;
        }
        Err(truncated())
    }

    pub(crate) fn int(&mut self) -> Result<i32, DecodeError> {
        i32::try_from(self.long()?).map_err(|_| mismatch("an int is larger than 32 bits"))
    }

    pub(crate) fn boolean(&mut self) -> Result<(), DecodeError> {
        let [byte] = self.array()?;
        if byte <= 1 { Ok(()) } else { Err(mismatch("a boolean is neither 0 nor 1")) }
    }

    pub(crate) fn float(&mut self) -> Result<f32, DecodeError> {
        self.array().map(f32::from_le_bytes)
    }

    /// Reads bytes or a string after their length.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.long()?;
        let length = u64::try_from(length).map_err(|_| mismatch("a length is negative"))?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Reads the header of a block of an array or a map: its number of values, and their bytes if it has that number.
    pub(crate) fn block(&mut self) -> Result<(u64, Option<usize>), DecodeError> {
        let count = self.long()?;
        if count >= 0 {
            return Ok((count.unsigned_abs(), None));
        }
        let bytes = u64::try_from(self.long()?);
        let bytes = bytes.map_err(|_| mismatch("a length is negative"))?;
        Ok((count.unsigned_abs(), Some(usize::try_from(bytes).unwrap_or(usize::MAX))))
    }
}

#[cold]
fn truncated() -> DecodeError {
    DecodeError::new(PoisonKind::Truncated, "the value ends before the order does")
}

#[cold]
pub(crate) fn mismatch(detail: impl Into<String>) -> DecodeError {
    DecodeError::new(PoisonKind::SchemaMismatch, detail)
}
