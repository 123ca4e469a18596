//! Stands between clients and a broker or a registry, and makes the network fail where a test says so.
//!
//! [`Gate`] passes bytes through, or refuses and cuts everything: a server that is down, for the clients of one test only.
//! [`Proxy`] knows Kafka's frames as well: it can hold an answer back, lose it after the broker has applied the request, or
//! change bytes of the batches that a fetch brings.
//! It puts its own address in place of the broker's in what clients learn the cluster from, so that they stay with it.
//! One proxy stands for a cluster of one broker.
//!
//! Framing: <https://kafka.apache.org/protocol#protocol_common>.

mod frames;
mod gate;

pub use frames::{DamageKind, Fault, Proxy};
pub use gate::Gate;
pub use kafka_protocol::messages::ApiKey;

#[cfg(test)]
mod tests;
