//! Records that are neither done nor dead-lettered: running, waiting for a retry, or parked behind one that does.
//!
//! A record is copied out of its fetch before it is held: a slice of it would pin the whole response.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kafka_core::record_batch::Record;
use order_avro::{Order, SCHEMA_ID_HEADER, SchemaId};
use order_ledger::checkpoint::Origin;
use tokio::time::Instant;

use super::arrival::Arrival;
use crate::flow::circuit_breaker::Streak;

/// A record's headers in order, repeated names, null values and all.
pub(crate) type Headers = Vec<(Bytes, Option<Bytes>)>;

/// A record on its own, copied out of the batch it came in.
#[derive(Clone, Debug)]
pub(crate) struct OwnedRecord {
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    /// As of when it counts.
    pub(crate) counts_at_ms: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Headers,
}

impl OwnedRecord {
    /// Copies `record`.
    pub(crate) fn copy(record: &Record<'_>, arrival: Arrival) -> Self {
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

    /// Returns what names the schema of its value beside it.
    pub(super) fn schema_header(&self) -> Option<Bytes> {
        let mut headers = self.headers.iter();
        headers.rfind(|(name, _)| name == SCHEMA_ID_HEADER.as_bytes())?.1.clone()
    }

    /// Returns about how much memory the record takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
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
pub(crate) struct Work {
    /// Attempts made so far, the one that is running included.
    pub(crate) attempts: u32,
    /// The decoded order; `None` while an attempt has it, and for what does not decode.
    pub(crate) order: Option<Order>,
    /// The id of the schema it was written with, where its format names one.
    pub(crate) schema_id: Option<SchemaId>,
    /// Whether it was produced or replayed.
    pub(crate) origin: Origin,
    /// The uptime of the gate when an attempt failed first.
    pub(crate) first_failure: Option<Duration>,
    /// The streak of failures in which that was.
    pub(crate) streak: Option<Streak>,
    /// When the record was taken in.
    pub(crate) since: Instant,
    /// When its next attempt is due, while it waits for that.
    pub(crate) due: Option<Instant>,
}

impl Work {
    /// Returns what is known of a record at which no attempt has failed in this process.
    pub(crate) fn new(
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

/// One held record with what is known about it.
#[derive(Debug)]
pub(crate) struct HeldRecord {
    pub(crate) record: OwnedRecord,
    pub(crate) work: Work,
    /// Whether later records of its key wait for it.
    pub(crate) keeps_key: bool,
}

impl HeldRecord {
    fn ordering_key(&self) -> Option<&Bytes> {
        self.record.key.as_ref().filter(|_| self.keeps_key)
    }
}

/// The held records of one partition.
#[derive(Debug, Default)]
pub(crate) struct HeldRecords {
    records: BTreeMap<i64, HeldRecord>,
    /// When waiting records are due, earliest first.
    waiting: BTreeSet<(Instant, i64)>,
    /// Offsets parked behind the record at work, by key. A key is present while a record of it is held.
    keys: BTreeMap<Bytes, VecDeque<i64>>,
    bytes: usize,
}

impl HeldRecords {
    /// Returns whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns about how much memory the held records take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the record that has been held for longest: records are taken in in the order of their offsets.
    pub(crate) fn oldest(&self) -> Option<&HeldRecord> {
        self.records.first_key_value().map(|(_, held)| held)
    }

    /// Returns how many records wait for their next attempt.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether a record of `key` is held, so that a later one has to be parked.
    pub(crate) fn is_busy(&self, key: &[u8]) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(key)
    }

    /// Holds a record that is at work; later ones of its key are busy from here on.
    pub(crate) fn hold(&mut self, held: HeldRecord) {
        if let Some(key) = held.ordering_key() {
            self.keys.entry(key.clone()).or_default();
        }
        self.bytes += held.record.bytes();
        self.records.insert(held.record.offset, held);
    }

    /// Parks a record behind the one of its key that is at work.
    pub(crate) fn park(&mut self, held: HeldRecord) {
        if let Some(key) = held.ordering_key() {
            self.keys.entry(key.clone()).or_default().push_back(held.record.offset);
        }
        self.bytes += held.record.bytes();
        self.records.insert(held.record.offset, held);
    }

    /// Lets a held record wait until `due`.
    pub(crate) fn wait(&mut self, offset: i64, due: Instant) {
        self.waiting.insert((due, offset));
        if let Some(held) = self.get_mut(offset) {
            held.work.due = Some(due);
        }
    }

    /// Returns when the next waiting record is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// Takes the offset of a record that is due off the waiting ones.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<i64> {
        let (due, offset) = *self.waiting.first()?;
        if due > now {
            return None;
        }
        self.waiting.pop_first();
        if let Some(held) = self.get_mut(offset) {
            held.work.due = None;
        }
        Some(offset)
    }

    /// Returns a held record.
    pub(crate) fn get_mut(&mut self, offset: i64) -> Option<&mut HeldRecord> {
        self.records.get_mut(&offset)
    }

    /// Lets go of a record that was at work, and returns the offset that was parked next behind it.
    pub(crate) fn release(&mut self, offset: i64) -> Option<(HeldRecord, Option<i64>)> {
        let held = self.records.remove(&offset)?;
        self.bytes -= held.record.bytes();
        let mut next = None;
        if let Some(key) = held.ordering_key() {
            if let Some(parked) = self.keys.get_mut(key) {
                next = parked.pop_front();
            }
            if next.is_none() {
                self.keys.remove(key);
            }
        }
        Some((held, next))
    }

    /// Forgets everything that is not running; the offsets stay incomplete.
    pub(crate) fn clear_waiting(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, key: Option<&'static str>) -> HeldRecord {
        let record = OwnedRecord {
            offset,
            timestamp_ms: 0,
            counts_at_ms: 0,
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: None,
            headers: Vec::new(),
        };
        HeldRecord { record, work: Work::new(0, None, None, Origin::Produced), keeps_key: true }
    }

    #[test]
    fn records_of_a_key_are_released_in_the_order_they_came() {
        let mut held = HeldRecords::default();
        held.hold(record(1, Some("a")));
        held.hold(record(2, Some("b")));
        assert!(held.is_busy(b"a") && held.is_busy(b"b") && !held.is_busy(b"c"));
        held.park(record(3, Some("a")));
        held.park(record(4, Some("a")));
        assert_eq!(held.release(1).unwrap().1, Some(3));
        assert_eq!(held.release(3).unwrap().1, Some(4));
        assert!(held.is_busy(b"a"), "the last of the key is at work");
        assert_eq!(held.release(4).unwrap().1, None);
        assert!(!held.is_busy(b"a"));
        held.release(2).unwrap();
        assert!(held.is_empty());
        assert_eq!(held.bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_records_come_due_in_time_order() {
        let start = Instant::now();
        let mut held = HeldRecords::default();
        held.wait(1, start + Duration::from_secs(2));
        held.wait(2, start + Duration::from_secs(1));
        assert_eq!(held.next_due(), Some(start + Duration::from_secs(1)));
        assert_eq!(held.pop_due(start), None);
        assert_eq!(held.pop_due(start + Duration::from_secs(3)), Some(2));
        assert_eq!(held.pop_due(start + Duration::from_secs(3)), Some(1));
    }
}
