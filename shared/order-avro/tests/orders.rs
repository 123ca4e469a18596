//! Orders and the errors of other values, over the public interface.
//!
//! The constants in hexadecimal were written by Python's fastavro.
#![expect(clippy::expect_used, reason = "a test ends where its premises do")]

use apache_avro::{Codec, DeflateSettings};
use order_avro::{
    DecodeError, ORDER_SCHEMA, Order, Payload, PayloadFormat, PoisonKind, WriterSchema,
    decode_container, decode_single_object, encode_bare, encode_confluent, encode_container,
    encode_single_object, recognise,
};
use proptest::prelude::*;

const VALUE_BYTES_MAX: usize = 1024 * 1024;
const DATUM: &str = "08313030310a4974656d3200004841";
const DATUM_NOT_ASCII: &str = "165ac3bc726963682de29c9300cdcccc3d";
const CONTAINER: &str = "4f626a0104146176726f2e636f646563086e756c6c166176726f2e736368656d61a8037b22616c6961736573223a205b226f726465722e4f726465725265636f7264225d2c202274797065223a20227265636f7264222c20226e616d65223a2022636f6d2e6b61666b612e6f72646572732e4f72646572222c20226669656c6473223a205b7b226e616d65223a20226f726465724964222c202274797065223a2022737472696e67227d2c207b226e616d65223a202270726f64756374222c202274797065223a2022737472696e67227d2c207b226e616d65223a20227072696365222c202274797065223a2022666c6f6174227d5d7d00000102030405060708090a0b0c0d0e0f021e08313030310a4974656d3200004841000102030405060708090a0b0c0d0e0f";
const CONTAINER_DEFLATED: &str = "4f626a0104146176726f2e636f6465630e6465666c617465166176726f2e736368656d61a8037b22616c6961736573223a205b226f726465722e4f726465725265636f7264225d2c202274797065223a20227265636f7264222c20226e616d65223a2022636f6d2e6b61666b612e6f72646572732e4f72646572222c20226669656c6473223a205b7b226e616d65223a20226f726465724964222c202274797065223a2022737472696e67227d2c207b226e616d65223a202270726f64756374222c202274797065223a2022737472696e67227d2c207b226e616d65223a20227072696365222c202274797065223a2022666c6f6174227d5d7d00000102030405060708090a0b0c0d0e0f0228e330343030e4f22c49cd356260f070040017b103000102030405060708090a0b0c0d0e0f";

/// A writer of another system: other name, sequence and types, more fields, a named type used twice.
const FOREIGN_SCHEMA: &str = r#"{"type": "record", "name": "SalesOrder", "namespace": "other", "fields": [
    {"name": "price", "type": "int"},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "product", "type": ["null", "string"]},
    {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID"]}},
    {"name": "before", "type": ["null", "State"]},
    {"name": "orderId", "type": "bytes"},
    {"name": "attributes", "type": {"type": "map", "values": "long"}}]}"#;
const FOREIGN_DATUM: &str = "5404026102620002084465736b02020006412d370202780200";

#[test]
fn orders_of_other_programs_decode_in_every_format() {
    let order = order("1001", "Item2", 12.5);
    check(&unhex(DATUM), Ok(&order));
    check(&unhex(CONTAINER), Ok(&order));
    check(&unhex(CONTAINER_DEFLATED), Ok(&order));
    check(&unhex(&format!("00 0000002a {DATUM}")), Ok(&order));
    for fingerprint in ["83e202dd6aa0c687", "8c9d124d61206180", "2b660f25156b63a0"] {
        check(&unhex(&format!("c301 {fingerprint} {DATUM}")), Ok(&order));
    }
    check(&unhex(DATUM_NOT_ASCII), Ok(&self::order("Zürich-✓", "", 0.1)));
}

#[test]
fn every_format_is_encoded_as_by_other_programs() {
    let order = order("1001", "Item2", 12.5);
    assert_eq!(written(|into| encode_bare(&order, into)), unhex(DATUM));
    let confluent = written(|into| encode_confluent(0x0102_0304, &order, into));
    assert_eq!(confluent, unhex(&format!("00 01020304 {DATUM}")));
    let single = written(|into| encode_single_object(&order, into));
    assert_eq!(single, unhex(&format!("c301 83e202dd6aa0c687 {DATUM}")));
    check(&encode_container(&order), Ok(&order));
}

