//! Publishes Avro orders to Kafka.
//!
//! Reading order: `orders` draws them and `trouble` makes some of them bad (both pure), `batch` makes records of them,
//! `delivery` gets a batch to the broker, `sender` does so for one partition and `senders` for all, `steering` says
//! when to stop and start, `service` puts it together.
//!
//! # Invariants
//!
//! - Bad records on purpose change no order of a seed.
//! - Orders lie where Kafka puts their keys, also after the topic has grown. Each partition keeps a producer of its
//!   own.
//! - A batch of unknown outcome is resent identically before anything newer.
//! - The generator does not make up for a pause.

pub use service::run;
pub use settings::GeneratorSettings;

mod batch;
mod catalogue;
mod delivery;
#[cfg(test)]
mod fake_broker;
mod growth;
mod metrics;
mod orders;
mod outage;
mod pace;
mod report;
mod sender;
mod senders;
mod service;
mod settings;
mod startup;
mod steering;
mod trace_sample;
mod trouble;
