//! An in-process Kafka broker and schema registry for demonstrations and tests.
//!
//! [`EmbeddedKafka`] serves Kafka's wire protocol on a port and keeps everything in memory: topics, record batches,
//! idempotent producers, consumer groups of the classic protocol with committed offsets. It has no transactions, no
//! access control and no disk. It serves the requests that the services, rskafka and librdkafka send.
//!
//! It has one node or several. Each has its own address and answers only for the partitions it leads and the groups it
//! coordinates, but all share one state: there is no replication. Tests move leaders, stop nodes and set limits by the
//! methods of [`EmbeddedKafka`].
//!
//! Reading order: `broker` is the public interface with all sockets, tasks and clocks; `api` translates requests into
//! calls of `state`, which has `cluster` for nodes, `topics`, `log`, `fetch_sessions` and `quotas` for records, and
//! `groups` for consumers.

mod broker;

pub mod registry;

mod api;
mod cluster;
mod fetch_sessions;
mod groups;
mod log;
mod quotas;
mod refusal;
mod state;
mod topics;

pub use crate::broker::{BrokerOptions, ControlError, EmbeddedKafka, StartError, StoppedKafka};
