//! The ledger of a partition: which of its records are complete, and the numbers that they add up to.
//!
//! Nothing here reads a clock, opens a connection or knows a runtime.
//!
//! Reading order: [`aggregate`] holds the numbers of the complete records, and [`completion`] tracks which records are
//! complete. With the counts of [`dlq_limit`] and the [`producer_table`] they form a [`checkpoint`], which is committed
//! beside the offset; `packing` encodes it bit by bit. [`resume`] decides from a commit where a partition resumes.
//!
//! # Invariants
//!
//! - A committed offset never passes an incomplete record, whatever order records complete in.
//! - Orders + dead letters + duplicates = complete records since the first offset that the numbers cover.
//! - Each number of a checkpoint depends only on the set of complete records, not on their order. The exception is the
//!   count of dead letters since the last processed order.
//! - A checkpoint of records that were admitted within the window fits in the commit's metadata.
//! - A dead letter is written only after a commit that dooms its record. No attempt follows.
//! - A checkpoint that cannot be read, or belongs to another topic, stops its own partition and no other.

pub mod aggregate;
pub mod checkpoint;
pub mod completion;
pub mod dlq_limit;
pub mod producer_table;
pub mod resume;

mod packing;
