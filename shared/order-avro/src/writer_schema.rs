//! The writer's schema of a datum, and its resolution to our schema.
//!
//! Names, defaults, documentation and aliases have no effect on the encoding, so they cannot make a writer's schema
//! unusable. This deviates from the specification in two ways: the name of the record does not have to be ours, because the
//! topic makes a datum an order; and invalid names or defaults are accepted.
//!
//! [`WriterSchema::parse`] does everything that needs no datum, once per schema.

use std::sync::LazyLock;

use apache_avro::{
    Schema,
    headers::{HeaderBuilder as _, RabinFingerprintHeader},
    schema::RecordSchema,
};

use crate::{
    DecodeError, ORDER_SCHEMA, Order, PoisonKind, SchemaError, datum::Datum, error, resolution,
    shape::Shapes,
};

/// The longest text of a schema, together with the schemas that it refers to, in bytes. It is the limit of Confluent's
/// cloud.
pub const SCHEMA_BYTES_MAX: usize = 1024 * 1024;

/// A writer's schema, compiled for resolution to the schema of [`Order`].
#[derive(Debug)]
pub struct WriterSchema(Plan);

#[derive(Debug)]
enum Plan {
    /// The fields are those of our schema, in the same sequence.
    Own,
    /// Each field is read by the writer's schema.
    Resolve(Shapes),
    /// No datum of this schema can be an order.
    Unreadable(String),
}

static OWN: WriterSchema = WriterSchema(Plan::Own);

static OWN_SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the text is part of the program, and tested")]
    Schema::parse_str(ORDER_SCHEMA).expect("the schema of orders is an Avro schema")
});

/// The fingerprints of our schema under each of its names.
static OWN_FINGERPRINTS: LazyLock<Vec<u64>> = LazyLock::new(fingerprints);

/// Decodes the datum of a single-object encoding.
///
/// # Errors
/// [`PoisonKind::UnknownSchema`] for a fingerprint that is not that of our schema under one of its names, else as
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
    /// Parses and compiles a writer's schema.
    ///
    /// # Errors
    /// As [`Self::parse_with`].
    pub fn parse(json: &str) -> Result<Self, SchemaError> {
        Self::parse_with(json, &[])
    }

    /// Parses and compiles a writer's schema and its references; each reference follows the references that it needs itself.
    ///
    /// A schema that does not resolve to ours is not an error here: [`Self::decode`] fails for each of its values.
    ///
    /// # Errors
    /// [`SchemaError`] for a text that is not an Avro schema, for a missing reference, or for texts that together exceed
    /// [`SCHEMA_BYTES_MAX`].
    pub fn parse_with(json: &str, references: &[&str]) -> Result<Self, SchemaError> {
        let bytes = json.len() + references.iter().map(|text| text.len()).sum::<usize>();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(SchemaError(format!(
                "it has {bytes} bytes, and {SCHEMA_BYTES_MAX} are read"
            )));
        }
        let shapes = Shapes::compile(json, references);
        let shapes = shapes.map_err(|reason| SchemaError(error::cut(&reason)))?;
        if resolution::is_our_own(&shapes) {
            return Ok(Self(Plan::Own));
        }
        Ok(Self(match resolution::check(&shapes) {
            Ok(()) => Plan::Resolve(shapes),
            Err(reason) => Plan::Unreadable(error::cut(&reason)),
        }))
    }

    /// Returns our schema, for values that are known to have it.
    pub fn own() -> &'static Self {
        &OWN
    }

    /// Returns the approximate memory of the schema in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.0 {
                Plan::Own => 0,
                Plan::Resolve(shapes) => shapes.bytes(),
                Plan::Unreadable(reason) => reason.len(),
            }
    }

    /// Decodes a whole datum of this schema.
    ///
    /// # Errors
    /// [`PoisonKind::Truncated`] and [`PoisonKind::TrailingBytes`] for a datum that is shorter or longer than an order,
    /// [`PoisonKind::SchemaMismatch`] for a datum that does not follow the schema, or a schema that does not resolve to ours.
    #[inline]
    pub fn decode(&self, datum: &[u8]) -> Result<Order, DecodeError> {
        let mut datum = Datum::new(datum);
        let order = match &self.0 {
            Plan::Own => resolution::read_own(&mut datum)?,
            Plan::Resolve(shapes) => resolution::read(shapes, &mut datum)?,
            Plan::Unreadable(reason) => {
                return Err(DecodeError::new(PoisonKind::SchemaMismatch, reason.clone()));
            }
        };
        if datum.rest().is_empty() { Ok(order) } else { Err(trailing(datum.rest())) }
    }
}

#[cold]
fn trailing(rest: &[u8]) -> DecodeError {
    DecodeError::new(PoisonKind::TrailingBytes, format!("{} bytes follow the order", rest.len()))
}

/// Returns the fingerprints of our schema under its name, its aliases, and its name without a namespace.
fn fingerprints() -> Vec<u64> {
    let own = own_schema();
    let Schema::Record(record) = own else { return Vec::new() };
    let aliases = record.aliases.iter().flatten().map(|alias| alias.fullname(None));
    let unqualified = record.name.name().to_owned();
    let names = aliases.chain([unqualified]).filter_map(|name| name.parse().ok());
    let renamed = names.map(|name| Schema::Record(RecordSchema { name, ..record.clone() }));
    [own.clone()].into_iter().chain(renamed).filter_map(|schema| fingerprint(&schema)).collect()
}

/// Returns the CRC-64-AVRO fingerprint, from the header that the Avro library writes.
pub(crate) fn fingerprint(schema: &Schema) -> Option<u64> {
    let header = RabinFingerprintHeader::from_schema(schema).build_header();
    header.last_chunk().copied().map(u64::from_le_bytes)
}
