//! The ledger of a partition: which of its records are complete, and the numbers that they add up to.
//!
//! Nothing here reads a clock, opens a connection or knows a runtime.
//!
//! Reading order: [`aggregate`] holds the numbers of the complete records, and [`completion`] tracks which records are
//! complete. With the counts of [`dlq_limit`] they form a [`checkpoint`], which is committed beside the offset; `packing`
//! encodes it bit by bit. [`resume`] decides from a commit where a partition resumes.
//!
//! # Invariants
//!
//! - A commit never passes an incomplete record, in any order of completion.
//! - Every number of a checkpoint, except the count of the dead-letter limit, is an order-free function of the
//!   records that it calls complete.
//! - A checkpoint fits beside the offset by construction, whatever length the coordinator stores.
//! - Orders and dead letters add up to the records below the committed offset and the complete ones above it, and to
//!   those that the log lost after they had been counted.
//! - A damaged batch counts as one dead letter, through any crash.
//! - A truncated log costs no new record, and no number is given up because a log seems to end early.
//! - A checkpoint that cannot be read, or belongs to another topic, stops its partition and no other.

pub mod aggregate;
pub mod checkpoint;
pub mod completion;
pub mod dlq_limit;
pub mod resume;

mod leader_epochs;
mod packing;
