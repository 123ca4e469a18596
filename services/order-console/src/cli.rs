//! The commands, one module each: what they are told, and what they print. Only they print.

pub mod control;
pub mod dlq;
mod output;
pub mod stats;
pub mod top;
