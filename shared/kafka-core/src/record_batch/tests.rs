mod properties;

use bytes::Bytes;

use super::raw::{ATTRIBUTES_AT, CRC_AT};
use super::*;
use crate::compression::Compression;

const MAX: usize = 1 << 20;
/// An owned item of a batch: offset and value of a record, or offsets and bytes of an undecodable range.
#[derive(Debug, PartialEq)]
enum Item {
    Record(i64, Option<Vec<u8>>),
    Range(i64, i64, Vec<u8>, RecordFault),
}

fn open_one(bytes: Bytes) -> RecordBatch {
    batches(bytes).next().unwrap().open(MAX).unwrap()
}

fn items(batch: BatchBuilder) -> Vec<Item> {
    open_one(batch.build().unwrap()).records().map(Item::from).collect()
}

impl From<Result<Record<'_>, UndecodableRecord<'_>>> for Item {
    fn from(item: Result<Record<'_>, UndecodableRecord<'_>>) -> Self {
        match item {
            Ok(record) => Self::Record(record.offset, record.value.map(<[u8]>::to_vec)),
            Err(range) => {
                let raw = range.raw.to_vec();
                Self::Range(range.first_offset, range.last_offset, raw, range.fault)
            }
        }
    }
}

fn record(offset: i64, value: &[u8]) -> Item {
    Item::Record(offset, Some(value.to_vec()))
}

fn three(base_offset: i64) -> BatchBuilder {
    BatchBuilder::new(base_offset)
        .record(1_000, Some(b"k"), Some(b"a"), &[])
        .record(1_005, None, Some(b"b"), &[(b"h", Some(b"1")), (b"h", None), (b"\xff", Some(b""))])
        .record(990, Some(b""), None, &[])
}

mod splitting {
    use super::*;

    #[test]
    fn a_tail_that_was_cut_off_is_not_yielded_at_any_length() {
        let whole = three(7).build().unwrap();
        let two = [&whole[..], &three(10).build().unwrap()].concat();
        for length in whole.len()..two.len() {
            let mut split = batches(Bytes::copy_from_slice(&two[..length]));
            assert_eq!(split.next().unwrap().next_offset(), 10);
            assert!(split.next().is_none());
            assert_eq!(split.unread_bytes(), length - whole.len());
        }
        assert_eq!(batches(two.into()).map(|raw| raw.next_offset()).collect::<Vec<_>>(), [10, 13]);
    }

    #[test]
    fn a_batch_shares_the_memory_of_the_response() {
        let response = three(7).build().unwrap();
        let raw = batches(response.clone()).next().unwrap();
        assert_eq!(raw.bytes().as_ptr(), response.as_ptr());
        let batch = raw.open(0).unwrap();
        let key = batch.records().next().unwrap().unwrap().key.unwrap();
        assert!(response.as_ptr_range().contains(&key.as_ptr()));
    }

    #[test]
    fn an_impossible_length_makes_the_rest_one_malformed_batch() {
        for length in [i32::MIN, -1, 0, 13] {
            let mut bytes = three(7).build().unwrap().to_vec();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            let all: Vec<_> = batches(bytes.clone().into()).collect();
            let [raw] = &all[..] else { panic!("{all:?}") };
            assert_eq!(raw.bytes(), &bytes);
            assert_eq!(raw.header().base_offset, 7);
            raw.open(MAX).unwrap_err();
        }
    }
}

mod opening {
    use super::*;

