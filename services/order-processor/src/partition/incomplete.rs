//! Records that were taken in and are not complete: in flight, waiting for a retry, or queued behind their key.
//!
//! A record is copied out of its fetch: a slice would keep the whole response in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use dead_letter::RawHeader;
use kafka_core::record_batch::Record;
use order_avro::{Order, SCHEMA_ID_HEADER, SchemaId};
use order_ledger::checkpoint::Origin;
use tokio::time::Instant;

use super::cursor::Arrival;
use crate::flow::circuit_breaker::Streak;

/// A record's headers in order, repeated names, null values and all.
pub(super) type Headers = Vec<(Bytes, Option<Bytes>)>;

/// A record on its own, copied out of the batch it came in.
#[derive(Clone, Debug)]
pub(super) struct OwnedRecord {
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    /// The time as of which it counts, in milliseconds since 1970.
    pub(super) counts_at_ms: i64,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Headers,
}

impl OwnedRecord {
    pub(super) fn copy(record: &Record<'_>, arrival: Arrival) -> Self {
        let headers = record
            .headers
            .iter()
            .map(|header| {
                (Bytes::copy_from_slice(header.name), header.value.map(Bytes::copy_from_slice))
            })
            .collect();
        Self {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            counts_at_ms: arrival.time_of(record.timestamp_ms),
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            headers,
        }
    }

    /// Returns the header that names the schema of its value.
    pub(super) fn schema_header(&self) -> Option<Bytes> {
        let mut headers = self.headers.iter();
        headers.rfind(|(name, _)| name == SCHEMA_ID_HEADER.as_bytes())?.1.clone()
    }

    /// Returns about how much memory the record takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| {
                name.len() + value.as_ref().map_or(0, Bytes::len) + 2 * size_of::<Bytes>()
            })
            .sum();
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + headers
            + size_of::<Self>()
    }
}

/// What is known about a record beside its bytes.
#[derive(Debug)]
pub(super) struct Work {
    /// Attempts made so far, the one that is running included.
    pub(super) attempts: u32,
    /// The decoded order; `None` while an attempt has it, and for what does not decode.
    pub(super) order: Option<Order>,
    /// The id of the schema it was written with, where its format names one.
    pub(super) schema_id: Option<SchemaId>,
    /// Whether it was produced or replayed.
    pub(super) origin: Origin,
    /// The uptime of the limiter at the first failure.
    pub(super) first_failure: Option<Duration>,
    /// The streak of that failure.
    pub(super) streak: Option<Streak>,
    /// When the record was taken in.
    pub(super) since: Instant,
    /// When its next attempt is due, while it waits for that.
    pub(super) due: Option<Instant>,
}

