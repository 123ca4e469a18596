//! Decides which attempts may start: permits, retries, pauses. The watchdog ends a process whose work is stuck.

pub(crate) mod circuit_breaker;
pub(crate) mod limiter;
pub(crate) mod pause_reasons;
pub(crate) mod pause_switch;
pub(crate) mod releases;
pub(crate) mod retry;
pub(crate) mod watchdog;
