//! Reads data of any schema that the Avro library writes: its writer is the oracle of our reader.
#![expect(clippy::expect_used, reason = "a test ends where its premises do")]

use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};
use order_avro::{Order, WriterSchema};
use proptest::{collection, prelude::*, sample};

proptest! {
    #[test]
    fn an_order_among_any_fields_is_read_as_the_library_wrote_it(
        (schema, value) in extras(),
        order_id in ".*",
        price in any::<i32>(),
    ) {
        let json = format!(
            r#"{{"type": "record", "name": "Sale", "fields": [
                {{"name": "price", "type": ["null", "int"]}}, {{"name": "first", "type": {schema}}},
                {{"name": "orderId", "type": "string"}}, {{"name": "product", "type": "bytes"}}]}}"#
        );
        let record = Value::Record(vec![
            ("price".into(), Value::Union(1, Box::new(Value::Int(price)))),
            ("first".into(), value),
            ("orderId".into(), Value::String(order_id.clone())),
            ("product".into(), Value::Bytes(b"Desk".to_vec())),
        ]);
        let writer = Schema::parse_str(&json).expect("a schema");
        let writer = GenericDatumWriter::builder(&writer).build().expect("a writer");
        let datum = writer.write_value_to_vec(record).expect("a datum");
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "as Avro promotes")]
        let expected = Order { order_id, product: "Desk".into(), price: price as f32 };
        let reader = WriterSchema::parse(&json).expect("a schema");
        prop_assert_eq!(reader.decode(&datum), Ok(expected));
        for end in 0..datum.len() {
            prop_assert!(reader.decode(&datum[..end]).is_err());
        }
    }
}

/// Returns types, as JSON, each with a value.
fn extras() -> impl Strategy<Value = (String, Value)> {
    types().prop_flat_map(|json| {
        // Two types of one name cannot be in one schema.
        let mut number = 0;
        let mut named = String::new();
        for part in json.split_inclusive("NAME") {
            number += 1;
            named.push_str(&part.replace("NAME", &format!("N{number}")));
        }
        let schema = Schema::parse_str(&named).expect("a schema");
        values(&schema).prop_map(move |value| (named.clone(), value))
    })
}

fn types() -> impl Strategy<Value = String> {
    let leaf = sample::select(vec![
        r#""null""#,
        r#""boolean""#,
        r#""int""#,
        r#""long""#,
        r#""float""#,
        r#""double""#,
        r#""bytes""#,
        r#""string""#,
        r#"{"type": "fixed", "name": "NAME", "size": 3}"#,
        r#"{"type": "fixed", "name": "NAME", "size": 0}"#,
        r#"{"type": "enum", "name": "NAME", "symbols": ["A", "B"]}"#,
        r#"{"type": "int", "logicalType": "date"}"#,
        r#"{"type": "long", "logicalType": "timestamp-millis"}"#,
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(5, 24, 3, |inner| {
        let is_no_union = |one: &String| !one.starts_with('[') && (one != r#""null""#);
        prop_oneof![
            inner.clone().prop_map(|items| format!(r#"{{"type": "array", "items": {items}}}"#)),
            inner.clone().prop_map(|values| format!(r#"{{"type": "map", "values": {values}}}"#)),
            inner
                .clone()
                .prop_filter("a union within a union, or two nulls", is_no_union)
                .prop_map(|one| format!(r#"["null", {one}]"#)),
            collection::vec(inner, 0..4).prop_map(|fields| {
                let fields = fields.iter().enumerate();
                let fields: Vec<_> = fields
                    .map(|(at, one)| format!(r#"{{"name": "f{at}", "type": {one}}}"#))
                    .collect();
                let fields = fields.join(", ");
                format!(r#"{{"type": "record", "name": "NAME", "fields": [{fields}]}}"#)
            }),
        ]
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only some types are made")]
fn values(schema: &Schema) -> BoxedStrategy<Value> {
    match schema {
        Schema::Null => Just(Value::Null).boxed(),
        Schema::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Schema::Int => any::<i32>().prop_map(Value::Int).boxed(),
        Schema::Date => any::<i32>().prop_map(Value::Date).boxed(),
        Schema::Long => any::<i64>().prop_map(Value::Long).boxed(),
        Schema::TimestampMillis => any::<i64>().prop_map(Value::TimestampMillis).boxed(),
        Schema::Float => any::<f32>().prop_map(Value::Float).boxed(),
        Schema::Double => any::<f64>().prop_map(Value::Double).boxed(),
        Schema::Bytes => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
        Schema::String => any::<String>().prop_map(Value::String).boxed(),
        Schema::Fixed(fixed) => {
            let size = fixed.size;
            collection::vec(any::<u8>(), size)
                .prop_map(move |bytes| Value::Fixed(size, bytes))
                .boxed()
        }
        Schema::Enum(_) => sample::select(vec![(0, "A"), (1, "B")])
            .prop_map(|(index, symbol)| Value::Enum(index, symbol.into()))
            .boxed(),
        Schema::Array(array) => {
            collection::vec(values(&array.items), 0..4).prop_map(Value::Array).boxed()
        }
        Schema::Map(map) => {
            collection::hash_map(".*", values(&map.types), 0..3).prop_map(Value::Map).boxed()
        }
        Schema::Union(union) => {
            let branches = union.variants().iter().zip(0..).map(|(variant, branch)| {
                values(variant).prop_map(move |value| Value::Union(branch, Box::new(value))).boxed()
            });
            proptest::strategy::Union::new(branches.collect::<Vec<_>>()).boxed()
        }
        Schema::Record(record) => {
            let fields: Vec<_> = record
                .fields
                .iter()
                .map(|field| {
                    let name = field.name.clone();
                    values(&field.schema).prop_map(move |value| (name.clone(), value)).boxed()
                })
                .collect();
            fields.prop_map(Value::Record).boxed()
        }
        other => unreachable!("{other:?} is not made"),
    }
}
