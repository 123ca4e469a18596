//! The log of a partition, with batches that the tests encode themselves.

use bytes::{BufMut, BytesMut};

use super::*;

pub(crate) const LIMITS: LogLimits =
    LogLimits { batch_bytes_max: 1_048_588, retention_bytes: None, compacted: false };
const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

#[derive(Clone)]
pub(crate) struct BatchSpec {
    pub(crate) values: Vec<Vec<u8>>,
    pub(crate) timestamps: Vec<i64>,
    pub(crate) has_keys: bool,
    pub(crate) attributes: i16,
    pub(crate) producer: (i64, i16, i32),
    pub(crate) base_offset: i64,
    pub(crate) magic: i8,
    pub(crate) last_offset_delta: i32,
    pub(crate) count: i32,
}

impl BatchSpec {
    pub(crate) fn of(values: &[&[u8]]) -> Self {
        let count = i32::try_from(values.len()).unwrap();
        Self {
            values: values.iter().map(|value| value.to_vec()).collect(),
            timestamps: (0..values.len()).map(|index| i64::try_from(index).unwrap()).collect(),
            has_keys: true,
            attributes: 0,
            producer: (-1, -1, -1),
            base_offset: 0,
            magic: 2,
            last_offset_delta: count - 1,
            count,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut records = BytesMut::new();
        for (index, (value, timestamp)) in self.values.iter().zip(&self.timestamps).enumerate() {
            let mut record = BytesMut::new();
            record.put_i8(0);
            put_varint(&mut record, *timestamp);
            put_varint(&mut record, i64::try_from(index).unwrap());
            if self.has_keys {
                put_varint(&mut record, 1);
                record.put_u8(b'k');
            } else {
                put_varint(&mut record, -1);
            }
            put_varint(&mut record, i64::try_from(value.len()).unwrap());
            record.put_slice(value);
            put_varint(&mut record, 0);
            put_varint(&mut records, i64::try_from(record.len()).unwrap());
            records.put_slice(&record);
        }
        let mut checked = BytesMut::new();
        checked.put_i16(self.attributes);
        checked.put_i32(self.last_offset_delta);
        checked.put_i64(BASE_TIMESTAMP);
        checked.put_i64(BASE_TIMESTAMP + self.timestamps.iter().max().copied().unwrap_or(0));
        checked.put_i64(self.producer.0);
        checked.put_i16(self.producer.1);
        checked.put_i32(self.producer.2);
        checked.put_i32(self.count);
        checked.put_slice(&records);
        let mut batch = BytesMut::new();
        batch.put_i64(self.base_offset);
        batch.put_i32(i32::try_from(checked.len() + 9).unwrap());
        batch.put_i32(-1);
        batch.put_i8(self.magic);
        batch.put_u32(crc32c::crc32c(&checked));
        batch.put_slice(&checked);
        batch.freeze()
    }
}

pub(crate) fn batch_of(values: &[&[u8]]) -> Bytes {
    BatchSpec::of(values).encode()
}

fn put_varint(buffer: &mut BytesMut, value: i64) {
    let mut rest = u64::from_be_bytes(((value << 1) ^ (value >> 63)).to_be_bytes());
    while 0x80 <= rest {
        buffer.put_u8(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    buffer.put_u8(u8::try_from(rest).unwrap());
}

fn log_of(sizes: &[usize]) -> PartitionLog {
    let mut log = PartitionLog::default();
    for size in sizes {
        let values = vec![&b"v"[..]; *size];
        log.append(batch_of(&values), &LIMITS).unwrap();
    }
    log
}

fn base_offsets(batches: &[Batch]) -> Vec<i64> {
    batches.iter().map(|batch| batch.base_offset).collect()
}

#[track_caller]
fn refuses(spec: &BatchSpec, limits: &LogLimits, expected: ResponseError) {
    let refusal = PartitionLog::default().append(spec.encode(), limits).unwrap_err();
    assert_eq!(refusal.error, expected, "{refusal}");
}

#[test]
fn offsets_count_records_over_batches() {
    let mut log = log_of(&[3, 1]);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 4));
    assert_eq!(log.append(batch_of(&[b"a", b"b"]), &LIMITS), Ok(4));
    assert_eq!(log.log_end_offset(), 6);
}

#[test]
fn a_fetched_batch_differs_only_in_offset_and_epoch() {
    let mut log = log_of(&[5]);
    log.begin_epoch(3);
    let sent = batch_of(&[b"payload"]);
    log.append(sent.clone(), &LIMITS).unwrap();
    let batches = log.read(5, usize::MAX, AtLeastOne::No).unwrap();
    let mut found = BytesMut::new();
    batches[0].write_to(&mut found);
    assert_eq!(found[..8], 5_i64.to_be_bytes());
    assert_eq!(found[8..12], sent[8..12]);
    assert_eq!(found[12..16], 3_i32.to_be_bytes());
    assert_eq!(found[16..], sent[16..]);
}

#[test]
fn reading_begins_with_the_batch_that_holds_the_offset() {
    let log = log_of(&[3, 2, 4]);
    let read =
        |offset| log.read(offset, usize::MAX, AtLeastOne::No).map(|found| base_offsets(&found));
    assert_eq!(read(0), Ok(vec![0, 3, 5]));
    assert_eq!(read(2), Ok(vec![0, 3, 5]));
    assert_eq!(read(3), Ok(vec![3, 5]));
    assert_eq!(read(8), Ok(vec![5]));
    assert_eq!(read(9), Ok(vec![]));
    assert_eq!(read(10), Err(ResponseError::OffsetOutOfRange));
    assert_eq!(read(-1), Err(ResponseError::OffsetOutOfRange));
}

#[test]
fn a_read_stops_at_its_limit_but_can_return_one_larger_batch() {
    let log = log_of(&[1, 1, 1]);
    let one = log.read(0, usize::MAX, AtLeastOne::No).unwrap()[0].len();
    let read = |bytes, at_least_one| log.read(0, bytes, at_least_one).unwrap().len();
    assert_eq!(read(2 * one, AtLeastOne::No), 2);
    assert_eq!(read(2 * one - 1, AtLeastOne::No), 2, "the second is to be cut");
    assert_eq!(read(one, AtLeastOne::No), 1);
    assert_eq!(read(one - 1, AtLeastOne::No), 0);
    assert_eq!(read(one - 1, AtLeastOne::Yes), 1);
    assert_eq!(read(0, AtLeastOne::Yes), 1);
}

#[test]
fn batches_that_producers_must_not_send_are_refused() {
    let good = BatchSpec::of(&[b"a", b"b"]);
    let invalid = ResponseError::InvalidRecord;
    refuses(&BatchSpec { base_offset: 7, ..good.clone() }, &LIMITS, invalid);
    refuses(&BatchSpec { magic: 1, ..good.clone() }, &LIMITS, invalid);
    refuses(&BatchSpec { count: 0, ..good.clone() }, &LIMITS, invalid);
    refuses(&BatchSpec { count: 3, ..good.clone() }, &LIMITS, invalid);
    refuses(&BatchSpec { last_offset_delta: 5, ..good.clone() }, &LIMITS, invalid);
    refuses(&BatchSpec { attributes: 0x20, ..good.clone() }, &LIMITS, invalid);
    refuses(&BatchSpec { producer: (5, 0, -1), ..good.clone() }, &LIMITS, invalid);
    let transactional = BatchSpec { attributes: 0x10, producer: (5, 0, 0), ..good };
    refuses(&transactional, &LIMITS, ResponseError::TransactionalIdAuthorizationFailed);
}

#[test]
fn damaged_and_oversized_batches_are_refused() {
    let good = batch_of(&[b"a", b"b"]);
    let mut log = PartitionLog::default();
    let mut refused = |bytes: Vec<u8>, limits: &LogLimits| {
        log.append(Bytes::from(bytes), limits).unwrap_err().error
    };
    for index in 17..good.len() {
        let mut damaged = good.to_vec();
        damaged[index] ^= 0x40;
        assert_eq!(refused(damaged, &LIMITS), ResponseError::CorruptMessage, "byte {index}");
    }
    assert_eq!(refused(good[..60].to_vec(), &LIMITS), ResponseError::InvalidRecord);
    assert_eq!(refused(good[..good.len() - 1].to_vec(), &LIMITS), ResponseError::InvalidRecord);
    let two = [&good[..], &good[..]].concat();
    assert_eq!(refused(two, &LIMITS), ResponseError::InvalidRecord);
    let tight = LogLimits { batch_bytes_max: good.len() - 1, ..LIMITS };
    assert_eq!(refused(good.to_vec(), &tight), ResponseError::MessageTooLarge);
    let exact = LogLimits { batch_bytes_max: good.len(), ..LIMITS };
    assert_eq!(log.append(good, &exact), Ok(0));
}

#[test]
fn a_compacted_topic_demands_keys_and_accepts_compressed_batches_unchecked() {
    let compacted = LogLimits { compacted: true, ..LIMITS };
    let keyless = BatchSpec { has_keys: false, ..BatchSpec::of(&[b"a"]) };
    refuses(&keyless, &compacted, ResponseError::InvalidRecord);
    let mut log = PartitionLog::default();
    assert_eq!(log.append(batch_of(&[b"a"]), &compacted), Ok(0));
    assert_eq!(
        log.append(BatchSpec { attributes: 1, ..keyless.clone() }.encode(), &compacted),
        Ok(1)
    );
    assert_eq!(log.append(keyless.encode(), &LIMITS), Ok(2));
}

#[test]
fn repeated_batches_of_an_idempotent_producer_get_their_first_offset() {
    let mut log = log_of(&[4]);
    let numbered = |sequence| {
        BatchSpec { producer: (9, 0, sequence), ..BatchSpec::of(&[b"a", b"b"]) }.encode()
    };
    for (index, sequence) in [0, 2, 4, 6, 8].into_iter().enumerate() {
        let offset = 4 + 2 * i64::try_from(index).unwrap();
        assert_eq!(log.append(numbered(sequence), &LIMITS), Ok(offset));
    }
    for (sequence, offset) in [(0, 4), (8, 12), (4, 8)] {
        assert_eq!(log.append(numbered(sequence), &LIMITS), Ok(offset), "a repeat of {sequence}");
    }
    assert_eq!(log.log_end_offset(), 14, "repeats are not written");
    let error = log.append(numbered(12), &LIMITS).unwrap_err().error;
    assert_eq!(error, ResponseError::OutOfOrderSequenceNumber);
    assert_eq!(log.append(numbered(10), &LIMITS), Ok(14));
    let forgotten = log.append(numbered(0), &LIMITS).unwrap_err().error;
    assert_eq!(forgotten, ResponseError::OutOfOrderSequenceNumber, "five batches are remembered");
}

#[test]
fn a_producers_epochs_only_grow_and_begin_at_sequence_0() {
    let mut log = PartitionLog::default();
    let batch = |epoch, sequence| {
        BatchSpec { producer: (9, epoch, sequence), ..BatchSpec::of(&[b"a"]) }.encode()
    };
    assert_eq!(log.append(batch(1, 77), &LIMITS), Ok(0), "an unknown producer begins anywhere");
    let stale = log.append(batch(0, 78), &LIMITS).unwrap_err().error;
    assert_eq!(stale, ResponseError::InvalidProducerEpoch);
    let gap = log.append(batch(2, 78), &LIMITS).unwrap_err().error;
    assert_eq!(gap, ResponseError::OutOfOrderSequenceNumber);
    assert_eq!(log.append(batch(2, 0), &LIMITS), Ok(1));
}

#[test]
fn sequence_numbers_wrap() {
    let mut log = PartitionLog::default();
    let batch = |sequence| {
        BatchSpec { producer: (9, 0, sequence), ..BatchSpec::of(&[b"a", b"b"]) }.encode()
    };
    assert_eq!(log.append(batch(i32::MAX - 2), &LIMITS), Ok(0));
    assert_eq!(log.append(batch(i32::MAX), &LIMITS), Ok(2), "i32::MAX and 0");
    assert_eq!(log.append(batch(1), &LIMITS), Ok(4));
    assert_eq!(log.append(batch(i32::MAX), &LIMITS), Ok(2));
}

#[test]
fn deleting_records_moves_the_log_start() {
    let mut log = log_of(&[3, 3]);
    log.delete_records_before(4).unwrap();
    assert_eq!(log.log_start_offset(), 4);
    let batches = log.read(4, usize::MAX, AtLeastOne::No).unwrap();
    assert_eq!(base_offsets(&batches), [3], "a batch goes when all of it is deleted");
    assert_eq!(log.read(3, 1, AtLeastOne::Yes).unwrap_err(), ResponseError::OffsetOutOfRange);
    log.delete_records_before(2).unwrap();
    assert_eq!(log.log_start_offset(), 4, "the log start never moves back");
    assert_eq!(log.delete_records_before(7), Err(ResponseError::OffsetOutOfRange));
    log.delete_records_before(6).unwrap();
    assert_eq!(log.append(batch_of(&[b"a"]), &LIMITS), Ok(6));
}

#[test]
fn truncation_drops_whole_batches_and_their_offsets_are_given_again() {
    let mut log = log_of(&[3, 3, 3]);
    log.begin_epoch(1);
    log.append(batch_of(&[b"a"]), &LIMITS).unwrap();
    log.truncate(10);
    assert_eq!(log.log_end_offset(), 10, "there is nothing to drop");
    log.truncate(5);
    assert_eq!(log.log_end_offset(), 3, "a batch goes as a whole");
    log.begin_epoch(2);
    assert_eq!(log.append(batch_of(&[b"b"]), &LIMITS), Ok(3));
    assert_eq!([0, 2, 3].map(|offset| log.epoch_at(offset)), [0, 0, 2].map(Some));
    assert_eq!(log.end_of_epoch(1), Some(EpochEnd { epoch: 0, end_offset: 3 }));
    log.delete_records_before(2).unwrap();
    log.truncate(0);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 0));
}

