//! Metrics: a Prometheus registry that the service fills and `/metrics` shows.
//!
//! Names and labels of messaging are OpenTelemetry's, as Prometheus spells them
//! (<https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/>). What a service keeps anyway is read when it
//! is asked for, with [`Families`]; what only happens is counted when it does.

mod durations;
mod families;
mod messaging;
mod service_metrics;

pub use durations::Durations;
pub use families::Families;
pub use messaging::{Messaging, MessagingLabels};
pub use service_metrics::Metrics;
