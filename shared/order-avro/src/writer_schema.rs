//! The schema a datum was written with, and how it resolves to ours.
//!
//! Resolution follows the [specification](https://avro.apache.org/docs/1.12.0/specification/#schema-resolution)
//! but for the record's name: a writer may call its record `Order`, `order.OrderRecord` or anything else, for
//! a datum is taken for an order by where it is, not by what it is called. The fields are matched by name, in
//! any order and among any others, with Avro's promotions.
//!
//! What can be settled without a datum is settled in [`WriterSchema::parse`], once per schema.

use std::sync::LazyLock;

use apache_avro::{
    Schema,
    headers::{HeaderBuilder as _, RabinFingerprintHeader},
    reader::datum::GenericDatumReader,
    schema::{InnerDecimalSchema, RecordSchema, UuidSchema},
    schema_compatibility::SchemaCompatibility,
};

use crate::{
    DecodeError, ORDER_SCHEMA, Order, PoisonKind, SchemaError, error, resolution::Resolved,
};

/// The most that decoding allocates at once, in bytes, whatever length the value claims.
///
/// No broker takes a record batch of this size unless told to.
pub const ALLOCATION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A writer's schema, with its resolution to the schema of [`Order`] prepared.
#[derive(Debug)]
pub struct WriterSchema(Plan);

#[derive(Debug)]
enum Plan {
    /// The fields are ours, in our order: the datum is read in one go.
    Equal,
    /// The datum is read field by field, by the writer's schema.
    Resolve(Box<Schema>),
    /// No datum of this schema is an order.
    Unreadable(String),
}

static OWN: WriterSchema = WriterSchema(Plan::Equal);

static OWN_SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    apache_avro::util::max_allocation_bytes(ALLOCATION_BYTES_MAX);
    #[expect(clippy::expect_used, reason = "the text is part of the program, and tested")]
    Schema::parse_str(ORDER_SCHEMA).expect("the schema of orders is an Avro schema")
});

static OWN_READER: LazyLock<GenericDatumReader<'static>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the schema is part of the program, and tested")]
    GenericDatumReader::builder(&OWN_SCHEMA)
        .human_readable(false)
        .build()
        .expect("the schema of orders refers to no other")
});

/// The fingerprints of our schema under each name that its writers have.
static OWN_FINGERPRINTS: LazyLock<Vec<u64>> = LazyLock::new(fingerprints);

/// Decodes the datum of a single-object encoding.
///
/// # Errors
/// [`PoisonKind::UnknownSchema`] if the fingerprint is not that of our schema under one of its names, else as
/// [`WriterSchema::decode`].
pub fn decode_single_object(fingerprint: u64, datum: &[u8]) -> Result<Order, DecodeError> {
    if OWN_FINGERPRINTS.contains(&fingerprint) {
        WriterSchema::own().decode(datum)
    } else {
        Err(DecodeError::new(
            PoisonKind::UnknownSchema,
            format!("no known schema has the fingerprint {fingerprint:016x}"),
        ))
    }
}

/// Returns the parsed schema of orders.
pub(crate) fn own_schema() -> &'static Schema {
    &OWN_SCHEMA
}

impl WriterSchema {
    /// Parses the schema of a writer and prepares its resolution.
    ///
    /// A schema that cannot be resolved to ours is not an error here: the values written with it are bad, and
    /// [`Self::decode`] says so for each.
    ///
    /// # Errors
    /// [`SchemaError`] if the text is no Avro schema, or refers to schemas that are not in it.
    pub fn parse(json: &str) -> Result<Self, SchemaError> {
        let own = own_schema();
        let writer = Schema::parse_str(json).map_err(SchemaError)?;
        GenericDatumReader::builder(&writer).build().map_err(SchemaError)?;
        if has_fields_of(&writer, own) {
            return Ok(Self(Plan::Equal));
        }
        Ok(Self(match resolves(&writer, own) {
            Ok(()) => Plan::Resolve(Box::new(writer)),
            Err(reason) => Plan::Unreadable(error::cut(&reason)),
        }))
    }

    /// Returns the schema of orders itself, for values known to be written with it.
    pub fn own() -> &'static Self {
        &OWN
    }

    /// Decodes a datum written with this schema; all of the datum has to be used.
    ///
    /// # Errors
    /// [`PoisonKind::Truncated`] and [`PoisonKind::TrailingBytes`] if the datum is shorter or longer than an
    /// order, [`PoisonKind::SchemaMismatch`] if it does not follow the schema, or the schema does not resolve to
    /// ours.
    #[inline]
    pub fn decode(&self, datum: &[u8]) -> Result<Order, DecodeError> {
        let mut rest = datum;
        let order = match &self.0 {
            Plan::Equal => {
                let (order_id, product, price) =
                    OWN_READER.read_deser(&mut rest).map_err(|error| poison(&error))?;
                Order { order_id, product, price }
            }
            Plan::Resolve(schema) => {
                let reader = GenericDatumReader::builder(schema).human_readable(false).build();
                let order = reader.and_then(|reader| reader.read_deser(&mut rest));
                let Resolved(order) = order.map_err(|error| poison(&error))?;
                order
            }
            Plan::Unreadable(reason) => {
                return Err(DecodeError::new(PoisonKind::SchemaMismatch, reason.clone()));
            }
        };
        if rest.is_empty() { Ok(order) } else { Err(trailing(rest)) }
    }
}

