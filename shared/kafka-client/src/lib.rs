//! Connections to Kafka: a group's coordinator, a reader, a writer, topics and offsets.
//!
//! Reading order: [`config`] and [`api`] say how brokers are spoken to, [`connection`] speaks to one, [`cluster`] to
//! all of them, and [`retry`] repeats calls. On these stand [`topics`], [`configs`], [`offsets`], [`groups`], [`membership`] (with the state
//! machine of `kafka-core`), and [`reader`]. Writing goes through rskafka, which only the [`writer`] names; records that
//! rskafka cannot say, and those whose refusal has to be explained, go through the [`exact_writer`].

pub mod api;
pub mod cluster;
pub mod config;
pub mod configs;
pub mod connection;
pub mod error;
pub mod exact_writer;
pub mod groups;
pub mod membership;
pub mod offsets;
pub mod reader;
pub mod retry;
pub mod topics;
pub mod writer;
