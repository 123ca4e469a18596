//! `order-processor dlq`: the dead-letter queue as a place to work.

pub mod actions;