    fn kind(bytes: Vec<u8>) -> &'static str {
        batches(bytes.into()).next().unwrap().open(MAX).unwrap_err().kind.as_str()
    }

    fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    #[test]
    fn a_flipped_bit_anywhere_under_the_checksum_is_found() {
        let bytes = three(7).build().unwrap().to_vec();
        for at in CRC_AT..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            // A last offset or count that contradicts itself is found before the checksum is verified.
            assert!(["crc", "malformed"].contains(&kind(damaged)), "byte {at}");
        }
    }

    #[test]
    fn the_base_offset_and_leader_epoch_are_the_brokers_to_set() {
        let mut bytes = three(7).leader_epoch(3).build().unwrap().to_vec();
        bytes[..8].copy_from_slice(&1_000_i64.to_be_bytes());
        bytes[12..16].copy_from_slice(&9_i32.to_be_bytes());
        let batch = open_one(bytes.into());
        assert_eq!((batch.header().leader_epoch, batch.header().next_offset()), (9, 1_003));
        assert_eq!(batch.records().next().unwrap().unwrap().offset, 1_000);
    }

    #[test]
    fn each_fault_has_its_label() {
        let bytes = three(7).build().unwrap().to_vec();

        let mut unknown = bytes.clone();
        unknown[22] |= 7;
        assert_eq!(kind(with_checksum(unknown)), "unknown-compression");

        let mut not_gzip = bytes.clone();
        not_gzip[22] |= 1;
        assert_eq!(kind(with_checksum(not_gzip)), "decompression");

        assert_eq!(kind(three(7).declare_records(-1).build().unwrap().to_vec()), "malformed");

        let mut backwards = bytes.clone();
        backwards[23..27].copy_from_slice(&(-2_i32).to_be_bytes());
        assert_eq!(kind(with_checksum(backwards)), "malformed");

        for base_offset in [i64::MIN, -1, i64::MAX - 2, i64::MAX] {
            let mut impossible = bytes.clone();
            impossible[..8].copy_from_slice(&base_offset.to_be_bytes());
            assert_eq!(kind(impossible), "malformed");
        }

        let mut future = bytes;
        future[16] = 3;
        assert_eq!(kind(future), "magic");
    }

    #[test]
    fn an_error_names_the_offsets_and_its_cause() {
        let mut bytes = three(7).build().unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let raw = batches(bytes.into()).next().unwrap();
        let error = raw.open(MAX).unwrap_err();
        assert_eq!((error.base_offset, error.last_offset, raw.next_offset()), (7, 9, 10));
        assert_eq!(error.to_string(), "the batch of offsets 7 to 9 cannot be read");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "wrong checksum");
    }

    #[test]
    fn records_that_decompress_to_more_than_allowed_are_an_error() {
        for codec in Compression::ALL {
            let batch = BatchBuilder::new(0).record(0, None, Some(&[0; 10_000]), &[]);
            let raw = batches(batch.compression(codec).build().unwrap()).next().unwrap();
            assert_eq!(raw.open(20_000).unwrap().records().count(), 1, "{codec:?}");
            let opened = raw.open(9_000);
            assert_eq!(opened.is_ok(), codec == Compression::None, "{codec:?}");
        }
    }

    /// Message formats 0 and 1: offset, size, CRC-32, magic, attributes, timestamp in format 1, key, value.
    #[test]
    fn messages_of_the_old_formats_are_reported_with_their_offset_and_skipped() {
        for magic in [0_u8, 1] {
            let timestamp: &[u8] = if magic == 1 { &[0; 8] } else { &[] };
            let fields =
                [&[0; 4], &[magic, 0][..], timestamp, &[255; 4], &[0, 0, 0, 1, b'v']].concat();
            let size = u32::try_from(fields.len()).unwrap().to_be_bytes();
            let message = [&41_i64.to_be_bytes()[..], &size, &fields].concat();
            let response = [&message[..], &three(42).build().unwrap()].concat();
            let all: Vec<_> = batches(response.into()).collect();
            assert_eq!(all[0].open(MAX).unwrap_err().kind.as_str(), "magic");
            assert_eq!((all[0].header().magic.cast_unsigned(), all[0].next_offset()), (magic, 42));
            assert_eq!(all[1].open(MAX).unwrap().records().count(), 3);
        }
    }
}

mod reading {
    use super::*;

