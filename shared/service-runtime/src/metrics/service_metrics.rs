//! The metrics of one service.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The metrics of a service; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    control_paused: Gauge,
}

impl Metrics {
    /// Returns the metrics that every service has.
    pub(crate) fn of_service(name: &'static str, version: &'static str) -> Self {
        let metrics = Self::default();
        metrics.register(|registry| {
            let build = Info::new([("service", name), ("version", version)]);
            registry.register("build", "Which build this is", build);
            let help = "1 while the control topic keeps this process paused";
            registry.register("orders_control_paused", help, metrics.control_paused.clone());
        });
        metrics
    }

    /// Hands out the registry to register metrics in.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns the gauge that is 1 while the control topic keeps this process stopped, and 0 otherwise.
    pub fn control_paused(&self) -> &Gauge {
        &self.control_paused
    }

    /// Returns all metrics as `OpenMetrics` text.
    ///
    /// # Errors
    ///
    /// When a metric cannot be encoded.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_says_which_build_it_is_and_whether_it_is_stopped() {
        let metrics = Metrics::of_service("order-processor", "1.2.3");
        metrics.control_paused().set(1);

        let text = metrics.encode().unwrap();

        let build = "build_info{service=\"order-processor\",version=\"1.2.3\"} 1\n";
        assert!(text.contains(build), "{text}");
        assert!(text.contains("\norders_control_paused 1\n"), "{text}");
    }
}
