//! Schemas and data without an order, and the reasons for dead letters.

use crate::*;

#[test]
fn the_error_of_a_schema_without_orders_names_the_reason() {
    let mismatch = |kind, schema: String, reason| reads(kind, schema).but(mismatch(reason));
    let lacks =
        |fields: &str| format!(r#"{{"type": "record", "name": "Sale", "fields": [{fields}]}}"#);
    check(&[
        mismatch(
            "no price",
            lacks(&format!("{ID_FIELD}, {PRODUCT_FIELD}")),
            "the record has no field price",
        ),
        mismatch(
            "only an alias",
            lacks(&format!(
                r#"{{"name": "id", "aliases": ["orderId"], "type": "string"}}, {PRODUCT_FIELD}, {PRICE_FIELD}"#
            )),
            "the record has no field orderId",
        ),
        mismatch(
            "another case",
            lacks(&format!(
                r#"{{"name": "orderid", "type": "string"}}, {PRODUCT_FIELD}, {PRICE_FIELD}"#
            )),
            "the record has no field orderId",
        ),
        mismatch(
            "twice",
            lacks(&format!("{FIELDS}, {ID_FIELD}")),
            "the record has two fields orderId",
        ),
        mismatch("no record", STRING.to_owned(), "the writer's schema is a string, not a record"),
        mismatch(
            "an array of orders",
            r#"{"type": "array", "items": "int"}"#.to_owned(),
            "the writer's schema is an array, not a record",
        ),
        mismatch(
            "a union of no orders",
            format!(r#"["null", {}, "int"]"#, lacks(ID_FIELD)),
            "the record has no field product",
        ),
    ]);
}

#[test]
fn the_error_of_a_schema_with_other_types_names_the_field() {
    let mismatch = |kind, schema: String, reason| reads(kind, schema).but(mismatch(reason));
    let typed = |id: &str, product: &str, price: &str| record_with(id, product, price);
    check(&[
        mismatch(
            "a double",
            typed(STRING, STRING, r#""double""#),
            "price is a double, which does not become a float",
        ),
        mismatch(
            "a text",
            typed(STRING, STRING, STRING),
            "price is a string, which does not become a float",
        ),
        mismatch(
            "a decimal",
            typed(
                STRING,
                STRING,
                r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#,
            ),
            "price is a decimal, which does not become a float",
        ),
        mismatch(
            "nothing",
            typed(STRING, STRING, r#""null""#),
            "price is null, which does not become a float",
        ),
        mismatch(
            "a union of no numbers",
            typed(STRING, STRING, r#"["null", "string", "double"]"#),
            "price is a union, and none of its types becomes a float",
        ),
        mismatch(
            "an enum",
            typed(r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#, STRING, FLOAT),
            "orderId is an enum, which does not become a string",
        ),
        mismatch(
            "a fixed",
            typed(r#"{"type": "fixed", "name": "F", "size": 16}"#, STRING, FLOAT),
            "orderId is a fixed, which does not become a string",
        ),
        mismatch(
            "a long",
            typed(r#""long""#, STRING, FLOAT),
            "orderId is a long, which does not become a string",
        ),
        mismatch(
            "a decimal for a text",
            typed(r#"{"type": "bytes", "logicalType": "decimal", "precision": 4}"#, STRING, FLOAT),
            "orderId is a decimal, which does not become a string",
        ),
        mismatch(
            "a record",
            typed(
                STRING,
                r#"{"type": "record", "name": "P", "fields": [{"name": "a", "type": "int"}]}"#,
                FLOAT,
            ),
            "product is a record, which does not become a string",
        ),
    ]);
}

#[test]
fn the_error_of_an_invalid_schema_names_the_place() {
    let no_schema =
        |kind, schema: &str, reason| reads(kind, schema.to_owned()).but(NoSchema(reason));
    check(&[
        no_schema("nothing", "", "EOF while parsing a value at line 1 column 0"),
        no_schema("no JSON", "{", "EOF while parsing an object at line 1 column 1"),
        no_schema("more than JSON", r#""int" x"#, "trailing characters at line 1 column 7"),
        no_schema("Protobuf", r#"syntax = "proto3";"#, "expected value at line 1 column 1"),
        no_schema("a number", "7", "a type is neither a name, a list nor an object"),
        no_schema("no type", "{}", "a type has no attribute \"type\""),
        no_schema("no fields", r#"{"type": "record", "name": "R"}"#, "a record has no \"fields\""),
        no_schema(
            "an unknown type",
            &record_with(STRING, STRING, r#""Money""#),
            "field price: the type \"Money\" is not defined",
        ),
        no_schema(
            "a missing reference",
            r#"["null", {"type": "map", "values": "a.Money"}]"#,
            "the type \"a.Money\" is not defined",
        ),
        no_schema(
            "defined twice",
            &record_with(
                r#"{"type": "fixed", "name": "F", "size": 1}"#,
                r#"{"type": "fixed", "name": "F", "size": 2}"#,
                FLOAT,
            ),
            "field product: the type \"F\" is defined twice",
        ),
        no_schema("no items", r#"{"type": "array"}"#, "an array has no \"items\""),
        no_schema("no size", r#"{"type": "fixed", "name": "F"}"#, "a fixed has no \"size\""),
        no_schema("no symbols", r#"{"type": "enum", "name": "E"}"#, "an enum has no \"symbols\""),
    ]);
}

#[test]
fn the_error_of_a_datum_that_violates_its_schema_names_the_reason() {
    let price = |kind, price: &str, datum: &[Part], read| promoted(kind, price, datum).but(read);
    check(&[
        price(
            "null for a price",
            r#"["null", "float"]"#,
            &[Long(0)],
            mismatch("price is null, which does not become a float"),
        ),
        price(
            "a double of a union",
            r#"["float", "double"]"#,
            &[Long(1), Double(42.0)],
            mismatch("price is a double, which does not become a float"),
        ),
        price(
            "no such branch",
            r#"["null", "float"]"#,
            &[Long(2), Float(42.0)],
            mismatch("a union of 2 types has no type 2"),
        ),
        price(
            "a negative branch",
            r#"["null", "float"]"#,
            &[Long(-1), Float(42.0)],
            mismatch("a union of 2 types has no type -1"),
        ),
        price(
            "an int of 40 bits",
            r#""int""#,
            &[Long(1 << 40)],
            mismatch("an int is larger than 32 bits"),
        ),
    ]);
}

#[test]
fn the_error_of_a_skipped_field_names_the_reason() {
    let extra = |kind, extra: &str, datum: &[Part], read| with_extra(kind, extra, datum).but(read);
    check(&[
        extra(
            "no such symbol",
            r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#,
            &[Long(1)],
            mismatch("an enum of 1 symbols has no symbol 1"),
        ),
        extra("no boolean", r#""boolean""#, &[Raw(&[2])], mismatch("a boolean is neither 0 nor 1")),
        extra(
            "a number without end",
            r#""long""#,
            &[Raw(&[0xFF; 11])],
            mismatch("a number is larger than 64 bits"),
        ),
        extra("a negative length", r#""string""#, &[Long(-1)], mismatch("a length is negative")),
        extra(
            "a length beyond the end",
            r#""string""#,
            &[Long(1 << 40)],
            Bad(PoisonKind::Truncated, "the value ends before the order does"),
        ),
        extra(
            "more than there is",
            r#"{"type": "array", "items": "int"}"#,
            &[Long(1 << 40)],
            Bad(PoisonKind::Truncated, "the value ends before the order does"),
        ),
        extra(
            "without end",
            r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}"#,
            &[],
            mismatch("a value is nested more than 64 deep"),
        ),
        reads("no text", record_with(STRING, STRING, FLOAT))
            .datum(vec![Long(1), Raw(&[0xFF]), Text("x"), Float(1.0)])
            .but(mismatch("orderId is not UTF-8")),
        reads(
            "the other record",
            format!(r#"["null", {{"type": "record", "name": "O", "fields": [{FIELDS}]}}]"#),
        )
        .datum(vec![Long(0)])
        .but(mismatch("the value is null, not a record")),
    ]);
}
