//! Orders in Avro: the schema, the wire formats orders come in, and schema resolution.
//!
//! A record's value is first told apart by [`recognise`], which looks at its leading bytes only, or at the
//! header that names its schema; what it finds is decoded with the writer's schema: the one a registry has under the id ([`WriterSchema::parse`]),
//! the one whose fingerprint is given ([`decode_single_object`]), the one the file brings along
//! ([`decode_container`]), or ours ([`WriterSchema::own`]). Whatever the bytes, decoding ends with an
//! [`Order`] or a [`DecodeError`] that names one of the few ways in which a value can be bad; it neither
//! panics nor allocates more than the value has bytes, or may unpack to.
//!
//! Values are decoded here and not by the Avro library: it refuses the schemas of writers for names and defaults that play no
//! part in reading, keeps all of a schema, and resolves it anew for each value. The library writes orders, and the tests hold
//! what is read against it.
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
