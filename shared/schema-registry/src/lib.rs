//! A client of the Schema Registry's REST API.
//!
//! It knows the three calls that a service around Avro needs: register a schema under a subject, look one up
//! by id, ask whether a schema would be compatible. Any registry that speaks Confluent's dialect will do;
//! fields it does not know are ignored, and what the registry says about a failure is carried through.
//!
//! A lookup tells a bad record from a bad day: [`RegistryError::UnknownSchema`] and
//! [`RegistryError::InvalidSchema`] are properties of the id asked for, everything else says that the registry
//! could not be asked, and that asking again later is worth it.
//!
//! - [Schema Registry API](https://docs.confluent.io/platform/current/schema-registry/develop/api.html)

mod config;

mod error;

mod transport;

mod cache;

mod client;

pub use client::{Compatibility, SchemaRegistry};
pub use config::RegistryConfig;
pub use error::{Outage, RegistryError};
