use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::record_batch::{BatchBuilder, batches};

type OwnedHeaders = Vec<(Vec<u8>, Option<Vec<u8>>)>;
type OwnedRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, OwnedHeaders);
type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

const VALUE: NewRecord<'static> =
    NewRecord { timestamp_ms: 5, key: None, value: Some(b"value"), headers: &[] };

fn owned_record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = || vec(any::<u8>(), 0..200);
    let headers = vec((vec(any::<u8>(), 0..5), option::of(bytes())), 0..4);
    (any::<i64>(), option::of(bytes()), option::of(bytes()), headers)
}

fn header_refs(headers: &OwnedHeaders) -> Vec<HeaderRef<'_>> {
    headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect()
}

fn append(encoder: &mut BatchEncoder, (timestamp_ms, key, value, headers): &OwnedRecord) -> Fit {
    encoder.append(&NewRecord {
        timestamp_ms: *timestamp_ms,
        key: key.as_deref(),
        value: value.as_deref(),
        headers: &header_refs(headers),
    })
}

fn built(records: &[OwnedRecord], codec: Compression, (id, epoch, sequence): Producer) -> Bytes {
    let mut batch = BatchBuilder::new(0).leader_epoch(-1).compression(codec);
    batch = batch.producer(id, epoch, sequence);
    for (timestamp, key, value, headers) in records {
        let headers = header_refs(headers);
        batch = batch.record(*timestamp, key.as_deref(), value.as_deref(), &headers);
    }
    batch.build().unwrap()
}

type Producer = (i64, i16, i32);

proptest! {
    #[test]
    fn batches_are_those_of_the_builder_and_are_read_back(
        groups in vec(vec(owned_record(), 1..8), 1..4),
        codec in prop::sample::select(Compression::ALL.to_vec()),
        producer: Producer,
        restamped: Producer,
    ) {
        let mut encoder = BatchEncoder::new(1 << 20);
        for records in groups {
            for record in &records {
                prop_assert_eq!(append(&mut encoder, record), Fit::Appended);
            }
            let length = encoder.bytes_len();
            let mut batch = encoder.finish(codec).unwrap();
            prop_assert_eq!(usize::try_from(batch.record_count()).unwrap(), records.len());
            prop_assert_eq!(batch.uncompressed_bytes(), length);
            for (id, epoch, sequence) in [producer, restamped] {
                let bytes = batch.stamped(id, epoch, sequence);
                prop_assert_eq!(&bytes, &built(&records, codec, (id, epoch, sequence)));
                prop_assert_eq!(batch.encoded_bytes(), bytes.len());
                let raw = batches(bytes).next().unwrap();
                let read = raw.open(1 << 20).unwrap();
                prop_assert_eq!(read.records().flatten().count(), records.len());
            }
        }
        prop_assert!(encoder.is_empty());
    }

    #[test]
    fn the_limit_is_exact_for_any_record(record in owned_record(), more in owned_record()) {
        let exact = {
            let mut encoder = BatchEncoder::new(usize::MAX);
            prop_assert_eq!(append(&mut encoder, &record), Fit::Appended);
            let first = encoder.bytes_len();
            prop_assert_eq!(append(&mut encoder, &more), Fit::Appended);
            (first, encoder.bytes_len())
        };
        let mut encoder = BatchEncoder::new(exact.0 - 1);
        prop_assert_eq!(append(&mut encoder, &record), Fit::TooLarge);
        prop_assert!(encoder.is_empty());

        let mut encoder = BatchEncoder::new(exact.1);
        prop_assert_eq!(append(&mut encoder, &record), Fit::Appended);
        prop_assert_eq!(append(&mut encoder, &more), Fit::Appended);

        let mut encoder = BatchEncoder::new(exact.1 - 1);
        prop_assert_eq!(append(&mut encoder, &record), Fit::Appended);
        prop_assert_ne!(append(&mut encoder, &more), Fit::Appended);
        prop_assert_eq!(encoder.bytes_len(), exact.0);
    }
}

#[test]
fn a_full_batch_differs_from_a_record_that_fits_in_none() {
    let mut encoder = BatchEncoder::new(100);
    assert_eq!(encoder.append(&VALUE), Fit::Appended);
    assert_eq!(encoder.append(&NewRecord { key: Some(&[0; 20]), ..VALUE }), Fit::Full);
    assert_eq!(encoder.append(&NewRecord { key: Some(&[0; 90]), ..VALUE }), Fit::TooLarge);
    assert_eq!(encoder.finish(Compression::None).unwrap().record_count(), 1);
}

#[test]
fn the_same_stamp_gives_the_very_same_bytes() {
    let mut batch = one();
    let first = batch.stamped(7, 0, 0);
    let again = batch.stamped(7, 0, 0);
    assert_eq!(first, again);
    assert_eq!(first.as_ptr(), again.as_ptr());
}

#[test]
fn stamping_copies_only_bytes_that_are_still_in_use() {
    let mut batch = one();
    let address = batch.bytes.as_ptr();
    let first = batch.stamped(7, 0, 0);
    assert_eq!(first.as_ptr(), address);
    let kept = first.to_vec();
    let second = batch.stamped(7, 1, 0);
    assert_ne!(second.as_ptr(), address);
    assert_eq!(first, kept);

    let address = second.as_ptr();
    drop(second);
    assert_eq!(batch.stamped(7, 2, 0).as_ptr(), address);
}

#[test]
fn a_buffer_is_used_again() {
    let mut encoder = BatchEncoder::with_capacity(1 << 10, 1 << 10);
    assert_eq!(encoder.append(&VALUE), Fit::Appended);
    let mut batch = encoder.finish(Compression::None).unwrap();
    let sent = batch.stamped(7, 0, 0);
    let address = sent.as_ptr();
    drop(sent);
    let buffer = batch.into_buffer();
    assert!(buffer.capacity() == 1 << 10);
    let mut encoder = BatchEncoder::with_buffer(1 << 10, buffer);
    assert_eq!(encoder.append(&VALUE), Fit::Appended);
    let mut batch = encoder.finish(Compression::None).unwrap();
    assert_eq!(batch.stamped(7, 0, 1).as_ptr(), address);

    let in_use = batch.stamped(7, 0, 1);
    assert_eq!(batch.into_buffer().capacity(), 0);
    assert_eq!(in_use.as_ptr(), address);
}

#[test]
fn compression_leaves_the_buffer_with_the_encoder() {
    let mut encoder = BatchEncoder::with_capacity(1 << 10, 1 << 10);
    let address = encoder.bytes.as_ptr();
    assert_eq!(encoder.append(&VALUE), Fit::Appended);
    let batch = encoder.finish(Compression::Lz4).unwrap();
    assert!(batch.encoded_bytes() > HEADER_BYTES);
    assert_eq!(encoder.append(&VALUE), Fit::Appended);
    assert_eq!(encoder.bytes.as_ptr(), address);
}

fn one() -> EncodedBatch {
    let mut encoder = BatchEncoder::new(1 << 10);
    assert_eq!(encoder.append(&VALUE), Fit::Appended);
    encoder.finish(Compression::None).unwrap()
}