    #[test]
    fn keys_values_timestamps_and_headers_are_read_as_they_were_written() {
        for codec in Compression::ALL {
            let batch = open_one(three(7).compression(codec).build().unwrap());
            let records: Vec<_> = batch.records().map(Result::unwrap).collect();
            let [a, b, c] = records[..] else { panic!("{records:?}") };
            assert_eq!(
                (a.offset, a.timestamp_ms, a.key, a.value),
                (7, 1_000, Some(&b"k"[..]), Some(&b"a"[..]))
            );
            assert!(a.headers.is_empty());
            assert_eq!((b.offset, b.timestamp_ms, b.key), (8, 1_005, None));
            assert_eq!((c.offset, c.timestamp_ms, c.key, c.value), (9, 990, Some(&b""[..]), None));
            let headers: Vec<_> =
                b.headers.iter().map(|header| (header.name, header.value)).collect();
            let expected: [(&[u8], Option<&[u8]>); 3] =
                [(b"h", Some(b"1")), (b"h", None), (b"\xff", Some(b""))];
            assert_eq!(headers, expected);
            assert_eq!(b.headers.last(b"h").unwrap().value, None);
            assert_eq!(b.headers.last(b"g"), None);
            assert_eq!(batch.header().max_timestamp_ms, 1_005);
        }
    }

    #[test]
    fn a_topic_with_append_time_gives_all_records_the_brokers_time() {
        let batch = BatchBuilder::new(0).log_append_time(5_000).record(1, None, None, &[]);
        let batch = open_one(batch.record(9, None, None, &[]).build().unwrap());
        let times: Vec<_> = batch.records().map(|record| record.unwrap().timestamp_ms).collect();
        assert_eq!(times, [5_000, 5_000]);
    }

    #[test]
    fn gaps_of_compaction_are_kept_and_a_batch_without_records_still_advances() {
        let batch = BatchBuilder::new(10)
            .skip_offsets(2)
            .record(0, None, Some(b"a"), &[])
            .skip_offsets(3)
            .record(0, None, Some(b"b"), &[])
            .skip_offsets(4);
        assert_eq!(
            batch.clone().build().map(|bytes| open_one(bytes).header().next_offset()).unwrap(),
            21
        );
        assert_eq!(items(batch), [record(12, b"a"), record(16, b"b")]);

        let empty = BatchBuilder::new(10).skip_offsets(5);
        let raw = batches(empty.clone().build().unwrap()).next().unwrap();
        assert_eq!(raw.next_offset(), 15);
        assert_eq!(items(empty), []);
    }

