use bytes::Bytes;
use fuzz::{Outcome, Target};
use kafka_core::compression::Compression;
use kafka_core::record_batch::{
    AbortedTransactions, BatchBuilder, ControlMarker, FetchedPartition, Record, RecordBatch,
    batches,
};

const UNPACKED_MAX: usize = 1 << 16;
/// The memory of a codec, independent of the input.
const CODEC_BYTES: usize = 12 << 20;
const ASKED: i64 = 100;
const HEADER_BYTES: usize = 61;

/// The result without its bytes.
#[derive(Debug)]
struct Read {
    next_offset: i64,
    whole: usize,
    damaged: Option<(i64, i64, String)>,
    is_unclear: bool,
    records: usize,
    faults: Vec<String>,
}

#[test]
fn record_batch() {
    let turn = fuzz::turn();
    let target = Target {
        name: "record_batch",
        executions: 5_000,
        seeds: seeds(),
        memory: |input| 16 * input.len() + 4 * UNPACKED_MAX + CODEC_BYTES,
        mend: Some(mend),
        decode: Box::new(read),
        check,
    };
    fuzz::run(&turn, target, crate::LEFT);
}

fn seeds() -> Vec<Vec<u8>> {
    let headers: &[(&[u8], Option<&[u8]>)] = &[(b"a", Some(b"1")), (b"a", None), (b"", Some(b""))];
    let batch = |base, codec| {
        BatchBuilder::new(base)
            .compression(codec)
            .record(1_700_000_000_000, Some(b"key"), Some(b"a value, a value, a value"), headers)
            .record(0, None, None, &[])
            .skip_offsets(2)
            .record(-1, Some(b""), Some(b""), &[])
    };
    let plain = batch(ASKED, Compression::None);
    let mut seeds = Vec::new();
    let mut all = Vec::new();
    for (base, codec) in (0..).zip(Compression::ALL) {
        seeds.push(batch(ASKED, codec).build().unwrap().to_vec());
        all.extend_from_slice(&batch(ASKED + 5 * base, codec).build().unwrap());
    }
    seeds.push(all);
    let aborted = batch(ASKED, Compression::None).transaction(1, 0, 7).build().unwrap();
    let marker = BatchBuilder::marker(ASKED + 5, 1, 0, ControlMarker::Abort).unwrap();
    let after = batch(ASKED + 6, Compression::None).transaction(1, 0, 10).build().unwrap();
    seeds.push([aborted, marker, after].concat());
    seeds.push(plain.clone().log_append_time(9).producer(4, 1, 2).build().unwrap().to_vec());
    seeds.push(plain.clone().raw_record(b"\0\0").build().unwrap().to_vec());
    seeds.push(plain.clone().declare_records(i32::MAX).build().unwrap().to_vec());
    seeds.push(plain.raw_bytes(b"more").build().unwrap().to_vec());
    seeds
        .push(BatchBuilder::new(i64::MAX - 3).record(0, None, None, &[]).build().unwrap().to_vec());
    // A message of format 1.
    seeds.push([&[0; 7][..], b"\x64\0\0\0\x16\0\0\0\0\x01\0", &[0; 8], &[255; 8]].concat());
    seeds
}

/// Corrects lengths and checksums, batch by batch.
fn mend(bytes: &mut [u8]) {
    let mut start = 0;
    while start + HEADER_BYTES <= bytes.len() {
        let length =
            bytes[start + 8..].first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
        let left = bytes.len() - start;
        let told = usize::try_from(length).unwrap().saturating_add(12);
        let total = if (HEADER_BYTES..=left).contains(&told) { told } else { left };
        let length = u32::try_from(total - 12).unwrap();
        bytes[start + 8..start + 12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[start + 21..start + total]);
        bytes[start + 17..start + 21].copy_from_slice(&crc.to_be_bytes());
        start += total;
    }
}

