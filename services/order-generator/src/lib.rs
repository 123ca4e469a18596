//! Publishes Avro orders to Kafka.
//!
//! Reading order: `orders` draws orders and makes some of them faulty, without IO; `senders` encodes them and delivers them
//! to their partitions; `pause_control` follows the control topic, `partition_watch` the topic's partitions; `service` puts
//! it together.
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

mod metrics;
mod orders;
mod pace;
mod partition_watch;
mod pause_control;
mod report;
mod senders;
mod service;
mod settings;
mod startup;
