use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

type OwnedHeaders = Vec<(Vec<u8>, Option<Vec<u8>>)>;
type OwnedRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, OwnedHeaders, u32);

fn owned_record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = || vec(any::<u8>(), 0..90);
    let headers = vec((vec(any::<u8>(), 0..5), option::of(bytes())), 0..4);
    (any::<i64>(), option::of(bytes()), option::of(bytes()), headers, 0_u32..3)
}

fn build(base_offset: i64, records: &[OwnedRecord], codec: Compression) -> Bytes {
    let mut batch = BatchBuilder::new(base_offset).compression(codec);
    for (timestamp, key, value, headers, gap) in records {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
        batch = batch.skip_offsets(*gap);
        batch = batch.record(*timestamp, key.as_deref(), value.as_deref(), &headers);
    }
    batch.build().unwrap()
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

/// Reads all bytes and checks the properties that hold for any input.
fn walk(bytes: Bytes) -> Result<(), TestCaseError> {
    let length = bytes.len();
    let mut aborted = AbortedTransactions::new([(1, 0)]);
    let mut yielded = 0;
    let mut split = batches(bytes);
    for raw in split.by_ref() {
        yielded += raw.bytes().len();
        let Ok(batch) = raw.open(1 << 16) else {
            continue;
        };
        aborted.delivers(&batch);
        let mut lowest = batch.header().base_offset;
        for item in batch.records() {
            let (first, last) = match item {
                Ok(record) => {
                    prop_assert_eq!(record.headers.iter().count(), record.headers.len());
                    (record.offset, record.offset)
                }
                Err(range) => (range.first_offset, range.last_offset),
            };
            prop_assert!((lowest <= first) && (first <= last));
            prop_assert!(last < raw.next_offset());
            lowest = last + 1;
        }
    }
    prop_assert_eq!(yielded + split.unread_bytes(), length);
    Ok(())
}

proptest! {
    #[test]
    fn any_records_are_read_as_they_were_written(
        base_offset in 0..i64::MAX / 2,
        records in vec(owned_record(), 0..12),
        codec in codec(),
    ) {
        let batch = open_one(build(base_offset, &records, codec));
        let mut offset = base_offset;
        let mut read = batch.records();
        for (timestamp, key, value, headers, gap) in &records {
            offset += i64::from(*gap);
            let record = read.next().unwrap().unwrap();
            prop_assert_eq!(record.offset, offset);
            prop_assert_eq!(record.timestamp_ms, *timestamp);
            prop_assert_eq!(record.key, key.as_deref());
            prop_assert_eq!(record.value, value.as_deref());
            let of_record: OwnedHeaders = record.headers.iter()
                .map(|header| (header.name.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect();
            prop_assert_eq!(&of_record, headers);
            offset += 1;
        }
        prop_assert!(read.next().is_none());
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..400)) {
        walk(bytes.into())?;
    }

    #[test]
    fn damaged_batches_with_a_matching_checksum_do_not_panic(
        records in vec(owned_record(), 1..6),
        codec in codec(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = build(3, &records, codec).to_vec();
        for (at, to) in changes {
            let at = ATTRIBUTES_AT + at.index(bytes.len() - ATTRIBUTES_AT);
            bytes[at] = to;
        }
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        walk(bytes.into())?;
    }

    #[test]
    fn damaged_records_hide_no_readable_record(
        bodies in vec(prop_oneof![
            vec(any::<u8>(), 0..12).prop_map(Some),
            Just(None),
        ], 1..10),
    ) {
        let mut batch = BatchBuilder::new(100);
        for body in &bodies {
            batch = match body {
                Some(body) => batch.raw_record(body),
                None => batch.record(0, None, Some(b"good"), &[]),
            };
        }
        let items = items(batch);
        prop_assert_eq!(items.len(), bodies.len());
        for (offset, (item, body)) in (100..).zip(items.into_iter().zip(&bodies)) {
            if body.is_none() {
                prop_assert_eq!(item, record(offset, b"good"));
            }
        }
    }
}