/// Reads the input as a fetch response to a request that depends on the input.
fn read(input: &[u8]) -> Read {
    let records = Bytes::copy_from_slice(input);
    let [a, b, c, d] = crc32c::crc32c(input).to_be_bytes();
    let position = ASKED + i64::from(a % 8);
    let end = if b % 4 == 0 { i64::MAX } else { position + i64::from(b % 64) };
    let aborted: &[(i64, i64)] = if c % 2 == 0 { &[(1, ASKED)] } else { &[] };
    let answer = FetchedPartition {
        records: records.clone(),
        asked: ASKED,
        position,
        end,
        is_full: d % 2 == 0,
        may_be_cut_off: d % 4 < 2,
        aborted,
    };
    let reading = answer.read();
    assert!(position <= reading.next_offset);
    let (mut at, mut last) = (0, i64::MIN);
    let (mut count, mut faults) = (0, Vec::new());
    let mut transactions = AbortedTransactions::new(aborted.iter().copied());
    for raw in &reading.batches {
        // Damage below the position may be skipped.
        let found =
            records[at..].windows(raw.bytes().len()).position(|part| part == &raw.bytes()[..]);
        at += found.expect("a batch of the answer") + raw.bytes().len();
        assert!(
            last < raw.header().base_offset.saturating_add(1)
                && raw.header().base_offset <= raw.header().last_offset
        );
        last = raw.next_offset();
        assert!(last <= reading.next_offset);
        match raw.open(UNPACKED_MAX) {
            Ok(batch) => {
                transactions.delivers(&batch);
                count += walk(&batch, position, &mut faults);
            }
            Err(error) => {
                assert_ne!(error.kind.as_str(), "crc");
                faults.push(error.kind.as_str().to_owned());
            }
        }
    }
    let damaged = reading.damaged.map(|damaged| {
        assert!(position <= damaged.first_offset && damaged.first_offset <= damaged.last_offset);
        assert!(!damaged.bytes.is_empty() && !reading.is_unclear);
        assert_eq!(reading.next_offset, damaged.next_offset());
        (damaged.first_offset, damaged.last_offset, damaged.fault.as_str().to_owned())
    });
    split(records);
    let (next_offset, is_unclear) = (reading.next_offset, reading.is_unclear);
    Read { next_offset, whole: reading.batches.len(), damaged, is_unclear, records: count, faults }
}

/// Reads the records, and returns the number of decodable ones.
fn walk(batch: &RecordBatch, position: i64, faults: &mut Vec<String>) -> usize {
    let header = batch.header();
    let mut lowest = header.base_offset;
    let mut good = Vec::new();
    for item in batch.records() {
        let (first, last) = match item {
            Ok(record) => {
                assert_eq!(record.headers.iter().count(), record.headers.len());
                good.push(record);
                (record.offset, record.offset)
            }
            Err(piece) => {
                faults.push(piece.fault.as_str().to_owned());
                (piece.first_offset, piece.last_offset)
            }
        };
        assert!(lowest <= first && first <= last && last <= header.last_offset);
        lowest = last + 1;
    }
    let later = batch.records_from(position).filter_map(Result::ok);
    assert!(later.eq(good.iter().copied().filter(|record| position <= record.offset)));
    rebuild(batch, &good);
    good.len()
}

/// Encodes the records again, and checks that they decode equally.
fn rebuild(batch: &RecordBatch, records: &[Record<'_>]) {
    let header = batch.header();
    let mut builder = BatchBuilder::new(header.base_offset);
    if header.is_log_append_time() {
        builder = builder.log_append_time(header.max_timestamp_ms);
    }
    let mut next = header.base_offset;
    for record in records {
        let headers: Vec<_> =
            record.headers.iter().map(|header| (header.name, header.value)).collect();
        builder = builder.skip_offsets(u32::try_from(record.offset - next).unwrap()).record(
            record.timestamp_ms,
            record.key,
            record.value,
            &headers,
        );
        next = record.offset + 1;
    }
    let raw = batches(builder.build().unwrap()).next().unwrap();
    let again = raw.open(UNPACKED_MAX).unwrap();
    assert!(again.records().map(Result::unwrap).eq(records.iter().copied()));
}

/// Splits the response without its checksums.
fn split(records: Bytes) {
    let length = records.len();
    let mut split = batches(records);
    let yielded: usize = split.by_ref().map(|raw| raw.bytes().len()).sum();
    assert_eq!(yielded + split.unread_bytes(), length);
}

fn check(_input: &[u8], read: &Read) -> Outcome {
    let Read { next_offset, whole, damaged, is_unclear, records, faults } = read;
    let damaged = damaged.as_ref().map(|(_, _, fault)| fault);
    let kind = format!(
        "{} {} {damaged:?} {is_unclear} {} {:?}",
        *next_offset > ASKED + 64,
        whole.min(&4),
        records.min(&4),
        &faults[..faults.len().min(2)]
    );
    Outcome { is_accepted: *whole > 0, kind }
}
