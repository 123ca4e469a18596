//! Recognises records that their producer sent twice.
//!
//! Orders are not written by Kafka's idempotent producer. A producer that gets no response sends the same batch again,
//! and the log may then hold it twice. A producer stamps its records with its id and an ascending sequence, has one
//! request in flight, and sends no newer record before the repeat. So in offset order a record is a repeat exactly if
//! its sequence is not above the last one of its producer. Each record is judged once, in offset order, when it is
//! dispatched.

use dead_letter::stamp::{PRODUCER_ID_HEADER, SEQUENCE_HEADER};

use crate::packing::{Unpacker, varint_bytes_max, write_varint};

/// How many producers are remembered. A producer that returns after as many others counts as new: then a repeat may be
/// processed, but no order is lost.
pub const PRODUCERS_MAX: usize = 24;

/// Bits of a sequence: enough for 34 thousand million records of one producer.
const SEQUENCE_BITS: usize = 35;

/// A producer's id and the sequence of one of its records, ascending from record to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp<'a> {
    producer_id: &'a [u8],
    sequence: u64,
}

/// Whether a record is a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Its producer sends it for the first time.
    Fresh,
    /// Its producer sent it before.
    Repeat,
}

/// The latest producers on a partition, with the last sequence of each.
#[derive(Clone, Debug, Default)]
pub struct ProducerTable {
    producers: Vec<Producer>,
    /// The id of the first producer; empty after a restore. Most records are from the same producer as the one before,
    /// so they need no hash.
    first_id: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Producer {
    id_hash: u64,
    /// One more than the last sequence: the lowest one that is not a repeat.
    fresh_from: u64,
}

impl<'a> Stamp<'a> {
    /// Returns the stamp of a record; `None` for an empty id or a sequence of 2<sup>35</sup> or more.
    #[inline]
    pub fn new(producer_id: &'a [u8], sequence: u64) -> Option<Self> {
        let is_valid = !producer_id.is_empty() && sequence >> SEQUENCE_BITS == 0;
        is_valid.then_some(Self { producer_id, sequence })
    }

    /// Reads the stamp from a record's headers.
    ///
    /// `None` unless each of the two headers occurs once, with a valid id and sequence. A record without a stamp is
    /// never a repeat.
    #[inline]
    pub fn of(headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Option<Self> {
        let (mut producer_id, mut sequence) = (None, None);
        for (name, value) in headers {
            let found = if name == PRODUCER_ID_HEADER.as_bytes() {
                &mut producer_id
            } else if name == SEQUENCE_HEADER.as_bytes() {
                &mut sequence
            } else {
                continue;
            };
            if found.replace(value?).is_some() {
                return None;
            }
        }
        Self::new(producer_id?, parse_sequence(sequence?)?)
    }
}

#[inline]
fn parse_sequence(text: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 11;
    if text.is_empty() || text.len() > DIGITS_MAX {
        return None;
    }
    let mut sequence = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sequence = sequence * 10 + u64::from(digit);
    }
    Some(sequence)
}

impl ProducerTable {
    /// Judges a record and remembers its sequence. Call it once for each record, in offset order.
    #[inline]
    pub fn judge(&mut self, stamp: &Stamp<'_>) -> Judgement {
        if self.producers.is_empty() || self.first_id != stamp.producer_id {
            self.bring_to_front(stamp.producer_id);
        }
        let Some(producer) = self.producers.first_mut() else { return Judgement::Fresh };
        if stamp.sequence < producer.fresh_from {
            return Judgement::Repeat;
        }
        producer.fresh_from = stamp.sequence + 1;
        Judgement::Fresh
    }

