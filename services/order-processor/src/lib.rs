//! Keeps an exact running average of orders; retries what can heal, dead-letters what cannot.
//!
//! Reading order: [`handler`] is where your own work goes, and [`webhook`] is such a work. [`service`] is
//! `order-processor run`: it prepares, and runs the `session`, a group member that gives each assigned partition to a
//! `worker`. A worker's numbers are a [`PartitionState`](order_ledger::checkpoint::PartitionState), committed together
//! with the offset; [`order_ledger::resume`] decides what a partition goes on from. Operators look and
//! steer with `order-console`.
//!
//! What stops for a while does so in one of four places: [`circuit`] and its `gate` stop all attempts of a process,
//! [`order_ledger::dlq_limit`] stops a partition that fills the dead-letter topic, what is looked up or written is waited
//! for, and `halt` is the brake that operators have.
//!
//! What decides and computes is pure: [`order_ledger`], [`dead_letter`], [`circuit`], [`retry`] and [`simulation`] know no
//! clock, runtime or connection.

pub mod circuit;
pub mod handler;
pub mod retry;
pub mod service;
pub mod settings;
pub mod simulation;
pub mod webhook;

mod clock;
mod gate;
mod group_numbers;
mod halt;
mod letters;
mod metrics;
mod pauses;
mod readiness;
mod release;
mod report;
mod session;
mod watch;
mod worker;
