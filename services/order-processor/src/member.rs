//! Membership in the consumer group: which partitions this replica has, where they resume, and what it commits for them.

pub(crate) mod session;

pub(crate) mod budget;
mod commit_round;
mod committing;
mod events;
pub(crate) mod instance_report;
pub(crate) mod loading;
mod stopping;
mod unavailable;
mod viewing;
mod working;
