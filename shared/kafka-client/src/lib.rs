//! Connections to Kafka: group membership, a reader, a producer, topics and offsets.
//!
//! Reading order: [`config`] and [`api`] define how to reach brokers and which requests to send, [`connection`] sends them to
//! one broker, [`cluster`] to any broker, [`coordinator`] to a group's, and [`retry`] repeats calls. On these stand [`topics`], [`configs`],
//! [`offsets`], [`groups`], [`membership`] (which drives the state machine of `kafka-core`), [`reader`] and [`producer`].
//!
//! # Invariants
//!
//! - A cancelled request makes its connection unusable.
//! - No byte of a request is sent after its deadline.
//! - A connection that the broker closed while it was idle is replaced silently, and nothing is written twice.
//! - Damage is delivered only when the same bytes came twice.
//! - A value that the cluster does not report for a partition is reported as unknown; the values of the others are shown.
//! - A static member that restarts within its session moves no partition.

pub mod api;
pub mod cluster;
pub mod config;
pub mod configs;
pub mod connection;
pub mod coordinator;
pub mod error;
pub mod fetch;
pub mod groups;
pub mod membership;
pub mod offsets;
pub mod producer;
pub mod reader;
pub mod retry;
pub mod topics;

mod race;
