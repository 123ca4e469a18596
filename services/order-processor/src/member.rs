//! Membership in the consumer group: which partitions this replica has, where they go on, and what it commits for them.

pub(crate) mod announcing;
pub(crate) mod budget;
pub(crate) mod committing;
pub(crate) mod loading;
pub(crate) mod session;
pub(crate) mod stopping;
pub(crate) mod unavailable;
pub(crate) mod viewing;
