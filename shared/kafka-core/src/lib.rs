//! The sans-IO core of the Kafka client: group membership, assignors, record batches, idempotent producer.
//!
//! Nothing here reads a clock, opens a connection or knows a runtime. Time and bytes come in as arguments; requests
//! and events go out. `kafka-client` does the IO.
//!
//! Reading order: [`member`] is the membership state machine. It encodes subscriptions and assignments with
//! [`consumer_protocol`], assigns partitions with an [`assignor`] and looks up errors in [`error_code`].
//! [`record_batch`] reads the record batches of a fetch response and [`compression`] decompresses them. [`murmur2`]
//! chooses the partition of a key. [`producer`] numbers the batches of a partition and decides what is sent again.
//!
//! # Invariants
//!
//! - A lost or fenced assignment is dropped and never committed.
//! - Only an error about the present generation takes partitions away.
//! - A cooperative member works on through a rebalance and gives up only the partitions that move.
//! - An eager member drains before it joins.
//! - A leader survives any subscription of another member, and heartbeats while it assigns.
//! - A topic that the metadata omit for a moment keeps its assignment.
//! - Every subscribed partition is assigned to exactly one member, or withheld for one cooperative round.
//! - New partitions are assigned within 30 s, also if they were added while a static leader restarted.
//! - Aborted transactions are not delivered. Markers and gaps advance the position.
//! - Whatever is damaged in a log, every whole batch is read once and all other offsets are accounted for.
//! - A truncated batch is never damage, whichever limit truncated it.
//! - No byte sequence makes the batch reader panic or over-allocate.
//! - A producer's batch is in the log at most once, and its outcome is reported once, in order.
//! - A batch that may be in the log is never sent with another sequence number.

pub mod assignor;
pub mod compression;
pub mod consumer_protocol;
pub mod error_code;
pub mod member;
pub mod murmur2;
pub mod producer;
pub mod record_batch;

mod topic_partition;

pub use topic_partition::{NodeId, TopicPartition};
