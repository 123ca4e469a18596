//! The broker over real sockets, asked by a client made of the protocol's codecs and by `rskafka`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::future_not_send, reason = "each test runs on a thread of its own")]

mod client;

mod groups;
mod leaders;
mod records;
mod restart;
mod rskafka_client;
mod topics;
mod versions;
