//! The records of one opened batch.
//!
//! Layout: <https://kafka.apache.org/documentation/#record>.

use std::iter::FusedIterator;

use bytes::Bytes;

use super::header::BatchHeader;
use super::headers::Headers;
use super::varint::Cursor;

/// A batch with a verified checksum and decompressed records. Cloning copies pointers.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    header: BatchHeader,
    records: Bytes,
}

/// One record, borrowed from its batch.
///
/// Copy what has to outlive the batch: a slice of a few bytes would keep a whole fetch response in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The record's offset in its partition.
    pub offset: i64,
    /// In milliseconds since 1970: when the producer created the record, or with `message.timestamp.type=LogAppendTime`
    /// when the broker appended it. −1 stands for no timestamp.
    pub timestamp_ms: i64,
    /// The key; null and empty differ.
    pub key: Option<&'a [u8]>,
    /// The value; null is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers in the order of the record.
    pub headers: Headers<'a>,
}

/// A range of a batch that cannot be decoded as a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndecodableRecord<'a> {
    /// The first offset of the range. If the bytes do not tell it, it is the lowest possible one, which is right in
    /// every batch that was not compacted.
    pub first_offset: i64,
    /// The last offset of the range: the last one of the batch if no later record can be found.
    pub last_offset: i64,
    /// The bytes, without their length prefix if that was usable.
    pub raw: &'a [u8],
    /// What is wrong with the bytes.
    pub fault: RecordFault,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// The length is malformed or reaches beyond the batch. The rest of the batch is one range.
    Length,
    /// A field reaches beyond the record, or bytes follow the last field.
    Fields,
    /// The offset does not lie between the record before and the end of the batch.
    Offset,
    /// The batch ends before its last record. The range has no bytes.
    Missing,
    /// Bytes follow the last record that the batch declares.
    Surplus,
}

impl RecordFault {
    /// Returns a description for dead letters and log lines.
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

/// The type of a control record: how its producer's transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlMarker {
    /// The transaction was aborted: its records are not delivered.
    Abort,
    /// The transaction was committed: its records are delivered.
    Commit,
    /// A control record that does not concern consumers, with its type.
    Other(i16),
}

impl ControlMarker {
    /// Returns the type in the control record's key.
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

    /// Returns the header of the batch.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Iterates over the records in order. The offsets are strictly ascending and within the batch, whatever it
    /// contains. Bytes after a record with the batch's last offset are left out, because no offset is left for them.
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

    /// Iterates over the records from the offset `position` on. A broker returns complete batches even if the fetch
    /// offset lies inside one.
    pub fn records_from(&self, position: i64) -> Records<'_> {
        let mut records = self.records();
        if self.header.base_offset < position {
            records.skip_below(position);
        }
        records
    }

    /// Walks the records from a position on that [`Records::position`] has returned for this batch.
    pub fn records_at(&self, position: RecordPosition) -> Records<'_> {
        let RecordPosition { unread_bytes, left, lowest_offset, highest_offset } = position;
        let read_bytes = self.records.len().saturating_sub(unread_bytes);
        let cursor = Cursor::new(self.records.get(read_bytes..).unwrap_or_default());
        Records { cursor, left, lowest_offset, highest_offset, ..self.records() }
    }

    /// Returns the type of a control batch's first record; `None` if there is none or its key is too short.
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

/// A place between two records of a batch, to resume the walk there.
#[derive(Clone, Copy, Debug)]
pub struct RecordPosition {
    unread_bytes: usize,
    left: i32,
    lowest_offset: i64,
    highest_offset: i64,
}

/// Iterates over the records of one batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    /// The number of declared records that follow.
    left: i32,
    base_offset: i64,
    /// The lowest offset that the next record can have.
    lowest_offset: i64,
    /// The highest offset that leaves one for each record after it: a wrong offset must not use up those of the others.
    highest_offset: i64,
    last_offset: i64,
    timestamps: Timestamps,
}

#[derive(Clone, Copy, Debug)]
enum Timestamps {
    /// Each record adds its delta to this one.
    From(i64),
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
    /// Returns the place of the next record.
    #[inline]
    pub fn position(&self) -> RecordPosition {
        RecordPosition {
            unread_bytes: self.unread_bytes(),
            left: self.left,
            lowest_offset: self.lowest_offset,
            highest_offset: self.highest_offset,
        }
    }

    /// Returns how many bytes follow the records that were returned.
    pub fn unread_bytes(&self) -> usize {
        self.cursor.rest().len()
    }

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

    /// Returns one undecodable range whose length was usable, so that the records after it can be read.
    #[cold]
    fn single(&mut self, body: &'a [u8], fault: RecordFault) -> Option<<Self as Iterator>::Item> {
        if self.last_offset < self.lowest_offset {
            return self.rest(fault);
        }
        let possible = self.lowest_offset..=self.highest_offset;
        let stated = self.stated_offset(body).filter(|stated| possible.contains(stated));
        let offset = stated.unwrap_or(self.lowest_offset);
        self.advance_past(offset);
        Some(Err(UndecodableRecord { first_offset: offset, last_offset: offset, raw: body, fault }))
    }

    fn stated_offset(&self, body: &[u8]) -> Option<i64> {
        let mut cursor = Cursor::new(body);
        cursor.byte()?;
        cursor.varlong()?;
        self.base_offset.checked_add(i64::from(cursor.varint()?))
    }

    /// Ends the iteration, with a last range if declared records are missing or undeclared bytes are left.
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

    /// Returns all remaining bytes as one range of all remaining offsets.
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
                Err(range) => range.last_offset,
            };
            if position <= last {
                return;
            }
            *self = ahead.clone();
        }
        *self = ahead;
    }
}

/// Returns the highest possible offset of the first record: the batch's last offset if its record count is implausible.
fn highest_first_offset(header: &BatchHeader) -> i64 {
    let others = i64::from(header.record_count) - 1;
    let highest = header.last_offset - others.max(0);
    if highest < header.base_offset { header.last_offset } else { highest }
}
