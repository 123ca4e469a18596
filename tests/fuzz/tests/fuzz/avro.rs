use std::iter;

use apache_avro::{Codec, Schema, Writer};
use fuzz::{Outcome, Target};
use order_avro::{
    DecodeError, ORDER_SCHEMA, Order, Payload, PayloadFormat, PoisonKind, SchemaId, WriterSchema,
    decode_container, decode_single_object, encode_bare, encode_confluent, encode_container,
    encode_single_object, recognise,
};

/// The most unpacked bytes of a container file.
const DATUM_BYTES_MAX: usize = 1 << 16;
/// The memory of a codec's decoder.
const CODEC_BYTES: usize = 128 << 10;
/// The longest error text in bytes: a quote of 300 characters and the text around it.
const TEXT_BYTES_MAX: usize = 2 * 300 * 4 + 300;

/// Schemas whose readable datums differ from ours in every way.
const SCHEMAS: [&str; 6] = [
    ORDER_SCHEMA,
    r#"{"type":"record","name":"R","fields":[
        {"name":"price","type":["null","double","long"]},
        {"name":"tags","type":{"type":"array","items":{"type":"map","values":"bytes"}}},
        {"name":"orderId","type":["string","null"]},
        {"name":"product","type":"bytes"}]}"#,
    r#"{"type":"record","name":"R","fields":[
        {"name":"n","type":["null",{"type":"record","name":"N","fields":[
            {"name":"next","type":["null","N"]},
            {"name":"id","type":{"type":"fixed","name":"F","size":16}}]}]},
        {"name":"orderId","type":"string"},{"name":"price","type":"int"},
        {"name":"product","type":"string"}]}"#,
    r#"{"type":"record","name":"R","fields":[
        {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},
        {"name":"b","type":"boolean"},{"name":"l","type":"long"},
        {"name":"product","type":"string"},{"name":"orderId","type":"string"},
        {"name":"price","type":"float"}]}"#,
    r#"{"type":"array","items":"int"}"#,
    r#"["null",{"type":"record","name":"order","fields":[
        {"name":"orderId","type":"string"},{"name":"product","type":"string","default":"x"},
        {"name":"price","type":{"type":"long","logicalType":"timestamp-millis"}}]}]"#,
];

#[test]
fn avro_payload() {
    let turn = fuzz::turn();
    let schemas = SCHEMAS.map(|text| WriterSchema::parse(text).unwrap());
    let target = Target {
        name: "avro_payload",
        executions: 20_000,
        seeds: payloads(),
        // A container file brings a schema.
        memory: |input| schema_memory(input) + 2 * DATUM_BYTES_MAX + CODEC_BYTES,
        mend: None,
        decode: Box::new(move |input| decode(&schemas, input)),
        check: |_, order| check(order),
    };
    fuzz::run(&turn, target, crate::LEFT);
}

#[test]
fn avro_schema() {
    let turn = fuzz::turn();
    let payloads = payloads();
    let seeds = (0_u8..).zip(SCHEMAS).flat_map(|(number, schema)| {
        let datums =
            payloads.iter().filter_map(move |value| value.strip_prefix(&[0, 0, 0, 0, number]));
        datums.map(move |datum| [schema.as_bytes(), b"\0", datum].concat())
    });
    let target = Target {
        name: "avro_schema",
        executions: 10_000,
        seeds: seeds.collect(),
        memory: schema_memory,
        mend: None,
        decode: Box::new(parse),
        check: |input, parsed| match parsed {
            Ok((bytes, order)) => {
                assert!(*bytes <= 4 * input.len() + 1024, "it keeps {bytes}");
                check(order)
            }
            Err(text) => {
                assert!(text.len() <= TEXT_BYTES_MAX, "{text}");
                Outcome::refused(crate::words(text))
            }
        },
    };
    fuzz::run(&turn, target, crate::LEFT);
}

/// The memory of parsing a schema.
fn schema_memory(input: &[u8]) -> usize {
    64 * input.len() + (16 << 10)
}