    #[test]
    fn a_position_inside_a_batch_skips_the_records_below_it() {
        let batch = BatchBuilder::new(10)
            .record(0, None, Some(b"a"), &[])
            .raw_record(b"\0")
            .skip_offsets(2)
            .record(0, None, Some(b"b"), &[]);
        let batch = open_one(batch.build().unwrap());
        let counts = (9..=16).map(|position| batch.records_from(position).count());
        assert_eq!(counts.collect::<Vec<_>>(), [3, 3, 2, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn a_walk_resumes_at_each_of_its_positions() {
        let batch = BatchBuilder::new(10)
            .record(0, None, Some(b"a"), &[])
            .raw_record(b"\0")
            .skip_offsets(2)
            .record(0, None, Some(b"b"), &[])
            .raw_bytes(b"\xfe\xff")
            .skip_offsets(2);
        let batch = open_one(batch.build().unwrap());
        let all: Vec<_> = batch.records().collect();
        assert_eq!(all.len(), 4);
        let mut records = batch.records();
        for read in 0..=all.len() {
            let resumed: Vec<_> = batch.records_at(records.position()).collect();
            assert_eq!(resumed, all[read..], "after {read}");
            records.next();
        }
    }
}

mod undecodable {
    use super::*;

    #[test]
    fn one_bad_record_does_not_hide_the_others() {
        for codec in Compression::ALL {
            let batch = BatchBuilder::new(5)
                .compression(codec)
                .record(0, None, Some(b"a"), &[])
                .raw_record(b"\0\0\x02\x7fgarbage")
                .record(0, None, Some(b"b"), &[]);
            let range = Item::Range(6, 6, b"\0\0\x02\x7fgarbage".to_vec(), RecordFault::Fields);
            assert_eq!(items(batch), [record(5, b"a"), range, record(7, b"b")]);
        }
    }

    /// Bodies are attributes, timestamp, offset (as zigzag: 2 is 1), key, value, headers.
    #[test]
    fn every_malformed_field_is_found() {
        let wrong: [(&[u8], RecordFault); 9] = [
            (b"", RecordFault::Fields),
            (b"\0\0", RecordFault::Fields),
            (b"\0\0\x02\x01\x01", RecordFault::Fields),
            (b"\0\0\x02\x01\x01\0!", RecordFault::Fields),
            (b"\0\0\x02\x01\x01\x01", RecordFault::Fields),
            (b"\0\0\x02\x01\x01\x02\x01\x01", RecordFault::Fields),
            (b"\0\0\x02\x01\x01\xfe\xff\xff\xff\x0f", RecordFault::Fields),
            (b"\0\0\0\x01\x01\0", RecordFault::Offset),
            (b"\0\0\x08\x01\x01\0", RecordFault::Offset),
        ];
        for (body, fault) in wrong {
            let batch = BatchBuilder::new(5)
                .record(0, None, Some(b"a"), &[])
                .raw_record(body)
                .record(0, None, Some(b"b"), &[]);
            let range = Item::Range(6, 6, body.to_vec(), fault);
            assert_eq!(items(batch), [record(5, b"a"), range, record(7, b"b")], "{body:?}");
        }
    }

    #[test]
    fn a_range_of_a_compacted_batch_has_its_stated_offset_if_that_is_possible() {
        let compacted = |body: &[u8]| {
            let batch = BatchBuilder::new(0).raw_record(body).skip_offsets(8);
            items(batch.record(0, None, Some(b"b"), &[]))
        };
        for (delta, offset) in [(0, 0), (8, 4), (16, 8), (18, 0), (7, 0)] {
            let body = [0, 0, delta, 0x7f];
            let range = Item::Range(offset, offset, body.to_vec(), RecordFault::Fields);
            assert_eq!(compacted(&body), [range, record(9, b"b")], "{delta}");
        }
    }

    #[test]
    fn broken_framing_makes_the_rest_of_the_batch_one_range() {
        for length in [&b"\x01"[..], b"\xfe\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x80\x80", b"\x7e"]
        {
            let batch = BatchBuilder::new(5)
                .record(0, None, Some(b"a"), &[])
                .raw_bytes(length)
                .skip_offsets(3)
                .declare_records(4);
            let range = Item::Range(6, 8, length.to_vec(), RecordFault::Length);
            assert_eq!(items(batch), [record(5, b"a"), range]);
        }
    }

    #[test]
    fn declared_records_that_are_missing_are_one_range() {
        for declared in [2, i32::MAX] {
            let batch = BatchBuilder::new(5).record(0, None, Some(b"a"), &[]);
            let batch = batch.skip_offsets(2).declare_records(declared);
            let range = Item::Range(6, 7, Vec::new(), RecordFault::Missing);
            assert_eq!(items(batch), [record(5, b"a"), range]);
        }
    }

    #[test]
    fn a_range_without_an_offset_is_left_out() {
        let batch = BatchBuilder::new(5).record(0, None, Some(b"a"), &[]);
        let batch = batch.raw_bytes(b"\x04\0\0").declare_records(3);
        assert_eq!(items(batch), [record(5, b"a")]);
    }

    #[test]
    fn surplus_bytes_are_one_range_while_offsets_are_left() {
        let batch = BatchBuilder::new(5).record(0, None, Some(b"a"), &[]).raw_bytes(b"more");
        let range = Item::Range(6, 7, b"more".to_vec(), RecordFault::Surplus);
        assert_eq!(items(batch.clone().skip_offsets(2)), [record(5, b"a"), range]);
        assert_eq!(items(batch), [record(5, b"a")]);
    }
}

mod transactions {
    use super::*;

    fn data(base_offset: i64, producer: i64) -> Bytes {
        let batch = BatchBuilder::new(base_offset).transaction(producer, 0, 0);
        batch.record(0, None, None, &[]).build().unwrap()
    }

    fn marker(offset: i64, producer: i64, marker: ControlMarker) -> Bytes {
        BatchBuilder::marker(offset, producer, 0, marker).unwrap()
    }

    /// Returns the base offsets of the batches that are delivered.
    fn delivered(log: &[Bytes], listed: &[(i64, i64)]) -> Vec<i64> {
        let mut aborted = AbortedTransactions::new(listed.iter().copied());
        batches(log.concat().into())
            .map(|raw| raw.open(MAX).unwrap())
            .filter(|batch| aborted.delivers(batch))
            .map(|batch| batch.header().base_offset)
            .collect()
    }

    #[test]
    fn only_the_aborted_transaction_of_a_producer_is_left_out() {
        let log = [
            data(0, 1),
            marker(1, 1, ControlMarker::Commit),
            data(2, 1),
            data(3, 2),
            data(4, 1),
            marker(5, 1, ControlMarker::Abort),
            data(6, 1),
            marker(7, 2, ControlMarker::Commit),
            marker(8, 1, ControlMarker::Commit),
        ];
        assert_eq!(delivered(&log, &[(1, 2)]), [0, 3, 6]);
        assert_eq!(delivered(&log, &[]), [0, 2, 3, 4, 6]);
    }

    #[test]
    fn transactions_that_began_before_the_response_and_repeat_count_too() {
        let log = [
            data(10, 1),
            marker(11, 1, ControlMarker::Abort),
            data(12, 1),
            marker(13, 1, ControlMarker::Abort),
            data(14, 1),
        ];
        assert_eq!(delivered(&log, &[(1, 12), (1, 3)]), [14]);
        assert_eq!(delivered(&log, &[(1, 3)]), [12, 14]);
    }

    #[test]
    fn batches_of_the_same_producer_outside_transactions_and_of_none_are_delivered() {
        let idempotent = BatchBuilder::new(0).producer(1, 0, 0).record(0, None, None, &[]);
        let plain = BatchBuilder::new(1).record(0, None, None, &[]);
        let log = [idempotent.build().unwrap(), plain.build().unwrap(), data(2, 1)];
        assert_eq!(delivered(&log, &[(1, 0)]), [0, 1]);
    }

    #[test]
    fn only_an_abort_marker_ends_an_aborted_transaction() {
        let markers = [ControlMarker::Commit, ControlMarker::Other(7)];
        let log =
            [&markers[..], &[ControlMarker::Abort]].concat().into_iter().zip((0..).step_by(2));
        let log = log.flat_map(|(kind, offset)| [marker(offset, 1, kind), data(offset + 1, 1)]);
        assert_eq!(delivered(&log.collect::<Vec<_>>(), &[(1, 0)]), [5]);
    }

    #[test]
    fn control_batches_of_no_producer_are_not_delivered() {
        let of_the_quorum = marker(0, -1, ControlMarker::Other(2));
        assert_eq!(delivered(&[of_the_quorum, data(1, 1)], &[]), [1]);
    }

    #[test]
    fn a_transaction_that_begins_inside_a_batch_counts_for_it() {
        let batch = BatchBuilder::new(0).transaction(1, 0, 0).skip_offsets(4);
        assert_eq!(delivered(&[batch.build().unwrap()], &[(1, 3)]), Vec::<i64>::new());
    }

    #[test]
    fn control_records_have_their_type_and_others_have_none() {
        for kind in [ControlMarker::Abort, ControlMarker::Commit, ControlMarker::Other(4)] {
            assert_eq!(open_one(marker(0, 1, kind)).marker(), Some(kind));
        }
        let short = BatchBuilder::new(0).record(0, Some(b"\0\0\0"), None, &[]);
        assert_eq!(open_one(short.build().unwrap()).marker(), None);
        assert_eq!(open_one(BatchBuilder::new(0).build().unwrap()).marker(), None);
    }
}