    /// Moves the producer to the front. A new one replaces the oldest if the table is full.
    #[cold]
    fn bring_to_front(&mut self, producer_id: &[u8]) {
        let id_hash = hash(producer_id);
        let known = self.producers.iter().position(|producer| producer.id_hash == id_hash);
        if let Some(place) = known {
            self.producers[..=place].rotate_right(1);
        } else {
            self.producers.truncate(PRODUCERS_MAX - 1);
            self.producers.insert(0, Producer { id_hash, fresh_from: 0 });
        }
        self.first_id.clear();
        self.first_id.extend_from_slice(producer_id);
    }
}

impl ProducerTable {
    /// The most bytes that [`Self::write`] appends.
    pub(crate) const BYTES_MAX: usize =
        varint_bytes_max(7) + PRODUCERS_MAX * (size_of::<u64>() + varint_bytes_max(SEQUENCE_BITS));

    /// Appends the producers, the latest first.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        write_varint(u64::try_from(self.producers.len()).unwrap_or(u64::MAX), into);
        for producer in &self.producers {
            into.extend_from_slice(&producer.id_hash.to_le_bytes());
            write_varint(producer.fresh_from.saturating_sub(1), into);
        }
    }

    /// Reads the form that [`Self::write`] appends; `None` for any other bytes.
    pub(crate) fn read(from: &mut Unpacker<'_>) -> Option<Self> {
        let count: usize = from.varint()?;
        let mut producers: Vec<Producer> = Vec::new();
        for _ in 0..count {
            let id_hash = u64::from_le_bytes(from.array()?);
            let last_sequence: u64 = from.varint()?;
            let is_valid = producers.len() < PRODUCERS_MAX
                && last_sequence >> SEQUENCE_BITS == 0
                && producers.iter().all(|producer| producer.id_hash != id_hash);
            if !is_valid {
                return None;
            }
            producers.push(Producer { id_hash, fresh_from: last_sequence + 1 });
        }
        Some(Self { producers, first_id: Vec::new() })
    }
}

impl PartialEq for ProducerTable {
    fn eq(&self, other: &Self) -> bool {
        self.producers == other.producers
    }
}

impl Eq for ProducerTable {}

