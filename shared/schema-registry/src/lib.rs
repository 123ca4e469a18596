//! A client of the Schema Registry's REST API.
//!
//! It has the calls of the services: look a schema up by its id or GUID with all its references, find the id of a schema
//! under a subject, register it. It works with every registry that has Confluent's API, ignores unknown fields of responses,
//! and carries the registry's error messages.
//!
//! [`RegistryError::UnknownSchema`], [`RegistryError::NoGuids`] and [`RegistryError::InvalidSchema`] are properties of the
//! schema id. After every other error of a lookup, a later attempt may succeed.
//!
//! The response 404 is not final at once. A new schema may not have reached all replicas of the registry, so an id is
//! [`RegistryError::NotYetKnown`] until the registry has denied it for ten seconds.
//! Responses, schemas and the cache have limits.
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
pub use client::{SchemaRegistry, SchemaStatus};
pub use config::RegistryConfig;
pub use error::{Outage, RegistryError};
