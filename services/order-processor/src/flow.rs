//! Decides what may begin: permits, retries and pauses; and the watchdog for work that never ends.

pub(crate) mod circuit_breaker;
pub(crate) mod limiter;
pub(crate) mod pause_reasons;
pub(crate) mod pause_switch;
pub(crate) mod releases;
pub(crate) mod retry;
pub(crate) mod watchdog;
