//! What a partition's owner knows of its records: which are complete, and what they come to.
//!
//! Nothing here reads a clock, opens a connection or knows a runtime.
//!
//! Reading order: [`aggregate`] is what the complete records come to, and [`completion`] says which they are. With the
//! count of [`dlq_limit`] and the [`producer_table`] they are a [`checkpoint`], which is committed beside the offset,
//! [`packing`] every bit of it. [`resume`] decides where a partition goes on from what was committed.

pub mod aggregate;
pub mod checkpoint;
pub mod completion;
pub mod dlq_limit;
pub mod packing;
pub mod producer_table;
pub mod resume;
