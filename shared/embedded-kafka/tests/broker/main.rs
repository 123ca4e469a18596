//! The broker over real sockets, with a client on `kafka-protocol` and with `rskafka`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::future_not_send, reason = "each test runs on a thread of its own")]

mod client;

mod epochs;
mod fetch_sessions;
mod groups;
mod leaders;
mod limits;
mod nodes;
mod records;
mod restart;
mod rskafka_client;
mod topics;
mod versions;