#[cold]
fn poison(error: &apache_avro::Error) -> DecodeError {
    DecodeError::from_avro(error)
}

#[cold]
fn trailing(rest: &[u8]) -> DecodeError {
    DecodeError::new(PoisonKind::TrailingBytes, format!("{} bytes follow the order", rest.len()))
}

/// Returns whether the writer's record has exactly our fields, in our order.
fn has_fields_of(writer: &Schema, own: &Schema) -> bool {
    let (Schema::Record(writer), Schema::Record(own)) = (writer, own) else { return false };
    writer.fields.len() == own.fields.len()
        && writer
            .fields
            .iter()
            .zip(&own.fields)
            .all(|(writer, own)| (writer.name == own.name) && (writer.schema == own.schema))
}

/// Checks that some datum of the writer's schema is an order, by everything but the record's name.
fn resolves(writer: &Schema, own: &Schema) -> Result<(), String> {
    if let Some(size) = oversize(writer) {
        return Err(format!("the writer's schema has a fixed type of {size} bytes"));
    }
    let Schema::Record(reader) = own else { return Err("the reader's schema is no record".into()) };
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other type can hold a record")]
    match writer {
        Schema::Record(record) => record_resolves(record, reader),
        Schema::Union(union) => union
            .variants()
            .iter()
            .map(|variant| resolves(variant, own))
            .reduce(Result::or)
            .unwrap_or_else(|| Err("the writer's schema is an empty union".into())),
        _ => Err("the writer's schema is not a record".into()),
    }
}

/// Checks that the fields of a record can become those of ours.
fn record_resolves(writer: &RecordSchema, reader: &RecordSchema) -> Result<(), String> {
    let mut renamed = writer.clone();
    renamed.name = reader.name.clone();
    SchemaCompatibility::can_read(&Schema::Record(renamed), &Schema::Record(reader.clone()))
        .map(drop)
        .map_err(|error| format!("{} does not resolve to an order: {error}", writer.name))
}

/// Returns the size of a fixed type that is larger than anything decoding may allocate.
///
/// The Avro library bounds lengths found in the data, but takes those found in a schema on trust, and a
/// container brings its own schema.
fn oversize(schema: &Schema) -> Option<usize> {
    match schema {
        Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
            oversize_bytes(fixed.size)
        }
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Fixed(fixed) => oversize_bytes(fixed.size),
            InnerDecimalSchema::Bytes => None,
        },
        Schema::Array(array) => oversize(&array.items),
        Schema::Map(map) => oversize(&map.types),
        Schema::Union(union) => union.variants().iter().find_map(oversize),
        Schema::Record(record) => record.fields.iter().find_map(|field| oversize(&field.schema)),
        Schema::Null
        | Schema::Boolean
        | Schema::Int
        | Schema::Long
        | Schema::Float
        | Schema::Double
        | Schema::Bytes
        | Schema::String
        | Schema::Enum(_)
        | Schema::BigDecimal
        | Schema::Uuid(UuidSchema::String | UuidSchema::Bytes)
        | Schema::Date
        | Schema::TimeMillis
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos
        | Schema::Ref { .. } => None,
    }
}

fn oversize_bytes(size: usize) -> Option<usize> {
    (size > ALLOCATION_BYTES_MAX).then_some(size)
}

/// Returns the fingerprints of our schema under its own name, its aliases, and its name without a namespace.
fn fingerprints() -> Vec<u64> {
    let own = own_schema();
    let Schema::Record(record) = own else { return Vec::new() };
    let aliases = record.aliases.iter().flatten().map(|alias| alias.fullname(None));
    let unqualified = record.name.name().to_owned();
    let names = aliases.chain([unqualified]).filter_map(|name| name.parse().ok());
    let renamed = names.map(|name| Schema::Record(RecordSchema { name, ..record.clone() }));
    [own.clone()].into_iter().chain(renamed).filter_map(|schema| fingerprint(&schema)).collect()
}

/// Returns the CRC-64-AVRO fingerprint, taken from the header the Avro library writes.
pub(crate) fn fingerprint(schema: &Schema) -> Option<u64> {
    let header = RabinFingerprintHeader::from_schema(schema).build_header();
    header.last_chunk().copied().map(u64::from_le_bytes)
}
