//! A client of the Schema Registry's REST API.
//!
//! It knows the calls that a service around Avro needs: look a schema up by its id or GUID with all that it refers to, find out
//! the id of one under a subject, register it there, ask whether it would be compatible. Any registry that speaks Confluent's dialect will do;
//! fields it does not know are ignored, and what the registry says about a failure is carried through.
//!
//! A lookup tells a bad record from a bad day: [`RegistryError::UnknownSchema`] and
//! [`RegistryError::InvalidSchema`] are properties of the id asked for, everything else says that asking again later
//! is worth it.
//!
//! The registry's answer 404 is not final at once. A schema that was registered a moment ago may not have reached all
//! replicas of the registry, so an id is [`RegistryError::NotYetKnown`] until it has been denied for ten seconds.
//! Of what the registry says only so much is read and kept: answers, schemas and the cache are bounded.
//!
//! - [Schema Registry API](https://docs.confluent.io/platform/current/schema-registry/develop/api.html)
//!
//! # Invariants
//!
//! - Responses, schemas and the cache are bounded. A forgotten schema is looked up again.
//! - A schema id is poison only after the registry has denied it for ten seconds. Its records wait meanwhile, and no
//!   others.

mod config;

mod error;

mod transport;

mod cache;

mod lookup;

mod client;

#[cfg(feature = "test-util")]
pub use client::Script;
pub use client::{Compatibility, SchemaRegistry, SchemaStatus};
pub use config::RegistryConfig;
pub use error::{Outage, RegistryError};
