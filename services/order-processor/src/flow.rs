//! What may begin: permits, retries, pause_reasons, and the thread that notices what never ends.

pub(crate) mod circuit_breaker;
pub(crate) mod limiter;
pub(crate) mod pause_reasons;
pub(crate) mod pause_switch;
pub(crate) mod releases;
pub(crate) mod retry;
pub(crate) mod watchdog;
