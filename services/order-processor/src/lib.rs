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
//!
//! # Invariants
//!
//! - A record is complete only when its dead letter is acknowledged.
//! - A letter is final: it is written after a commit that dooms the record, and no attempt follows.
//! - A late commit does not take a doom back whose letter is written.
//! - Every letter gets smaller until the topic takes it, and its record is complete only then.
//! - A letter that the topic refuses for its key or its time arrives in another form.
//! - A replica commits at most once an interval, and sooner for a waiting dead letter, a stop, a pause or a rebalance.
//! - A stop ends within `DRAIN_TIMEOUT_MS` and 5 s, whatever Kafka does.
//! - Records of a key are processed in order while one of them waits.
//! - A value whose schema a header names is never read by another schema.
//! - A processor writes nothing to the registry, and a generator only a schema that is missing.
//! - An outage of the handler's dependency dead-letters nothing, uses up no retry, and ends by itself.
//! - During an outage there is one probe at a time, and no permit is lost or made.
//! - An outage lasts only while an instance that is not paused has an order to probe with.
//! - One order that always fails is dead-lettered, and delays no other.
//! - Too many dead letters of one type pause the partition until a newer release, through restarts and rebalances.
//! - A handler that never returns ends the process, even if it blocks every thread.
//! - A paused replica takes in no record and begins no work. Work in flight ends and counts.
//! - A replica reports `paused` only when it has no work in flight and everything is committed.
//! - The series of a partition vanish with it, and no counter goes back when the partition returns.
//! - The metrics of all replicas add up to the group's work. Each attempt is timed once.
//! - A partition whose window is full is named with the reason of its first incomplete record, and delays no other.
//! - A partition without a leader delays no other, and `/readyz`, log, `stats`, dashboard and `top` name it.
//! - `AUTO_OFFSET_RESET` applies to a group that is new to the topic. Added partitions are read from their
//!   beginning.

pub mod service;

mod member;

mod partition;

pub mod handler;

mod flow;

mod dlq_writer;

mod telemetry;

pub mod settings;
