//! Orders in Avro: the schema, the wire formats, and schema resolution.
//!
//! [`recognise`] finds the wire format of a record's value from its leading bytes, or from the header that names its schema.
//! The value is then decoded with its writer's schema: from the registry ([`WriterSchema::parse`]), by its fingerprint
//! ([`decode_single_object`]), from the file itself ([`decode_container`]), or [`WriterSchema::own`]. Decoding any bytes
//! results in an [`Order`] or a [`DecodeError`]. It does not panic, and allocates at most as many bytes as the value has
//! or may unpack to.
//!
//! This crate decodes values itself. The Avro library refuses writers' schemas for names and defaults that do not matter
//! to readers, keeps all of a schema, and resolves it anew for each value. The library encodes orders, and is the oracle
//! of the tests.
//!
//! - [Avro specification](https://avro.apache.org/docs/1.12.0/specification/): datums, schema resolution,
//!   object container files, single-object encoding
//! - [Confluent's wire format](https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format)
//!
//! # Invariants
//!
//! - A value unpacks to at most `MAX_VALUE_BYTES`. No value and no schema takes memory that it only claims.
//! - Names, defaults, documentation and aliases of a writer's schema play no part in reading. A value that cannot be
//!   read has its reason.
//! - No byte sequence makes a decoder panic, or take more memory than its length and the settings allow.

mod order;

mod payload;

mod error;

mod writer_schema;

mod schema_text;

mod shape;

mod resolution;

mod datum;

mod container;

mod encode;

pub use container::decode_container;
pub use encode::{encode_bare, encode_confluent, encode_container, encode_single_object};
pub use error::{DecodeError, PoisonKind, SchemaError};
pub use order::{ORDER_SCHEMA, Order, PRICE_MAX, validate};
pub use payload::{
    ParsePayloadFormatError, Payload, PayloadFormat, SCHEMA_ID_HEADER, SchemaId, recognise,
};
pub use writer_schema::{SCHEMA_BYTES_MAX, WriterSchema, decode_single_object};
