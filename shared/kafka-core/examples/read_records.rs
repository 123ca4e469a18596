//! Measures reading a fetch response: records per second and nanoseconds a record, on one core.
//!
//! `cargo run --release -p kafka-core --example read_records`

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a measurement prints, looks at the clock and divides"
)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use kafka_core::compression::Compression;
use kafka_core::record_batch::{AbortedTransactions, BatchBuilder, batches};

const RECORDS: i64 = 1_000_000;
const UNPACKED_BYTES_MAX: usize = 8 << 20;
const ROUNDS: u32 = 5;

#[derive(Clone, Copy)]
enum Use {
    /// Offset and lengths only.
    Walk,
    /// Also the values of both headers.
    Headers,
}

fn main() -> std::io::Result<()> {
    for (codec, per_batch) in [
        (Compression::None, 8_000),
        (Compression::None, 100),
        (Compression::None, 1),
        (Compression::Gzip, 8_000),
        (Compression::Snappy, 8_000),
        (Compression::Lz4, 8_000),
        (Compression::Zstd, 8_000),
    ] {
        let response = response(codec, per_batch)?;
        for (what, how) in [("walk", Use::Walk), ("headers", Use::Headers)] {
            let mut best = f64::INFINITY;
            for _ in 0..ROUNDS {
                let start = Instant::now();
                assert_eq!(read(&response, how), RECORDS);
                best = best.min(start.elapsed().as_secs_f64());
            }
            println!(
                "{codec:?}, {per_batch} a batch, {what}: {:.1} million/s, {:.1} ns a record, {:.2} GB/s of {} bytes each",
                RECORDS as f64 / best / 1e6,
                best * 1e9 / RECORDS as f64,
                response.len() as f64 / best / 1e9,
                response.len() / 1_000_000,
            );
        }
    }
    Ok(())
}

fn read(response: &Bytes, how: Use) -> i64 {
    let mut count = 0;
    let mut position = 0;
    let mut aborted = AbortedTransactions::new([]);
    for raw in batches(response.clone()) {
        let Ok(batch) = raw.open(UNPACKED_BYTES_MAX) else {
            continue;
        };
        if aborted.delivers(&batch) {
            for record in batch.records_from(position).flatten() {
                black_box((record.offset, record.timestamp_ms, record.key, record.value));
                count += 1;
                if let Use::Headers = how {
                    for header in record.headers {
                        black_box((header.name, header.value));
                    }
                }
            }
        }
        position = raw.next_offset();
    }
    count
}

/// Records as the order generator writes them: an id as key, an Avro datum of about 60 bytes, two headers.
fn response(codec: Compression, per_batch: i64) -> std::io::Result<Bytes> {
    let mut response = Vec::new();
    for base_offset in (0..RECORDS).step_by(usize::try_from(per_batch).unwrap_or(1)) {
        let mut batch = BatchBuilder::new(base_offset).compression(codec);
        for offset in base_offset..(base_offset + per_batch).min(RECORDS) {
            let id = format!("{:08x}-1b5e-4a43-9c3e-{:012x}", offset * 7919, offset);
            let value =
                [b"\0\0\0\0\x01H", id.as_bytes(), b"\x18Mechanical K\x9a\x99\xb9\x42"].concat();
            let sequence = offset.to_string();
            let headers: [(&[u8], Option<&[u8]>); 2] = [
                (b"producer-id", Some(b"6c1f0a5fd3c2b7e1")),
                (b"sequence", Some(sequence.as_bytes())),
            ];
            let timestamp = 1_760_000_000_000 + offset / 100;
            batch = batch.record(timestamp, Some(id.as_bytes()), Some(&value), &headers);
        }
        response.extend_from_slice(&batch.build()?);
    }
    Ok(response.into())
}
