//! Unusual schemas with readable orders.

use crate::*;

#[test]
fn names_do_not_matter_to_readers() {
    let record = |head: &str| format!(r#"{{{head}, "fields": [{FIELDS}]}}"#);
    check(&[
        reads("another name", record(r#""type": "record", "name": "Sale""#)),
        reads(
            "another namespace",
            record(r#""type": "record", "name": "Order", "namespace": "a.b""#),
        ),
        reads("a full name", record(r#""type": "record", "name": "a.b.Order", "namespace": "c""#)),
        reads(
            "an empty namespace",
            record(r#""type": "record", "name": "Order", "namespace": """#),
        ),
        reads(
            "a hyphen",
            record(r#""type": "record", "name": "web-order", "namespace": "my-shop.eu""#),
        ),
        reads("a leading digit", record(r#""type": "record", "name": "2024Order""#)),
        reads("letters beyond ASCII", record(r#""type": "record", "name": "Bestellübersicht""#)),
        reads("a space and a dollar", record(r#""type": "record", "name": "Order V2$Value""#)),
        reads("no name", record(r#""type": "record""#)),
        reads("an error", record(r#""type": "error", "name": "Order""#)),
        reads(
            "aliases of no form",
            record(r#""type": "record", "name": "Order", "aliases": "Sale""#),
        ),
        reads(
            "aliases with hyphens",
            record(r#""type": "record", "name": "Order", "aliases": ["web-order", "1"]"#),
        ),
        reads(
            "the name after the fields",
            format!(r#"{{"fields": [{FIELDS}], "name": "Order", "type": "record"}}"#),
        ),
        with_extra("a hyphen in a field's name", r#""int""#, &[Long(1)]).named("net-amount"),
        with_extra("a field whose name has a dot", r#""int""#, &[Long(1)]).named("net.amount"),
        with_extra(
            "a symbol with a hyphen",
            r#"{"type": "enum", "name": "E", "symbols": ["in-progress", "1", ""]}"#,
            &[Long(0)],
        ),
        with_extra(
            "a symbol twice",
            r#"{"type": "enum", "name": "E", "symbols": ["a", "a"]}"#,
            &[Long(1)],
        ),
        with_extra("a fixed without a name", r#"{"type": "fixed", "size": 2}"#, &[Raw(&[1, 2])]),
    ]);
}

#[test]
fn defaults_docs_and_attributes_do_not_matter_to_readers() {
    let attributes = |attributes: &str, datum| with_attributes(attributes, datum);
    check(&[
        attributes(r#""type": "int", "default": "0""#, &[Long(1)]),
        attributes(r#""type": "string", "default": null"#, &[Text("x")]),
        attributes(r#""type": ["null", "string"], "default": "x""#, &[Long(0)]),
        attributes(
            r#""type": {"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}, "default": "C""#,
            &[Long(0)],
        ),
        attributes(r#""type": {"type": "array", "items": "int"}, "default": {}"#, &[Long(0)]),
        attributes(
            r#""type": {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}, "default": {}"#,
            &[Long(0)],
        ),
        attributes(r#""type": "bytes", "default": "\u00ff\u0100""#, &[Text("x")]),
        attributes(r#""type": "boolean", "default": "false""#, &[Raw(&[1])]),
        attributes(r#""type": "float", "default": "NaN""#, &[Float(1.0)]),
        attributes(r#""type": "int", "doc": "\u0000\"\\ \ud83d\ude00 ≤ \r\n""#, &[Long(1)]),
        attributes(r#""type": "int", "doc": {"de": ["Zahl", 1, null]}"#, &[Long(1)]),
        attributes(r#""type": "int", "order": "sideways", "aliases": 7, "pii": true"#, &[Long(1)]),
    ]);
}

#[test]
fn logical_types_are_read_as_their_underlying_types() {
    let fields = |id: &str, product: &str, price: &str| record_with(id, product, price);
    check(&[
        reads("a type within a type", fields(r#"{"type": {"type": "string"}}"#, STRING, FLOAT)),
        reads(
            "Java's strings",
            fields(r#"{"type": "string", "avro.java.string": "String"}"#, STRING, FLOAT),
        ),
        reads(
            "an unknown logical type",
            fields(r#"{"type": "string", "logicalType": "sku"}"#, STRING, FLOAT),
        ),
        reads(
            "one that is no text",
            fields(r#"{"type": "string", "logicalType": 5}"#, STRING, FLOAT),
        ),
        reads(
            "one of another type",
            fields(r#"{"type": "string", "logicalType": "date"}"#, STRING, FLOAT),
        ),
        reads("a uuid", fields(r#"{"type": "string", "logicalType": "uuid"}"#, STRING, FLOAT)),
        promoted("int", r#"{"type": "int", "logicalType": "cents"}"#, &[Long(42)]),
        promoted("long", r#"{"type": "long", "logicalType": "timestamp-millis"}"#, &[Long(42)]),
        with_extra(
            "a decimal of precision 0",
            r#"{"type": "bytes", "logicalType": "decimal", "precision": 0}"#,
            &[Text("x")],
        ),
        with_extra(
            "a decimal without precision",
            r#"{"type": "bytes", "logicalType": "decimal"}"#,
            &[Text("x")],
        ),
        with_extra(
            "a decimal in a fixed",
            r#"{"type": "fixed", "name": "D", "size": 2, "logicalType": "decimal", "precision": 40}"#,
            &[Raw(&[1, 2])],
        ),
        with_extra(
            "a big decimal",
            r#"{"type": "bytes", "logicalType": "big-decimal"}"#,
            &[Text("\u{2}\u{1}\u{0}")],
        ),
        with_extra(
            "a duration",
            r#"{"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}"#,
            &[Raw(&[9; 12])],
        ),
        with_extra(
            "a uuid in a fixed",
            r#"{"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}"#,
            &[Raw(&[9; 16])],
        ),
        with_extra("a date", r#"{"type": "int", "logicalType": "date"}"#, &[Long(20_000)]),
        with_extra("a time", r#"{"type": "long", "logicalType": "time-micros"}"#, &[Long(1)]),
        with_extra(
            "a timestamp",
            r#"{"type": "long", "logicalType": "timestamp-nanos"}"#,
            &[Long(1 << 60)],
        ),
        with_extra(
            "a local timestamp",
            r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#,
            &[Long(-1)],
        ),
    ]);
}

#[test]
fn types_are_promoted_as_avro_allows() {
    let id = |kind, id: &str, datum: Part, branch: &[Part]| {
        let mut parts = branch.to_vec();
        parts.extend([datum, Text("Desk"), Float(42.0)]);
        reads(kind, record_with(id, STRING, FLOAT)).datum(parts)
    };
    check(&[
        promoted("an int", r#""int""#, &[Long(42)]),
        promoted("a long", r#""long""#, &[Long(42)]),
        promoted("null or float", r#"["null", "float"]"#, &[Long(1), Float(42.0)]),
        promoted("float or null", r#"["float", "null"]"#, &[Long(0), Float(42.0)]),
        promoted(
            "one of many",
            r#"["string", "int", "double", "long", "null", "float"]"#,
            &[Long(3), Long(42)],
        ),
        promoted("a union of one", r#"["float"]"#, &[Long(0), Float(42.0)]),
        id("bytes", r#""bytes""#, Text("A-7"), &[]),
        id("bytes or string", r#"["bytes", "string"]"#, Text("A-7"), &[Long(0)]),
        id("null or string", r#"["null", "string"]"#, Text("A-7"), &[Long(1)]),
        id("string or null", r#"["string", "null"]"#, Text("A-7"), &[Long(0)]),
        id("string or long", r#"["long", "string"]"#, Text("A-7"), &[Long(1)]),
    ]);
}

#[test]
fn other_fields_of_any_type_are_skipped() {
    check(&[
        with_extra("null", r#""null""#, &[]),
        with_extra("a boolean", r#""boolean""#, &[Raw(&[1])]),
        with_extra("an int", r#""int""#, &[Long(i64::from(i32::MIN))]),
        with_extra("a long", r#""long""#, &[Long(i64::MIN)]),
        with_extra("a float", r#""float""#, &[Float(f32::NAN)]),
        with_extra("a double", r#""double""#, &[Double(1.5)]),
        with_extra("bytes", r#""bytes""#, &[Long(2), Raw(&[0xFF, 0xFE])]),
        with_extra("a string", r#""string""#, &[Text("ß")]),
        with_extra("a fixed", r#"{"type": "fixed", "name": "F", "size": 3}"#, &[Raw(&[1, 2, 3])]),
        with_extra("a fixed of no size", r#"{"type": "fixed", "name": "F", "size": 0}"#, &[]),
        with_extra(
            "an enum",
            r#"{"type": "enum", "name": "E", "symbols": ["A", "B"]}"#,
            &[Long(1)],
        ),
    ]);
}

#[test]
fn fields_with_nested_values_are_skipped() {
    check(&[
        with_extra(
            "an array",
            r#"{"type": "array", "items": "string"}"#,
            &[Long(2), Text("a"), Text("b"), Long(1), Text("c"), Long(0)],
        ),
        with_extra(
            "an array of sized blocks",
            r#"{"type": "array", "items": "string"}"#,
            &[Long(-2), Long(4), Text("a"), Text("b"), Long(0)],
        ),
        with_extra(
            "an array of arrays",
            r#"{"type": "array", "items": {"type": "array", "items": "int"}}"#,
            &[Long(2), Long(1), Long(5), Long(0), Long(0), Long(0)],
        ),
        with_extra(
            "a map",
            r#"{"type": "map", "values": "long"}"#,
            &[Long(1), Text("a"), Long(7), Long(0)],
        ),
        with_extra(
            "a map of records",
            r#"{"type": "map", "values": {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]}}"#,
            &[Long(1), Text("k"), Long(7), Text("v"), Long(0)],
        ),
        with_extra(
            "a union",
            r#"["null", "int", {"type": "array", "items": "int"}, {"type": "map", "values": "string"}]"#,
            &[Long(2), Long(1), Long(9), Long(0)],
        ),
        with_extra("a union that is null", r#"["null", "int"]"#, &[Long(0)]),
        with_extra(
            "a record",
            r#"{"type": "record", "name": "R", "fields": [{"name": "orderId", "type": "int"}, {"name": "price", "type": "double"}]}"#,
            &[Long(7), Double(1.0)],
        ),
        with_extra(
            "a record without fields",
            r#"{"type": "record", "name": "R", "fields": []}"#,
            &[],
        ),
        with_extra(
            "a list",
            r#"{"type": "record", "name": "L", "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "L"]}]}"#,
            &[Long(1), Long(1), Long(2), Long(0)],
        ),
        with_extra(
            "a tree",
            r#"{"type": "record", "name": "T", "namespace": "n", "fields": [{"name": "children", "type": {"type": "array", "items": "n.T"}}]}"#,
            &[Long(2), Long(0), Long(0), Long(0)],
        ),
        with_extra(
            "records that refer to each other",
            r#"{"type": "record", "name": "A", "fields": [{"name": "b", "type": ["null", {"type": "record", "name": "B", "fields": [{"name": "a", "type": ["null", "A"]}]}]}]}"#,
            &[Long(1), Long(1), Long(0)],
        ),
    ]);
}

#[test]
fn named_types_are_found_as_the_specification_says() {
    let nested = |kind, first: &str, second: &str, datum: &[Part]| {
        let fields = format!(
            r#"{{"name": "first", "type": {first}}}, {{"name": "second", "type": {second}}}, {FIELDS}"#
        );
        let schema = format!(
            r#"{{"type": "record", "name": "Order", "namespace": "a.b", "fields": [{fields}]}}"#
        );
        reads(kind, schema).datum([datum, &ORDER].concat())
    };
    let fixed = r#"{"type": "fixed", "name": "F", "size": 1}"#;
    let byte = Raw(&[7]);
    check(&[
        nested("by its name", fixed, r#""F""#, &[byte, byte]),
        nested("by its full name", fixed, r#""a.b.F""#, &[byte, byte]),
        nested("as an object", fixed, r#"{"type": "F"}"#, &[byte, byte]),
        nested(
            "in a namespace of its own",
            r#"{"type": "fixed", "name": "F", "namespace": "c", "size": 1}"#,
            r#"["null", "c.F"]"#,
            &[byte, Long(1), byte],
        ),
        nested(
            "with a hyphen",
            r#"{"type": "fixed", "name": "my-f", "size": 1}"#,
            r#"{"type": "array", "items": "my-f"}"#,
            &[byte, Long(1), byte, Long(0)],
        ),
        nested(
            "in the namespace of the record around it",
            r#"{"type": "record", "name": "c.R", "fields": [{"name": "x", "type": {"type": "fixed", "name": "F", "size": 1}}, {"name": "y", "type": "F"}]}"#,
            r#""c.F""#,
            &[byte, byte, byte],
        ),
        nested(
            "without a namespace",
            r#"{"type": "fixed", "name": "F", "namespace": "", "size": 1}"#,
            r#""F""#,
            &[byte, byte],
        ),
        nested(
            "two of one name in two namespaces",
            r#"{"type": "fixed", "name": "c.F", "size": 2}"#,
            r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": {"type": "fixed", "name": "F", "size": 1}}, {"name": "y", "type": "c.F"}]}"#,
            &[Raw(&[1, 2]), byte, Raw(&[1, 2])],
        ),
    ]);
}

#[test]
fn the_record_may_be_in_a_union_or_a_reference() {
    let order = format!(r#"{{"type": "record", "name": "a.Order", "fields": [{FIELDS}]}}"#);
    let other = r#"{"type": "record", "name": "a.Cancellation", "fields": [{"name": "orderId", "type": "string"}]}"#;
    let branch = |kind, schema: String, branch| {
        reads(kind, schema).datum([&[Long(branch)][..], &ORDER].concat())
    };
    check(&[
        branch("null or an order", format!(r#"["null", {order}]"#), 1),
        branch("one of two records", format!("[{order}, {other}]"), 0),
        branch("the other of two records", format!("[{other}, {order}]"), 1),
        reads("reordered", format!(r#"{{"type": "record", "name": "Order", "fields": [{PRICE_FIELD}, {PRODUCT_FIELD}, {ID_FIELD}]}}"#))
            .datum(vec![Float(42.0), Text("Desk"), Text("A-7")]),
        reads("a reference", r#""a.Order""#.to_owned()).references(&[REFERRED_ORDER]),
        branch("a union of references", r#"["a.Money", "a.Order"]"#.to_owned(), 1).references(&[REFERRED_MONEY, REFERRED_ORDER]),
        with_extra("a field of a referred type", r#""a.Money""#, &[Long(5), Text("EUR")]).references(&[REFERRED_MONEY]),
        with_extra("a reference that refers", r#"{"type": "array", "items": "a.Basket"}"#, &[Long(1), Long(1), Long(5), Text("EUR"), Long(0), Long(0)])
            .references(&[REFERRED_MONEY, REFERRED_BASKET]),
    ]);
}
