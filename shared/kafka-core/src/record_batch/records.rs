//! The records of one opened batch.

use std::iter::FusedIterator;

use bytes::Bytes;

use super::BatchHeader;
use super::headers::Headers;
use super::varint::Cursor;

/// A batch whose checksum was right and whose records are unpacked. Cloning copies pointers.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    header: BatchHeader,
    records: Bytes,
}

/// One record, borrowed from its batch.
///
/// Whatever is to outlive the batch has to be copied out of it: a slice of a few bytes would keep a whole fetch
/// response in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The record's offset.
    pub offset: i64,
    /// Milliseconds since 1970: when the producer made the record, or, where the topic says so, when the broker
    /// appended it.
    pub timestamp_ms: i64,
    /// The key; null and empty are different keys.
    pub key: Option<&'a [u8]>,
    /// The value; null is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers in their order.
    pub headers: Headers<'a>,
}

/// A piece of a batch that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndecodableRecord<'a> {
    /// The piece's offset. Where the piece does not tell its own, the lowest that it can have, which is the right one
    /// in every batch that was not compacted.
    pub first_offset: i64,
    /// The last offset for which the piece stands: that of the batch when nothing after it can be told apart.
    pub last_offset: i64,
    /// The bytes, without their length prefix where they had a usable one.
    pub raw: &'a [u8],
    /// What is wrong with it.
    pub fault: RecordFault,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// The length is no number or reaches beyond the batch: the rest of the batch is one piece.
    Length,
    /// A field reaches beyond the record, or bytes are left after the last one.
    Fields,
    /// The offset does not lie between the record before it and the end of the batch.
    Offset,
    /// The batch ends before its last record; the piece has no bytes.
    Missing,
    /// Bytes follow the last record that the batch declares.
    Surplus,
}

impl RecordFault {
    /// Returns what is wrong in a few words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Length => "record length reaches beyond its batch",
            Self::Fields => "record fields do not fill its length",
            Self::Offset => "record offset is outside its batch or out of order",
            Self::Missing => "batch ends before its last record",
            Self::Surplus => "bytes follow the last record of a batch",
        }
    }
}

/// What a control record says about its producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlMarker {
    /// The transaction was aborted.
    Abort,
    /// The transaction was committed.
    Commit,
    /// A kind of control record that does not concern consumers.
    Other(i16),
}

impl ControlMarker {
    /// Returns the marker's number on the wire.
    pub fn code(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(code) => code,
        }
    }
}

impl RecordBatch {
    pub(super) fn new(header: BatchHeader, records: Bytes) -> Self {
        Self { header, records }
    }

    /// Returns what the batch says about itself.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Walks the records in order. Offsets rise strictly and lie within the batch, whatever the batch contains; what
    /// has no offset left to take (bytes after a record with the batch's last offset) is left out.
    pub fn records(&self) -> Records<'_> {
        let header = &self.header;
        let timestamps = if header.is_log_append_time() {
            Timestamps::All(header.max_timestamp_ms)
        } else {
            Timestamps::From(header.base_timestamp_ms)
        };
        Records {
            cursor: Cursor::new(&self.records),
            left: header.record_count,
            base_offset: header.base_offset,
            lowest_offset: header.base_offset,
            highest_offset: highest_first_offset(header),
            last_offset: header.last_offset,
            timestamps,
        }
    }

    /// Walks the records from the offset `position` on: a broker answers with whole batches, also where the position
    /// lies in the middle of one.
    pub fn records_from(&self, position: i64) -> Records<'_> {
        let mut records = self.records();
        if self.header.base_offset < position {
            records.skip_below(position);
        }
        records
    }

    /// Returns what the first record of a control batch says; `None` where it has none or says nothing.
    pub fn marker(&self) -> Option<ControlMarker> {
        let first = self.records().next()?.ok()?;
        let [_, _, high, low, ..] = *first.key? else {
            return None;
        };
        match i16::from_be_bytes([high, low]) {
            0 => Some(ControlMarker::Abort),
            1 => Some(ControlMarker::Commit),
            other => Some(ControlMarker::Other(other)),
        }
    }
}

/// Iterates over the records of one batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    /// How many more records the batch declares.
    left: i32,
    base_offset: i64,
    /// The lowest offset that the next record can have.
    lowest_offset: i64,
    /// The highest one that leaves an offset for each record after it: a wrong offset must not cost the others theirs.
    highest_offset: i64,
    last_offset: i64,
    timestamps: Timestamps,
}

