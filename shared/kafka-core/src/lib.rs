//! The sans-IO core of the Kafka client: group membership, assignors, record batches.
//!
//! Nothing here reads a clock, opens a connection or knows a runtime. Time and bytes come in as arguments; requests
//! and events go out. `kafka-client` does the IO.
//!
//! Reading order: [`member`] is the membership state machine. It encodes subscriptions and assignments with
//! [`consumer_protocol`], assigns partitions with an [`assignor`] and looks up errors in [`error_code`].
//! [`record_batch`] reads the record batches of a fetch response and [`compression`] decompresses them. [`murmur2`]
//! chooses the partition of a key.
//!
//! # Invariants
//!
//! - A member that is fenced loses all its partitions and may not commit.
//! - Only an error about the current generation takes partitions away. Errors about an earlier one are ignored.
//! - A cooperative member keeps its partitions through a rebalance and revokes only those that move. An eager member
//!   drains all of them before it joins.
//! - The leader assigns every subscribed partition to exactly one member. A cooperative assignor may withhold a
//!   partition for one rebalance.
//! - No subscription of another member ends the leader.
//! - Records of aborted transactions are not delivered. Control batches and offset gaps advance the position.
//! - Every batch that is complete in a damaged log is read once, and the damage accounts for all other offsets.
//! - No bytes make a decoder panic or allocate more than their length and the caller's limit allow.

pub mod assignor;
pub mod compression;
pub mod consumer_protocol;
pub mod error_code;
pub mod member;
pub mod murmur2;
pub mod record_batch;

mod topic_partition;

pub use topic_partition::{NodeId, TopicPartition};
