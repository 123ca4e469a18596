//! The operators' console of a group of order-processors.
//!
//! Reading order: [`cli`] has one module for each command, and only it prints. [`dashboard`] and `top` show a `view` of the
//! whole group. `stats` are the group's numbers, from a `group_snapshot`. `control` is the state of generators and
//! processors. `dlq` answers queries about dead letters, and `replay` sends them again.

pub mod cli;
pub mod dashboard;
pub mod settings;

mod control;
mod dlq;
mod group_snapshot;
mod replay;
mod stats;
mod text;
mod time;
mod top;
mod view;