impl Work {
    /// Returns the work on a record of which no attempt has failed in this process.
    pub(super) fn new(
        attempts: u32,
        order: Option<Order>,
        schema_id: Option<SchemaId>,
        origin: Origin,
    ) -> Self {
        let since = Instant::now();
        Self {
            attempts,
            order,
            schema_id,
            origin,
            first_failure: None,
            streak: None,
            since,
            due: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct IncompleteRecord {
    pub(super) record: OwnedRecord,
    pub(super) work: Work,
    /// Whether later records of its key wait for it.
    pub(super) keeps_key: bool,
}

impl IncompleteRecord {
    fn ordering_key(&self) -> Option<&Bytes> {
        self.record.key.as_ref().filter(|_| self.keeps_key)
    }
}

/// The incomplete records of one partition.
#[derive(Debug, Default)]
pub(super) struct IncompleteRecords {
    records: BTreeMap<i64, IncompleteRecord>,
    /// When waiting records are due, earliest first.
    waiting: BTreeSet<(Instant, i64)>,
    /// Offsets queued behind the first incomplete record of their key. A key is present while it has an incomplete record.
    keys: BTreeMap<Bytes, VecDeque<i64>>,
    bytes: usize,
}

impl IncompleteRecords {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns about how much memory the records take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the record that was taken in first.
    pub(super) fn oldest(&self) -> Option<&IncompleteRecord> {
        self.records.first_key_value().map(|(_, record)| record)
    }

    /// Returns how many records wait for their next attempt.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether a record of `key` is incomplete, so that a later one has to queue behind it.
    pub(super) fn is_busy(&self, key: &[u8]) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(key)
    }

    /// Adds a record; its key is busy from here on.
    pub(super) fn insert(&mut self, record: IncompleteRecord) {
        if let Some(key) = record.ordering_key() {
            self.keys.entry(key.clone()).or_default();
        }
        self.bytes += record.record.bytes();
        self.records.insert(record.record.offset, record);
    }

    /// Adds a record behind the first of its key.
    pub(super) fn queue_behind_key(&mut self, record: IncompleteRecord) {
        if let Some(key) = record.ordering_key() {
            self.keys.entry(key.clone()).or_default().push_back(record.record.offset);
        }
        self.bytes += record.record.bytes();
        self.records.insert(record.record.offset, record);
    }

    /// Lets a record wait until `due`.
    pub(super) fn wait(&mut self, offset: i64, due: Instant) {
        self.waiting.insert((due, offset));
        if let Some(record) = self.get_mut(offset) {
            record.work.due = Some(due);
        }
    }

    /// Returns when the next waiting record is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// Takes the offset of a record that is due off the waiting ones.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<i64> {
        let (due, offset) = *self.waiting.first()?;
        if due > now {
            return None;
        }
        self.waiting.pop_first();
        if let Some(record) = self.get_mut(offset) {
            record.work.due = None;
        }
        Some(offset)
    }

    pub(super) fn get_mut(&mut self, offset: i64) -> Option<&mut IncompleteRecord> {
        self.records.get_mut(&offset)
    }

    /// Removes a record, and returns the offset that was queued next behind its key.
    pub(super) fn remove(&mut self, offset: i64) -> Option<(IncompleteRecord, Option<i64>)> {
        let record = self.records.remove(&offset)?;
        self.bytes -= record.record.bytes();
        let mut next = None;
        if let Some(key) = record.ordering_key() {
            if let Some(queued) = self.keys.get_mut(key) {
                next = queued.pop_front();
            }
            if next.is_none() {
                self.keys.remove(key);
            }
        }
        Some((record, next))
    }

    /// Forgets which records wait for a retry; the offsets stay incomplete.
    pub(super) fn clear_waiting(&mut self) {
        self.waiting.clear();
    }
}

/// Returns headers as the dead-letter library reads them.
pub(super) fn raw(headers: &Headers) -> impl Iterator<Item = RawHeader<'_>> {
    headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, key: Option<&'static str>) -> IncompleteRecord {
        let record = OwnedRecord {
            offset,
            timestamp_ms: 0,
            counts_at_ms: 0,
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: None,
            headers: Vec::new(),
        };
        IncompleteRecord {
            record,
            work: Work::new(0, None, None, Origin::Produced),
            keeps_key: true,
        }
    }

    #[test]
    fn records_of_a_key_go_on_in_the_order_they_came() {
        let mut incomplete = IncompleteRecords::default();
        incomplete.insert(record(1, Some("a")));
        incomplete.insert(record(2, Some("b")));
        assert!(incomplete.is_busy(b"a") && incomplete.is_busy(b"b") && !incomplete.is_busy(b"c"));
        incomplete.queue_behind_key(record(3, Some("a")));
        incomplete.queue_behind_key(record(4, Some("a")));
        assert_eq!(incomplete.remove(1).unwrap().1, Some(3));
        assert_eq!(incomplete.remove(3).unwrap().1, Some(4));
        assert!(incomplete.is_busy(b"a"), "the last of the key is at work");
        assert_eq!(incomplete.remove(4).unwrap().1, None);
        assert!(!incomplete.is_busy(b"a"));
        incomplete.remove(2).unwrap();
        assert!(incomplete.is_empty());
        assert_eq!(incomplete.bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_records_come_due_in_time_order() {
        let start = Instant::now();
        let mut incomplete = IncompleteRecords::default();
        incomplete.wait(1, start + Duration::from_secs(2));
        incomplete.wait(2, start + Duration::from_secs(1));
        assert_eq!(incomplete.next_due(), Some(start + Duration::from_secs(1)));
        assert_eq!(incomplete.pop_due(start), None);
        assert_eq!(incomplete.pop_due(start + Duration::from_secs(3)), Some(2));
        assert_eq!(incomplete.pop_due(start + Duration::from_secs(3)), Some(1));
    }
}