#[test]
fn an_encoder_appends() {
    let mut into = vec![7];
    encode_confluent(1, &order("1", "2", 3.0), &mut into);
    encode_confluent(1, &order("1", "2", 3.0), &mut into);
    assert_eq!(into[0], 7);
    let (first, second) = into[1..].split_at(into.len() / 2);
    assert_eq!(first, second);
}

#[test]
fn a_single_object_of_another_schema_is_unknown() {
    check(&unhex(&format!("c301 0102030405060708 {DATUM}")), Err(PoisonKind::UnknownSchema));
}

#[test]
fn records_of_any_name_decode() {
    for name in ["Order", "order.OrderRecord", "com.kafka.orders.Order", "a.b.Sale"] {
        let schema = schema_with(name, r#""string""#, r#""string""#, r#""float""#);
        assert_eq!(decode(&schema, DATUM), Ok(order("1001", "Item2", 12.5)), "{name}");
    }
}

#[test]
fn fields_are_found_by_name_among_others() {
    assert_eq!(decode(FOREIGN_SCHEMA, FOREIGN_DATUM), Ok(order("A-7", "Desk", 42.0)));
}

#[test]
fn fields_of_the_same_type_are_matched_by_name() {
    let swapped = r#"{"type": "record", "name": "Order", "fields": [
        {"name": "product", "type": "string"}, {"name": "orderId", "type": "string"},
        {"name": "price", "type": "float"}]}"#;
    assert_eq!(decode(swapped, DATUM), Ok(order("Item2", "1001", 12.5)));
}

