//! Publishes Avro orders to Kafka.
//!
//! Reading order: `orders` draws orders and makes some of them faulty, without IO; `senders` encodes them and delivers them
//! to their partitions; `pause_control` follows the control topic, `partition_watch` the topic's partitions; `service` puts
//! it together.
//!
//! # Invariants
//!
//! - Bad records on purpose change no order of a seed.
//! - Orders lie where Kafka puts their keys, also after the topic has grown. Orders of a partition keep their order.
//! - After an order of unknown outcome nothing newer is sent than what is in flight.
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
