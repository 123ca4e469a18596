//! The memory of hostile values and schemas, in one test, which has the peak of the process for itself.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test ends where its premises do")]

use std::fs;

use apache_avro::{Codec, Schema, Writer, types::Record};
use order_avro::{ORDER_SCHEMA, PoisonKind, SCHEMA_BYTES_MAX, WriterSchema, decode_container};

const MIB: usize = 1024 * 1024;

#[test]
fn claimed_lengths_allocate_no_memory() {
    let file = bomb(64 * MIB);
    assert!(file.len() < 100_000, "{}", file.len());
    let before = peak();
    let error = decode_container(&file, MIB).expect_err("too much");
    assert_eq!(error.kind(), PoisonKind::Oversize);
    assert!(peak() - before < 4 * MIB, "a packed value took {} bytes", peak() - before);

    let fields = |count| {
        let fields = vec![r#"{"name":"x","type":["null","string"]}"#; count].join(",");
        format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
    };
    for schema in [
        fields(25_000),
        format!("[{}]", vec!["[]"; 300_000].join(",")),
        format!("[{}]", vec![r#""int""#; 140_000].join(",")),
        format!("[{}]", vec![r#"{"type":"int"}"#; 65_000].join(",")),
        format!(
            r#"["int",{}"int"]"#,
            r#"{"type":"int","default":[[]],"doc":{"":0}},"#.repeat(20_000)
        ),
    ] {
        assert!((SCHEMA_BYTES_MAX * 3 / 4..=SCHEMA_BYTES_MAX).contains(&schema.len()));
        let before = peak();
        let parsed = WriterSchema::parse(&schema).expect("a schema");
        let took = peak() - before;
        assert!(took < 32 * MIB, "{}… took {took} bytes", &schema[..60]);
        assert!(parsed.bytes() < 2 * MIB, "{}… keeps {} bytes", &schema[..60], parsed.bytes());
    }

    let schema = fields(106_895);
    let before = peak();
    let error = WriterSchema::parse(&schema).expect_err("too much");
    let bytes = schema.len();
    let expected =
        format!("the text is not an Avro schema: it has {bytes} bytes, and 1048576 are read");
    assert_eq!(error.to_string(), expected);
    assert!(peak() - before < MIB);
}

/// Returns a container file with a product of this length in bytes.
fn bomb(bytes: usize) -> Vec<u8> {
    let schema = Schema::parse_str(ORDER_SCHEMA).expect("a schema");
    let codec = Codec::Deflate(apache_avro::DeflateSettings::default());
    let mut writer = Writer::with_codec(&schema, Vec::new(), codec).expect("a writer");
    let mut order = Record::new(&schema).expect("a record");
    order.put("orderId", "1");
    order.put("product", "a".repeat(bytes));
    order.put("price", 1.0_f32);
    writer.append_value(order).expect("an order");
    let file = writer.into_inner().expect("a file");
    // Ignores the peak so far.
    fs::write("/proc/self/clear_refs", "5").expect("the process's own");
    file
}

/// Returns the largest amount of memory that the process has used, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("the process's own");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}
