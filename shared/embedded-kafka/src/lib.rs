//! An in-process Kafka broker and schema registry for demonstrations and tests.
//!
//! [`EmbeddedKafka`] serves the real wire protocol on a real port and keeps everything in memory: topics, record batches,
//! idempotent producers, consumer groups of the classic protocol with committed offsets. Any client can use it; it has one
//! node, no transactions, no access control and no disk.
//!
//! Reading order: `broker` is what users see and the shell around everything that waits; `api` translates messages;
//! `state` is what they are translated to: `topics` and `log` for records, `groups` for consumers. All below `broker` is
//! without sockets, tasks and clocks.

mod broker;

pub mod registry;

mod api;
mod frame;
mod groups;
mod log;
mod refusal;
mod state;
mod topics;

pub use crate::broker::{BrokerOptions, EmbeddedKafka, StartError, StoppedKafka, UnknownPartition};
