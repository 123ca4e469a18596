//! Schemas of other programs' orders: valid by the specification, or common in practice.
//!
//! Each case has the decoded order or the error. The data are encoded by hand, so that there are cases that Avro's own
//! libraries refuse.
#![expect(clippy::expect_used, reason = "a test ends where its premises do")]

mod readable;

mod unreadable;

use order_avro::{Order, PoisonKind, WriterSchema};

use Part::{Double, Float, Long, Raw, Text};
use Read::{Bad, NoSchema, Order as Reads};

/// A part of a datum.
#[derive(Clone, Copy)]
enum Part {
    /// A string, or bytes.
    Text(&'static str),
    Float(f32),
    Double(f64),
    /// An int, a long, the branch of a union, the symbol of an enum, the length of a block.
    Long(i64),
    Raw(&'static [u8]),
}

/// The result of a case.
enum Read {
    /// The order A-7, Desk, 42.0.
    Order,
    /// The value is not an order, for this reason.
    Bad(PoisonKind, &'static str),
    /// The text is not a schema, for this reason.
    NoSchema(&'static str),
}

struct Writer {
    kind: &'static str,
    /// The references of the schema, each after its own references.
    references: &'static [&'static str],
    schema: String,
    datum: Vec<Part>,
    read: Read,
}

const ORDER: [Part; 3] = [Text("A-7"), Text("Desk"), Float(42.0)];

const ID_FIELD: &str = r#"{"name": "orderId", "type": "string"}"#;
const PRODUCT_FIELD: &str = r#"{"name": "product", "type": "string"}"#;
const PRICE_FIELD: &str = r#"{"name": "price", "type": "float"}"#;
const FIELDS: &str = r#"{"name": "orderId", "type": "string"}, {"name": "product", "type": "string"}, {"name": "price", "type": "float"}"#;
const STRING: &str = r#""string""#;
const FLOAT: &str = r#""float""#;
const REFERRED_ORDER: &str = r#"{"type": "record", "name": "Order", "namespace": "a", "fields": [{"name": "orderId", "type": "string"},
    {"name": "product", "type": "string"}, {"name": "price", "type": "float"}]}"#;
const REFERRED_MONEY: &str = r#"{"type": "record", "name": "Money", "namespace": "a", "fields": [{"name": "cents", "type": "long"},
    {"name": "currency", "type": "string"}]}"#;
const REFERRED_BASKET: &str = r#"{"type": "record", "name": "Basket", "namespace": "a", "fields": [{"name": "sums",
    "type": {"type": "array", "items": "Money"}}]}"#;

fn reads(kind: &'static str, schema: String) -> Writer {
    Writer { kind, references: &[], schema, datum: ORDER.to_vec(), read: Reads }
}

/// A writer with one more field in front.
fn with_extra(kind: &'static str, extra: &str, datum: &[Part]) -> Writer {
    let schema = format!(
        r#"{{"type": "record", "name": "Order", "fields": [{{"name": "extra", "type": {extra}}}, {FIELDS}]}}"#
    );
    reads(kind, schema).datum([datum, &ORDER].concat())
}

/// A writer with one more field in front that has these attributes.
fn with_attributes(attributes: &str, datum: &[Part]) -> Writer {
    let schema = format!(
        r#"{{"type": "record", "name": "Order", "fields": [{{"name": "extra", {attributes}}}, {FIELDS}]}}"#
    );
    reads("attributes", schema).datum([datum, &ORDER].concat())
}

/// A writer whose price is of another type.
fn promoted(kind: &'static str, price: &str, datum: &[Part]) -> Writer {
    let parts = [&[Text("A-7"), Text("Desk")][..], datum].concat();
    reads(kind, record_with(STRING, STRING, price)).datum(parts)
}

fn record_with(id: &str, product: &str, price: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "Order", "fields": [{{"name": "orderId", "type": {id}}},
            {{"name": "product", "type": {product}}}, {{"name": "price", "type": {price}}}]}}"#
    )
}

fn mismatch(reason: &'static str) -> Read {
    Bad(PoisonKind::SchemaMismatch, reason)
}

impl Writer {
    fn named(mut self, extra: &str) -> Self {
        self.schema = self.schema.replace(r#""extra""#, &format!("{extra:?}"));
        self
    }

    fn datum(mut self, datum: Vec<Part>) -> Self {
        self.datum = datum;
        self
    }

    fn references(mut self, references: &'static [&'static str]) -> Self {
        self.references = references;
        self
    }

    fn but(mut self, read: Read) -> Self {
        self.read = read;
        self
    }

    /// Returns the difference, if any.
    fn judge(&self) -> Option<String> {
        let order = Order { order_id: "A-7".into(), product: "Desk".into(), price: 42.0 };
        let expected = match self.read {
            Reads => Ok(order),
            Bad(kind, reason) => Err(format!("{kind}: {reason}")),
            NoSchema(reason) => Err(format!("the text is not an Avro schema: {reason}")),
        };
        let found = match WriterSchema::parse_with(&self.schema, self.references) {
            Ok(schema) => schema
                .decode(&written(&self.datum))
                .map_err(|error| format!("{}: {error}", error.kind())),
            Err(error) => Err(error.to_string()),
        };
        (found != expected).then(|| format!("{}: {found:?}, not {expected:?}", self.kind))
    }
}

fn check(writers: &[Writer]) {
    let wrong: Vec<_> = writers.iter().filter_map(Writer::judge).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), writers.len(), wrong.join("\n"));
}

fn written(parts: &[Part]) -> Vec<u8> {
    let mut datum = Vec::new();
    for part in parts {
        match part {
            Text(text) => {
                long(i64::try_from(text.len()).expect("a short text"), &mut datum);
                datum.extend(text.as_bytes());
            }
            Float(number) => datum.extend(number.to_le_bytes()),
            Double(number) => datum.extend(number.to_le_bytes()),
            Long(number) => long(*number, &mut datum),
            Raw(bytes) => datum.extend(*bytes),
        }
    }
    datum
}

fn long(number: i64, into: &mut Vec<u8>) {
    let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while left > 0x7F {
        into.push(u8::try_from(left & 0x7F).expect("seven bits") | 0x80);
        left >>= 7;
    }
    into.push(u8::try_from(left).expect("seven bits"));
}
