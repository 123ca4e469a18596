//! Reads log segments that a real broker wrote (see `data/README.md`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use bytes::Bytes;
use kafka_core::compression::Compression;
use kafka_core::record_batch::{AbortedTransactions, RawBatch, RecordBatch, batches};

const UNPACKED_BYTES_MAX: usize = 1 << 20;
const CLIENTS: [&str; 2] = ["java", "librdkafka"];

#[test]
fn records_of_both_clients_in_all_codecs_come_out_as_they_were_sent() {
    for client in CLIENTS {
        for codec in Compression::ALL {
            let segment = segment(&format!("{client}-{codec}.log"));
            let mut sent = 0..;
            for raw in &segment {
                assert_eq!(raw.header().compression(), Ok(codec), "{client} {codec}");
                for record in open(raw).records() {
                    let (record, i) = (record.unwrap(), sent.next().unwrap());
                    assert_eq!(record.offset, i);
                    let shift = if i % 2 == 0 { i * 1_000 } else { -i };
                    assert_eq!(record.timestamp_ms, 1_700_000_000_000 + shift);
                    let key = (i % 5 != 0).then(|| format!("key-{}", i % 4));
                    assert_eq!(record.key, key.as_deref().map(str::as_bytes));
                    let value = (i % 7 != 3).then(|| format!("value {i} ").repeat(8));
                    assert_eq!(record.value, value.as_deref().map(str::as_bytes));
                    let headers: Vec<_> =
                        record.headers.iter().map(|header| (header.name, header.value)).collect();
                    assert_eq!(headers, headers_sent(i).iter().map(borrowed).collect::<Vec<_>>());
                }
            }
            assert_eq!((segment.len(), sent.start), (2, 40), "{client} {codec}");
        }
    }
}

#[test]
fn the_console_consumers_read_committed_view_is_ours() {
    for client in CLIENTS {
        let segment = segment(&format!("{client}-transactions.log"));
        let mut aborted = AbortedTransactions::new(aborted_transactions(client));
        let delivered: Vec<i64> = segment
            .iter()
            .map(open)
            .filter(|batch| aborted.delivers(batch))
            .flat_map(|batch| {
                batch.records().map(|record| record.unwrap().offset).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(delivered, [3, 4, 5, 11, 12, 13, 23, 24, 25], "{client}");
        assert_eq!(segment.last().unwrap().next_offset(), 27);
    }
}

#[test]
fn append_time_replaces_the_producers_timestamps() {
    let [raw] = &segment("append-time.log")[..] else { panic!("one batch") };
    let times: Vec<_> = open(raw).records().map(|record| record.unwrap().timestamp_ms).collect();
    assert_eq!(times, [raw.header().max_timestamp_ms; 3]);
    assert!(1_700_000_000_000 < times[0], "the producer said 1000 to 1002");
}

#[test]
fn compacted_batches_keep_their_offsets_and_an_empty_one_advances() {
    let segment = segment("compacted.log");
    let read: Vec<(i64, Vec<i64>)> = segment
        .iter()
        .map(|raw| {
            let offsets = open(raw).records().map(|record| record.unwrap().offset).collect();
            (raw.next_offset(), offsets)
        })
        .collect();
    let expected = [(6, vec![3, 4, 5]), (8, vec![]), (12, vec![8, 9, 11]), (13, vec![12])];
    assert_eq!(read, expected);
}

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

fn headers_sent(i: i64) -> Vec<OwnedHeader> {
    if i % 2 != 0 {
        return Vec::new();
    }
    vec![
        (b"trace".to_vec(), Some(format!("t-{i}").into_bytes())),
        (b"trace".to_vec(), None),
        (Vec::new(), Some(Vec::new())),
        (b"binary".to_vec(), Some(vec![0, 255, u8::try_from(i).unwrap()])),
        (b"trace".to_vec(), Some(format!("u-{i}").into_bytes())),
    ]
}

fn borrowed((name, value): &OwnedHeader) -> (&[u8], Option<&[u8]>) {
    (name, value.as_deref())
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)).unwrap()
}

fn segment(file: &str) -> Vec<RawBatch> {
    let mut split = batches(Bytes::from(read(file)));
    let all = split.by_ref().collect();
    assert_eq!(split.unread_bytes(), 0, "{file}");
    all
}

fn open(raw: &RawBatch) -> RecordBatch {
    raw.open(UNPACKED_BYTES_MAX).unwrap()
}

/// Returns producer id and first offset of each entry of the broker's index.
fn aborted_transactions(client: &str) -> Vec<(i64, i64)> {
    let index = read(&format!("{client}-transactions.txnindex"));
    let number = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().unwrap());
    let (entries, rest) = index.as_chunks::<34>();
    assert!((entries.len() == 3) && rest.is_empty());
    entries.iter().map(|entry| (number(&entry[2..10]), number(&entry[10..18]))).collect()
}