fn payloads() -> Vec<Vec<u8>> {
    let order = Order { order_id: "A-1001".into(), product: "Desk \u{fc}".into(), price: 9.99 };
    let odd = Order { order_id: String::new(), product: "x".repeat(300), price: f32::MIN_POSITIVE };
    let mut payloads = Vec::new();
    for order in [order, odd] {
        for id in 0..6 {
            let mut value = Vec::new();
            encode_confluent(id, &order, &mut value);
            payloads.push(value);
        }
        let (mut bare, mut single) = (Vec::new(), Vec::new());
        encode_bare(&order, &mut bare);
        encode_single_object(&order, &mut single);
        payloads.extend([bare, single, fixed(|| encode_container(&order))]);
        let deflate = Codec::Deflate(apache_avro::DeflateSettings::default());
        payloads.extend([deflate, Codec::Snappy].map(|codec| fixed(|| container(codec, &order))));
    }
    // Datums of the other schemas, in Confluent's format: price, tags, id and product; no record, id, price, product.
    payloads.push(b"\0\0\0\0\x01\x04\x0a\x02\x02\x02a\x04bc\0\0\0\x041\0\x0aTable".to_vec());
    payloads.push(b"\0\0\0\0\x01\x02\0\0\0\0\0\0\xf0\x3f\x01\x08\0\0\x021\x02T".to_vec());
    payloads.push(b"\0\0\0\0\x02\x02\x02\0aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb\x021\x0a\x02T".to_vec());
    payloads.push(b"\0\0\0\0\x03\x02\x01\x04\x02T\x021\0\0\x80\x3f".to_vec());
    payloads.push(b"\0\0\0\0\x05\x02\x021\x02T\x06".to_vec());
    payloads
}

fn container(codec: Codec, order: &Order) -> Vec<u8> {
    let schema = Schema::parse_str(ORDER_SCHEMA).unwrap();
    let mut writer = Writer::with_codec(&schema, Vec::new(), codec).unwrap();
    writer.append_ser(order).unwrap();
    writer.into_inner().unwrap()
}

/// Returns a container file with a fixed sync marker, and the codec before the schema.
fn fixed(write: impl Fn() -> Vec<u8>) -> Vec<u8> {
    let place = |file: &[u8], key: &[u8]| file.windows(key.len()).position(|part| part == key);
    let is_in_order = |file: &Vec<u8>| place(file, b"avro.codec") < place(file, b"avro.schema");
    let mut file = iter::repeat_with(write).find(is_in_order).unwrap();
    let marker = *file.last_chunk::<16>().unwrap();
    while let Some(at) = place(&file, &marker) {
        file[at..at + marker.len()].copy_from_slice(b"a marker, 16 of.");
    }
    file
}

fn decode(schemas: &[WriterSchema], value: &[u8]) -> Result<Order, DecodeError> {
    match recognise(value, None, PayloadFormat::Auto)? {
        Payload::Confluent { schema_id, datum } => {
            let number = match schema_id {
                SchemaId::Number(number) => usize::try_from(number).unwrap(),
                SchemaId::Guid(guid) => usize::from(guid[0]),
            };
            schemas[number % schemas.len()].decode(datum)
        }
        Payload::SingleObject { fingerprint, datum } => decode_single_object(fingerprint, datum),
        Payload::Container(file) => decode_container(file, DATUM_BYTES_MAX),
        Payload::Bare(datum) => WriterSchema::own().decode(datum),
    }
}

/// Parses the schema before a zero and decodes the bytes after it.
fn parse(input: &[u8]) -> Result<(usize, Result<Order, DecodeError>), String> {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let text =
        str::from_utf8(parts.next().unwrap_or_default()).map_err(|error| error.to_string())?;
    let schema = WriterSchema::parse(text).map_err(|error| error.to_string())?;
    Ok((schema.bytes(), schema.decode(parts.next().unwrap_or_default())))
}

fn check(order: &Result<Order, DecodeError>) -> Outcome {
    match order {
        Ok(order) => {
            let mut datum = Vec::new();
            encode_bare(order, &mut datum);
            let read = WriterSchema::own().decode(&datum).unwrap();
            let parts = |order: &Order| {
                (order.order_id.clone(), order.product.clone(), order.price.to_bits())
            };
            assert_eq!(parts(&read), parts(order));
            Outcome::accepted("order")
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() <= TEXT_BYTES_MAX, "{text}");
            let kind = error.kind();
            // These texts have the value's first bytes.
            let is_shown = matches!(kind, PoisonKind::UnknownSchema | PoisonKind::UnknownFormat);
            let words = if is_shown { String::new() } else { crate::words(&text) };
            Outcome::refused(format!("{kind} {words}"))
        }
    }
}
