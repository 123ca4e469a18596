//! Proxies between clients and a broker or a registry, with faults of the network.
//!
//! [`Gate`] forwards bytes, or refuses and cuts all connections, like a server that is down.
//! [`Proxy`] knows Kafka's frames as well: it can delay a response, lose it after the broker has applied the request, or
//! change bytes of fetched batches. It replaces the broker's address in Metadata responses with its own, so that clients
//! stay with it. One proxy represents a cluster of one broker.
//!
//! Framing: <https://kafka.apache.org/protocol#protocol_common>.

mod frames;
mod gate;

pub use frames::{DamageKind, Fault, Proxy};
pub use gate::Gate;
pub use kafka_protocol::messages::ApiKey;

#[cfg(test)]
mod tests;