/// Returns the 64-bit [FNV-1a](https://en.wikipedia.org/wiki/Fowler%E2%80%93Noll%E2%80%93Vo_hash_function) hash, which
/// checkpoints store.
fn hash(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn judge(table: &mut ProducerTable, producer: &str, sequence: u64) -> Judgement {
        table.judge(&Stamp::new(producer.as_bytes(), sequence).unwrap())
    }

    fn restored(table: &ProducerTable) -> ProducerTable {
        let mut bytes = Vec::new();
        table.write(&mut bytes);
        assert!(bytes.len() <= ProducerTable::BYTES_MAX, "{} bytes", bytes.len());
        let mut unpacker = Unpacker::new(&bytes);
        let restored = ProducerTable::read(&mut unpacker).unwrap();
        assert!(unpacker.is_empty());
        restored
    }

    #[test]
    fn a_record_is_a_repeat_if_its_sequence_is_not_above_the_last_of_its_producer() {
        let mut table = ProducerTable::default();
        for (producer, sequence, judgement) in [
            ("a", 0, Judgement::Fresh),
            ("a", 0, Judgement::Repeat),
            ("a", 1, Judgement::Fresh),
            ("b", 1, Judgement::Fresh),
            ("a", 1, Judgement::Repeat),
            ("a", 9, Judgement::Fresh),
            ("b", 2, Judgement::Fresh),
            ("a", 8, Judgement::Repeat),
            ("b", (1 << 35) - 1, Judgement::Fresh),
            ("b", (1 << 35) - 1, Judgement::Repeat),
        ] {
            assert_eq!(judge(&mut table, producer, sequence), judgement, "{producer} {sequence}");
        }
    }

    #[test]
    fn the_producer_that_was_silent_longest_is_forgotten_first() {
        let mut table = ProducerTable::default();
        for producer in 0..PRODUCERS_MAX {
            judge(&mut table, &producer.to_string(), 5);
        }
        judge(&mut table, "0", 5); // A repeat makes its producer the latest: producer 1 is the oldest.
        assert_eq!(judge(&mut table, "new", 5), Judgement::Fresh);
        for producer in (2..PRODUCERS_MAX).chain([0]) {
            assert_eq!(
                judge(&mut table, &producer.to_string(), 5),
                Judgement::Repeat,
                "{producer}"
            );
        }
        assert_eq!(judge(&mut table, "new", 5), Judgement::Repeat);
        assert_eq!(judge(&mut table, "1", 5), Judgement::Fresh);
    }

    #[test]
    fn the_largest_table_fits() {
        let mut table = ProducerTable::default();
        for producer in 0..2 * PRODUCERS_MAX {
            judge(&mut table, &producer.to_string(), (1 << 35) - 1);
        }
        let mut bytes = Vec::new();
        table.write(&mut bytes);
        assert_eq!(bytes.len(), ProducerTable::BYTES_MAX);
    }

    #[test]
    fn a_stamp_needs_both_headers_once_and_valid() {
        type Headers<'a> = &'a [(&'a [u8], Option<&'a [u8]>)];
        let id: (&[u8], Option<&[u8]>) = (b"producer-id", Some(b"a"));
        let seven: (&[u8], Option<&[u8]>) = (b"sequence", Some(b"7"));
        let with_sequence = |text| Stamp::of([id, (b"sequence".as_slice(), Some(text))]);

        assert_eq!(Stamp::of([id, seven]), Stamp::new(b"a", 7));
        assert_eq!(Stamp::of([(b"x".as_slice(), None), seven, id]), Stamp::new(b"a", 7));
        assert_eq!(with_sequence(b"34359738367"), Stamp::new(b"a", (1 << 35) - 1));
        assert_eq!(with_sequence(b"007"), Stamp::new(b"a", 7));
        for text in [
            b"34359738368".as_slice(),
            b"99999999999",
            b"000000000007",
            b"",
            b"-1",
            b"+1",
            b"7 ",
            b"0x7",
        ] {
            assert_eq!(with_sequence(text), None, "{text:?}");
        }
        let incomplete: [Headers<'_>; 7] = [
            &[],
            &[id],
            &[seven],
            &[(b"producer-id", Some(b"")), seven],
            &[(b"producer-id", None), seven],
            &[id, seven, seven],
            &[id, seven, id],
        ];
        for headers in incomplete {
            assert_eq!(Stamp::of(headers.iter().copied()), None, "{headers:?}");
        }
    }

    #[test]
    fn ids_are_hashed_by_fnv_1a() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn malformed_tables_are_refused() {
        let entry = |byte: u8| [[byte; 8].as_slice(), &[3]].concat();
        let twice = [&[2], entry(1).as_slice(), &entry(1)].concat();
        let too_many: Vec<u8> = [25].into_iter().chain((0..25).flat_map(entry)).collect();
        let too_late = [[1].as_slice(), &[0; 8], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]].concat();
        for bytes in [vec![], vec![1, 0], twice, too_many, too_late] {
            assert_eq!(ProducerTable::read(&mut Unpacker::new(&bytes)), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_order_counts_once_wherever_the_table_was_restored(
            // Each producer sends batches in ascending order. With one request in flight, only the last can be
            // repeated.
            batches in proptest::collection::vec((0_usize..20, 1_u64..5, 0_usize..3), 1..80),
            restarts in proptest::collection::vec(any::<bool>(), 80),
        ) {
            let mut next: BTreeMap<usize, u64> = BTreeMap::new();
            let mut table = ProducerTable::default();
            for ((producer, records, repeats), restart) in batches.into_iter().zip(restarts) {
                let first = *next.entry(producer).or_insert(1);
                next.insert(producer, first + records);
                for sent in 0..=repeats {
                    for sequence in first..first + records {
                        let expected = if sent == 0 { Judgement::Fresh } else { Judgement::Repeat };
                        prop_assert_eq!(judge(&mut table, &producer.to_string(), sequence), expected);
                    }
                }
                if restart {
                    let restored = restored(&table);
                    prop_assert_eq!(&restored, &table);
                    table = restored;
                }
            }
        }
    }
}