#[derive(Clone, Copy, Debug)]
enum Timestamps {
    /// Each record adds its own to this one.
    From(i64),
    /// All have this one.
    All(i64),
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, UndecodableRecord<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 || self.cursor.is_empty() {
            return self.end();
        }
        let start = self.cursor;
        let Some(body) = self.cursor.sized_bytes() else {
            self.cursor = start;
            return self.rest(RecordFault::Length);
        };
        self.left -= 1;
        match self.decode(body) {
            Ok(record) => {
                self.advance_past(record.offset);
                Some(Ok(record))
            }
            Err(fault) => self.single(body, fault),
        }
    }
}

impl FusedIterator for Records<'_> {}

impl<'a> Records<'a> {
    #[inline]
    fn decode(&self, body: &'a [u8]) -> Result<Record<'a>, RecordFault> {
        let mut cursor = Cursor::new(body);
        let record = self.fields(&mut cursor).ok_or(RecordFault::Fields)?;
        if (self.lowest_offset..=self.highest_offset).contains(&record.offset) {
            Ok(record)
        } else {
            Err(RecordFault::Offset)
        }
    }

    #[inline]
    fn advance_past(&mut self, offset: i64) {
        self.lowest_offset = offset + 1;
        self.highest_offset = (self.highest_offset + 1).min(self.last_offset);
    }

    #[inline]
    fn fields(&self, cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
        let _attributes = cursor.byte()?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        Some(Record {
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp_ms: match self.timestamps {
                Timestamps::From(base) => base.wrapping_add(timestamp_delta),
                Timestamps::All(appended) => appended,
            },
            key: cursor.nullable_bytes()?,
            value: cursor.nullable_bytes()?,
            headers: Headers::read_all(cursor)?,
        })
    }

    /// Hands on one piece whose length was usable, so that the records after it can be read.
    #[cold]
    fn single(&mut self, body: &'a [u8], fault: RecordFault) -> Option<<Self as Iterator>::Item> {
        if self.last_offset < self.lowest_offset {
            return self.rest(fault);
        }
        let possible = self.lowest_offset..=self.highest_offset;
        let told = self.told_offset(body).filter(|told| possible.contains(told));
        let offset = told.unwrap_or(self.lowest_offset);
        self.advance_past(offset);
        Some(Err(UndecodableRecord { first_offset: offset, last_offset: offset, raw: body, fault }))
    }

    fn told_offset(&self, body: &[u8]) -> Option<i64> {
        let mut cursor = Cursor::new(body);
        cursor.byte()?;
        cursor.varlong()?;
        self.base_offset.checked_add(i64::from(cursor.varint()?))
    }

    /// Ends the walk, with a last piece where declared records are missing or undeclared bytes are left.
    #[cold]
    fn end(&mut self) -> Option<<Self as Iterator>::Item> {
        if self.left > 0 {
            self.rest(RecordFault::Missing)
        } else if self.cursor.is_empty() {
            None
        } else {
            self.rest(RecordFault::Surplus)
        }
    }

    /// Hands on everything that is left as one piece for all offsets that are left.
    #[cold]
    fn rest(&mut self, fault: RecordFault) -> Option<<Self as Iterator>::Item> {
        let raw = self.cursor.rest();
        let first_offset = self.lowest_offset;
        self.cursor = Cursor::new(&[]);
        self.left = 0;
        self.lowest_offset = self.last_offset + 1;
        (first_offset <= self.last_offset).then_some(Err(UndecodableRecord {
            first_offset,
            last_offset: self.last_offset,
            raw,
            fault,
        }))
    }

    fn skip_below(&mut self, position: i64) {
        let mut ahead = self.clone();
        while let Some(item) = ahead.next() {
            let last = match item {
                Ok(record) => record.offset,
                Err(piece) => piece.last_offset,
            };
            if position <= last {
                return;
            }
            *self = ahead.clone();
        }
        *self = ahead;
    }
}

/// Returns the highest offset that the first record can have; all offsets of the batch where its count is no guide.
fn highest_first_offset(header: &BatchHeader) -> i64 {
    let others = i64::from(header.record_count) - 1;
    let highest = header.last_offset - others.max(0);
    if highest < header.base_offset { header.last_offset } else { highest }
}
