//! The headers of one record, read in place.

use std::fmt;
use std::iter::FusedIterator;

use super::varint::Cursor;

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name, UTF-8 by convention only.
    pub name: &'a [u8],
    /// The value; null and empty differ.
    pub value: Option<&'a [u8]>,
}

/// The headers of one record in their order, including repeated names. Copying copies a pointer.
///
/// Their structure was checked when the record was decoded, so reading them cannot fail. Each iteration parses names
/// and values again, so headers that are not read cost nothing more.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The headers of a record that has none.
    pub const EMPTY: Headers<'static> = Headers { count: 0, bytes: &[] };

    /// Reads the headers that end a record; `None` unless they take all of `cursor`.
    #[inline]
    pub(super) fn read_all(cursor: &mut Cursor<'a>) -> Option<Self> {
        let count = usize::try_from(cursor.varint()?).ok()?;
        let bytes = cursor.rest();
        for _ in 0..count {
            cursor.sized_bytes()?;
            cursor.nullable_bytes()?;
        }
        cursor.is_empty().then_some(Self { count, bytes })
    }

    /// Returns how many headers there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the headers in their order.
    #[inline]
    pub fn iter(&self) -> HeaderIter<'a> {
        HeaderIter { left: self.count, cursor: Cursor::new(self.bytes) }
    }

    /// Returns the last header called `name`, as `Headers.lastHeader` of Kafka's Java client does.
    pub fn last(&self, name: &[u8]) -> Option<Header<'a>> {
        self.iter().filter(|header| header.name == name).last()
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers<'_> {}

impl<'a> IntoIterator for Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeaderIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeaderIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over the headers of one record.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    left: usize,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = Header<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(Header { name: self.cursor.sized_bytes()?, value: self.cursor.nullable_bytes()? })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}
impl FusedIterator for HeaderIter<'_> {}
