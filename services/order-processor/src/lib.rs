//! Keeps an exact running average of orders; retries transient failures and dead-letters the rest.
//!
//! Reading order: [`handler`] is where your own work goes; `handler::webhook` is an example. [`service`] is
//! `order-processor run`: it prepares the topics and runs the `member`, which gives each assigned partition to a worker in
//! `partition`. A worker's numbers are a [`PartitionState`](order_ledger::checkpoint::PartitionState), committed together
//! with the offset; [`order_ledger::resume`] decides where a partition resumes. Operators use `order-console`.
//!
//! `flow` decides what may begin: a circuit breaker and its limiter pause all attempts of a process, the dead-letter limit
//! pauses a partition that fills the dead-letter topic, and operators pause replicas through the pause switch.
//!
//! The rules are pure: [`order_ledger`], [`dead_letter`], the circuit breaker, the retry policy and the simulation know no
//! runtime and no connection.

pub mod service;

mod member;

mod partition;

pub mod handler;

mod flow;

mod dlq_writer;

mod telemetry;

pub mod settings;
