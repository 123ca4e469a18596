//! The schema a datum was written with, and how it resolves to ours.
//!
//! Names, defaults, documentation and aliases of a writer play no part in reading, so nothing that a writer puts there makes
//! its schema unusable. Two deviations from the specification follow. The record's name is not compared with ours: a datum is
//! taken for an order by where it is, not by what it is called. And names that the specification does not allow, or a default
//! that does not fit its type, are taken as they are.
//!
//! What can be settled without a datum is settled in [`WriterSchema::parse`], once per schema.

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

/// How long the text of a schema may be, in bytes, together with the schemas that it refers to.
///
/// Confluent's cloud takes no longer one.
pub const SCHEMA_BYTES_MAX: usize = 1024 * 1024;

/// A writer's schema, with its resolution to the schema of [`Order`] prepared.
///
/// Only what reading needs is kept of it.
#[derive(Debug)]
pub struct WriterSchema(Plan);

#[derive(Debug)]
enum Plan {
    /// The fields are ours, in our order.
    Own,
    /// The datum is read field by field, by the writer's schema.
    Resolve(Shapes),
    /// No datum of this schema is an order.
    Unreadable(String),
}

static OWN: WriterSchema = WriterSchema(Plan::Own);

static OWN_SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the text is part of the program, and tested")]
    Schema::parse_str(ORDER_SCHEMA).expect("the schema of orders is an Avro schema")
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
    /// # Errors
    /// As [`Self::parse_with`].
    pub fn parse(json: &str) -> Result<Self, SchemaError> {
        Self::parse_with(json, &[])
    }

    /// Parses the schema of a writer that refers to others, and prepares its resolution. Each of those is given after those
    /// that it refers to itself.
    ///
    /// A schema that cannot be resolved to ours is not an error here: the values written with it are bad, and
    /// [`Self::decode`] says so for each.
    ///
    /// # Errors
    /// [`SchemaError`] if a text is no Avro schema, they refer to others, or they are longer than [`SCHEMA_BYTES_MAX`].
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

    /// Returns the schema of orders itself, for values known to be written with it.
    pub fn own() -> &'static Self {
        &OWN
    }

    /// Returns about how much memory the schema takes, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.0 {
                Plan::Own => 0,
                Plan::Resolve(shapes) => shapes.bytes(),
                Plan::Unreadable(reason) => reason.len(),
            }
    }

    /// Decodes a datum written with this schema; all of the datum has to be used.
    ///
    /// # Errors
    /// [`PoisonKind::Truncated`] and [`PoisonKind::TrailingBytes`] if the datum is shorter or longer than an
    /// order, [`PoisonKind::SchemaMismatch`] if it does not follow the schema, or the schema does not resolve to
    /// ours.
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