#[test]
fn a_truncated_log_knows_the_producers_of_what_is_left() {
    let mut log = PartitionLog::default();
    let numbered =
        |sequence| BatchSpec { producer: (9, 0, sequence), ..BatchSpec::of(&[b"a"]) }.encode();
    for sequence in 0..8 {
        log.append(numbered(sequence), &LIMITS).unwrap();
    }
    log.truncate(2);
    assert_eq!(log.append(numbered(1), &LIMITS), Ok(1), "a repeat");
    for lost in [7, 8] {
        let error = log.append(numbered(lost), &LIMITS).unwrap_err().error;
        assert_eq!(error, ResponseError::OutOfOrderSequenceNumber, "{lost} is no repeat");
    }
    assert_eq!(log.append(numbered(2), &LIMITS), Ok(2));
}

#[test]
fn retention_drops_the_oldest_batches_but_never_the_newest() {
    let mut log = PartitionLog::default();
    let one = batch_of(&[b"v"]).len();
    let limits = LogLimits { retention_bytes: Some(2 * one), ..LIMITS };
    for _ in 0..5 {
        log.append(batch_of(&[b"v"]), &limits).unwrap();
    }
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (3, 5));
    let limits = LogLimits { retention_bytes: Some(0), ..LIMITS };
    log.append(batch_of(&[b"v"]), &limits).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (5, 6));
}