#[test]
fn numbers_and_bytes_are_promoted_as_avro_allows() {
    let priced = |price: &str, datum: &str| {
        decode(
            &schema_with("Order", r#""string""#, r#""bytes""#, price),
            &format!("02 41 02 42 {datum}"),
        )
    };
    assert_eq!(priced(r#""int""#, "54"), Ok(order("A", "B", 42.0)));
    assert_eq!(priced(r#""long""#, "80a0e5b9c291 01"), Ok(order("A", "B", 2.5e12)));
    assert_eq!(priced(r#"["null", "float"]"#, "02 00002841"), Ok(order("A", "B", 10.5)));
    assert_eq!(priced(r#"["null", "float"]"#, "00"), Err(PoisonKind::SchemaMismatch));
    assert_eq!(priced(r#""double""#, "0000000000002940"), Err(PoisonKind::SchemaMismatch));
    assert_eq!(
        priced(r#"["float", "double"]"#, "02 0000000000002940"),
        Err(PoisonKind::SchemaMismatch)
    );
}

#[test]
fn each_datum_of_another_schema_is_a_mismatch() {
    let no_price = r#"{"type": "record", "name": "Order", "fields": [
        {"name": "orderId", "type": "string"}, {"name": "product", "type": "string"}]}"#;
    let text_price = schema_with("Order", r#""string""#, r#""string""#, r#""string""#);
    for schema in [no_price, &text_price, r#""string""#, r#"["null", "int"]"#] {
        assert_eq!(decode(schema, DATUM), Err(PoisonKind::SchemaMismatch), "{schema}");
    }
}

#[test]
fn a_union_around_the_record_decodes() {
    let record = schema_with("Order", r#""string""#, r#""string""#, r#""float""#);
    let schema = format!(r#"["null", {record}]"#);
    assert_eq!(decode(&schema, &format!("02 {DATUM}")), Ok(order("1001", "Item2", 12.5)));
    assert_eq!(decode(&schema, "00"), Err(PoisonKind::SchemaMismatch));
}

#[test]
fn an_invalid_schema_is_refused() {
    for text in ["", "{", "no-such-type", r#"{"type": "record", "name": "Order"}"#] {
        assert!(WriterSchema::parse(text).is_err(), "{text}");
    }
}

#[test]
fn every_prefix_of_an_order_is_truncated() {
    let datum = unhex(DATUM);
    let foreign = WriterSchema::parse(FOREIGN_SCHEMA).expect("a schema");
    for end in 0..datum.len() {
        let cut = WriterSchema::own().decode(&datum[..end]).map_err(|error| error.kind());
        assert_eq!(cut, Err(PoisonKind::Truncated), "{end}");
    }
    let datum = unhex(FOREIGN_DATUM);
    for end in 0..datum.len() {
        let cut = foreign.decode(&datum[..end]).map_err(|error| error.kind());
        assert_eq!(cut, Err(PoisonKind::Truncated), "{end}");
    }
    for file in [unhex(CONTAINER), unhex(CONTAINER_DEFLATED)] {
        for end in 0..file.len() {
            let cut = decode_container(&file[..end], VALUE_BYTES_MAX).map_err(|error| error.kind());
            assert_eq!(cut, Err(PoisonKind::Truncated), "{end}");
        }
    }
}

#[test]
fn an_order_with_trailing_bytes_is_bad() {
    for value in [DATUM, CONTAINER, CONTAINER_DEFLATED, &format!("00 00000001 {DATUM}")] {
        check(&unhex(&format!("{value} 00")), Err(PoisonKind::TrailingBytes));
    }
    assert_eq!(
        decode(FOREIGN_SCHEMA, &format!("{FOREIGN_DATUM} 00")),
        Err(PoisonKind::TrailingBytes)
    );
}

#[test]
fn a_container_holds_exactly_one_order() {
    let (header, sync_marker) =
        (&CONTAINER[..CONTAINER.len() - 2 * 33], "000102030405060708090a0b0c0d0e0f");
    let block = |block: &str| unhex(&format!("{header} {block} {sync_marker}"));
    check(&block(&format!("02 1e {DATUM}")), Ok(&order("1001", "Item2", 12.5)));
    check(&block(&format!("04 3c {DATUM} {DATUM}")), Err(PoisonKind::TrailingBytes));
    check(&block(&format!("02 3c {DATUM} {DATUM}")), Err(PoisonKind::TrailingBytes));
    check(&block(&format!("04 1e {DATUM}")), Err(PoisonKind::TrailingBytes));
    check(&block(&format!("00 1e {DATUM}")), Err(PoisonKind::Truncated));
    check(&block("00 00"), Err(PoisonKind::Truncated));
    check(&block(&format!("02 01 {DATUM}")), Err(PoisonKind::SchemaMismatch));
    check(&block(&format!("02 20 {DATUM}")), Err(PoisonKind::Truncated));
}

#[test]
fn a_container_with_a_damaged_sync_marker_is_damaged() {
    let mut file = unhex(CONTAINER);
    *file.last_mut().expect("bytes") ^= 1;
    check(&file, Err(PoisonKind::SchemaMismatch));
}

#[test]
fn a_container_with_an_unknown_codec_has_an_unknown_format() {
    let file = CONTAINER.replace("086e756c6c", "086c7a6d61");
    check(&unhex(&file), Err(PoisonKind::UnknownFormat));
}

#[test]
fn a_container_that_unpacks_beyond_the_limit_is_refused() {
    let long = order("1001", &"a".repeat(VALUE_BYTES_MAX), 12.5);
    let datum = written(|into| encode_bare(&long, into));
    for codec in [Codec::Deflate(DeflateSettings::default()), Codec::Snappy] {
        let (bytes, limit) = (packed(&datum, codec), datum.len());
        let file = container(codec, &bytes);
        assert!(file.len() < datum.len() / 10, "{codec:?}");
        assert_eq!(decode_container(&file, limit).as_ref(), Ok(&long), "{codec:?}");
        let error = decode_container(&file, limit - 1).expect_err("too much");
        assert_eq!(error.kind(), PoisonKind::Oversize, "{codec:?}");
        assert_eq!(error.to_string(), format!("the file unpacks to more than {} bytes", limit - 1));
    }
}

#[test]
fn a_container_with_a_damaged_block_is_damaged() {
    let datum = written(|into| encode_bare(&order("1001", "Item2", 12.5), into));
    for codec in [Codec::Deflate(DeflateSettings::default()), Codec::Snappy] {
        let bytes = packed(&datum, codec);
        check(&container(codec, &bytes), Ok(&order("1001", "Item2", 12.5)));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xFF;
            let found = decode_container(&container(codec, &damaged), VALUE_BYTES_MAX);
            // Deflate has no checksum.
            assert!(found.is_err() || codec != Codec::Snappy, "{codec:?} {at}: {found:?}");
        }
        check(&container(codec, &[0]), Err(PoisonKind::SchemaMismatch));
    }
}

#[test]
fn bytes_that_are_not_text_are_a_mismatch() {
    check(&unhex("02 ff 02 42 00002041"), Err(PoisonKind::SchemaMismatch));
}

#[test]
fn impossible_lengths_are_not_allocated() {
    assert_eq!(WriterSchema::own().decode(&[]).map_err(|e| e.kind()), Err(PoisonKind::Truncated));
    check(&unhex("feffffffffffffffff01"), Err(PoisonKind::Truncated));
    let fixed = r#"{"type": "fixed", "name": "F", "size": 1152921504606846976}"#;
    for extra in [fixed.to_owned(), format!(r#"["null", {{"type": "array", "items": {fixed}}}]"#)] {
        let schema = schema_with_extra(&extra);
        assert_eq!(decode(&schema, "02 02 02 02 02"), Err(PoisonKind::Truncated), "{extra}");
    }
}

#[test]
fn endless_values_are_refused() {
    let recursive = schema_with_extra(
        r#"{"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]}"#,
    );
    let deep = format!("{}{DATUM}", "02".repeat(1_000_000));
    assert_eq!(decode(&recursive, &deep), Err(PoisonKind::SchemaMismatch));
    assert_eq!(decode(&recursive, &format!("02 02 00 {DATUM}")), Ok(order("1001", "Item2", 12.5)));

    let nothings = schema_with_extra(r#"{"type": "array", "items": "null"}"#);
    let many = format!("feffffffffffffff7f 00 {DATUM}");
    assert_eq!(decode(&nothings, &many), Err(PoisonKind::SchemaMismatch));
    assert_eq!(decode(&nothings, &format!("c801 00 {DATUM}")), Ok(order("1001", "Item2", 12.5)));
}

#[test]
fn error_texts_are_short_and_name_the_reason() {
    let fields = (0..500).map(|n| format!(r#"{{"name": "f{n}", "type": "string"}}"#));
    let fields = fields.collect::<Vec<_>>().join(", ");
    let schema = format!(r#"{{"type": "record", "name": "Wide", "fields": [{fields}]}}"#);
    let error = WriterSchema::parse(&schema).expect("a schema").decode(&[]).expect_err("no order");
    assert!(error.to_string().len() <= 300, "{error}");
    assert!(error.to_string().contains("the record has no field orderId"), "{error}");
    let error = WriterSchema::parse(&format!("{:?}", "x".repeat(5_000))).expect_err("no schema");
    assert!(error.to_string().len() <= 400, "{error}");
    assert!(error.to_string().contains("is not an Avro schema: the type \"xxx"), "{error}");
}

proptest! {
    #[test]
    fn orders_survive_every_format(order in orders(), schema_id: u32) {
        let values = [
            written(|into| encode_confluent(schema_id, &order, into)),
            written(|into| encode_single_object(&order, into)),
            encode_container(&order),
        ];
        for value in values {
            prop_assert_eq!(read(&value, PayloadFormat::Auto), Ok(order.clone()));
        }
        let bare = written(|into| encode_bare(&order, into));
        prop_assert_eq!(read(&bare, PayloadFormat::Bare), Ok(order));
    }

    #[test]
    fn orders_are_encoded_as_by_the_avro_library(order in orders()) {
        use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};
        let schema = Schema::parse_str(ORDER_SCHEMA).expect("a schema");
        let value = Value::Record(vec![
            ("orderId".into(), Value::String(order.order_id.clone())),
            ("product".into(), Value::String(order.product.clone())),
            ("price".into(), Value::Float(order.price)),
        ]);
        let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
        let expected = writer.write_value_to_vec(value).expect("a datum");
        prop_assert_eq!(written(|into| encode_bare(&order, into)), expected);
    }

    #[test]
    fn any_bytes_are_an_order_or_an_error(value: Vec<u8>) {
        read_every_way(&value);
    }

    #[test]
    fn any_change_to_an_order_leaves_an_order_or_an_error(
        order in orders(),
        format in 0..4_usize,
        at: prop::sample::Index,
        put: Vec<u8>,
        cut in 0..8_usize,
    ) {
        let mut value = match format {
            0 => written(|into| encode_confluent(1, &order, into)),
            1 => written(|into| encode_single_object(&order, into)),
            2 => written(|into| encode_bare(&order, into)),
            _ => encode_container(&order),
        };
        let at = at.index(value.len());
        let end = (at + cut).min(value.len());
        value.splice(at..end, put);
        read_every_way(&value);
    }

    #[test]
    fn any_extra_fields_leave_an_order_or_an_error(extra in types(), datum: Vec<u8>) {
        let schema = WriterSchema::parse(&schema_with_extra(&extra)).expect("a schema");
        drop(schema.decode(&datum));
    }
}

/// Decodes a value in every format and ignores the result.
fn read_every_way(value: &[u8]) {
    use PayloadFormat::{Auto, Bare, Confluent, Container, SingleObject};
    for format in [Auto, Confluent, SingleObject, Container, Bare] {
        drop(read(value, format));
    }
    let foreign = WriterSchema::parse(FOREIGN_SCHEMA).expect("a schema");
    drop(foreign.decode(value));
}

fn read(value: &[u8], format: PayloadFormat) -> Result<Order, DecodeError> {
    match recognise(value, None, format)? {
        Payload::Confluent { datum, .. } | Payload::Bare(datum) => {
            WriterSchema::own().decode(datum)
        }
        Payload::SingleObject { fingerprint, datum } => decode_single_object(fingerprint, datum),
        Payload::Container(file) => decode_container(file, VALUE_BYTES_MAX),
    }
}

fn check(value: &[u8], expected: Result<&Order, PoisonKind>) {
    let found = read(value, PayloadFormat::Auto);
    assert_eq!(found.as_ref().map_err(DecodeError::kind), expected, "{value:02x?}: {found:?}");
}

fn decode(schema: &str, datum: &str) -> Result<Order, PoisonKind> {
    let schema = WriterSchema::parse(schema).expect("a schema");
    schema.decode(&unhex(datum)).map_err(|error| error.kind())
}

fn packed(datum: &[u8], codec: Codec) -> Vec<u8> {
    let mut bytes = datum.to_vec();
    codec.compress(&mut bytes).expect("a codec");
    bytes
}

/// Returns a container file with one block of one order.
fn container(codec: Codec, block: &[u8]) -> Vec<u8> {
    let name: &str = codec.into();
    let mut file = b"Obj\x01".to_vec();
    file.push(4);
    for text in [b"avro.codec", name.as_bytes(), b"avro.schema", ORDER_SCHEMA.as_bytes()] {
        length(text.len(), &mut file);
        file.extend(text);
    }
    file.push(0);
    file.extend([7; 16]);
    file.push(2);
    length(block.len(), &mut file);
    file.extend(block);
    file.extend([7; 16]);
    file
}

/// Appends a length as a long.
fn length(length: usize, into: &mut Vec<u8>) {
    let mut left = length << 1;
    while left > 0x7F {
        into.push(u8::try_from(left & 0x7F).expect("seven bits") | 0x80);
        left >>= 7;
    }
    into.push(u8::try_from(left).expect("seven bits"));
}

fn written(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut into = Vec::new();
    encode(&mut into);
    into
}

fn order(order_id: &str, product: &str, price: f32) -> Order {
    Order { order_id: order_id.into(), product: product.into(), price }
}

fn schema_with(name: &str, order_id: &str, product: &str, price: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "{name}", "fields": [{{"name": "orderId", "type": {order_id}}},
            {{"name": "product", "type": {product}}}, {{"name": "price", "type": {price}}}]}}"#
    )
}

/// Returns the schema of orders with one more field in front.
fn schema_with_extra(extra: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "Order", "fields": [{{"name": "extra", "type": {extra}}},
            {{"name": "orderId", "type": "string"}}, {{"name": "product", "type": "string"}},
            {{"name": "price", "type": "float"}}]}}"#
    )
}

fn orders() -> impl Strategy<Value = Order> {
    (".*", ".*", -1e6..1e6_f32).prop_map(|(order_id, product, price)| Order {
        order_id,
        product,
        price,
    })
}

/// Types of extra fields; none is named, so that they can be nested freely.
fn types() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        r#""null""#,
        r#""boolean""#,
        r#""int""#,
        r#""long""#,
        r#""float""#,
        r#""double""#,
        r#""bytes""#,
        r#""string""#,
        r#"{"type": "string", "logicalType": "uuid"}"#,
        r#"{"type": "int", "logicalType": "date"}"#,
        r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#,
        r#"{"type": "long", "logicalType": "timestamp-millis"}"#,
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| format!(r#"{{"type": "array", "items": {items}}}"#)),
            inner.clone().prop_map(|values| format!(r#"{{"type": "map", "values": {values}}}"#)),
            inner
                .prop_filter("a union within a union or two nulls", |one| {
                    !one.starts_with('[') && (one != r#""null""#)
                })
                .prop_map(|one| format!(r#"["null", {one}]"#)),
        ]
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte")).collect()
}
