//! The sans-IO core of the Kafka client: group membership, assignors, record batches.
//!
//! Nothing here reads a clock, opens a connection or knows a runtime: time and bytes come in as arguments, requests and
//! events go out. `kafka-client` is the shell that does the rest.
//!
//! Reading order: [`member`] is the membership state machine; it speaks [`consumer_protocol`], shares partitions out
//! with an [`assignor`] and judges errors by [`error_code`]. [`record_batch`] reads what a broker answers to a fetch
//! (unpacked by [`compression`]). [`murmur2`] places keys.

pub mod assignor;
pub mod compression;
pub mod consumer_protocol;
pub mod error_code;
pub mod member;
pub mod murmur2;
pub mod record_batch;

mod topic_partition;

pub use topic_partition::{NodeId, TopicPartition};