#[test]
fn records_are_found_by_timestamp() {
    let mut log = PartitionLog::default();
    for timestamps in [[10, 30, 20], [40, 40, 15]] {
        let spec =
            BatchSpec { timestamps: timestamps.to_vec(), ..BatchSpec::of(&[b"a", b"b", b"c"]) };
        log.append(spec.encode(), &LIMITS).unwrap();
    }
    let find = |log: &PartitionLog, at: i64| {
        let found = log.first_at_or_after(BASE_TIMESTAMP + at);
        found.map(|found| (found.offset, found.timestamp - BASE_TIMESTAMP))
    };
    assert_eq!(find(&log, 0), Some((0, 10)));
    assert_eq!(find(&log, 11), Some((1, 30)));
    assert_eq!(find(&log, 31), Some((3, 40)));
    assert_eq!(find(&log, 41), None);
    let largest = log.largest_timestamp().unwrap();
    assert_eq!((largest.offset, largest.timestamp), (3, BASE_TIMESTAMP + 40));
    log.delete_records_before(4).unwrap();
    assert_eq!(find(&log, 0), Some((4, 40)));
    assert_eq!(PartitionLog::default().largest_timestamp(), None);
}

#[test]
fn a_compressed_batch_is_found_as_a_whole() {
    let mut log = log_of(&[2]);
    let compressed = BatchSpec { attributes: 2, ..BatchSpec::of(&[b"a", b"b", b"c"]) };
    log.append(compressed.encode(), &LIMITS).unwrap();
    let found = log.first_at_or_after(BASE_TIMESTAMP + 2).unwrap();
    assert_eq!((found.offset, found.timestamp), (2, BASE_TIMESTAMP + 2));
}

#[test]
fn records_that_differ_from_the_header_are_refused() {
    let two = BatchSpec::of(&[b"a", b"b"]);
    let too_few = BatchSpec { count: 3, last_offset_delta: 2, ..two.clone() };
    refuses(&too_few, &LIMITS, ResponseError::InvalidRecord);
    let too_many = BatchSpec { count: 1, last_offset_delta: 0, ..two.clone() };
    refuses(&too_many, &LIMITS, ResponseError::InvalidRecord);
    let none = BatchSpec { values: Vec::new(), ..two };
    assert_eq!(none.encode().len(), 61, "the length of a header");
    refuses(&none, &LIMITS, ResponseError::InvalidRecord);
}
