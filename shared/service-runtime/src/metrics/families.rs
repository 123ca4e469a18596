//! Metrics whose values are read at each scrape.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

/// Writes families of metrics, each once, within a `prometheus_client::collector::Collector`.
#[derive(Debug)]
pub struct Families<'a>(DescriptorEncoder<'a>);

impl<'a> Families<'a> {
    /// Writes with what a collector was given.
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Writes a gauge without labels.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn gauge(&mut self, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)
    }

    /// Writes a counter without labels; `name` has no `_total`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// Writes a family of gauges, also one without any.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        gauges: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in gauges {
            encoder.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Writes how many requests a schema registry has answered with each HTTP status; `None` is no answer.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn registry_requests(&mut self, requests: BTreeMap<Option<u16>, u64>) -> fmt::Result {
        let code = |status: Option<u16>| {
            status.map_or_else(|| "unreachable".to_owned(), |status| status.to_string())
        };
        self.counters(
            "schema_registry_requests",
            "Requests to the schema registry by HTTP status; unreachable is no answer",
            requests.into_iter().map(|(status, count)| ([("code", code(status))], count)),
        )
    }

    /// Writes a family of counters, also one without any; `name` has no `_total`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        counters: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in counters {
            let mut encoder = encoder.encode_family(&labels)?;
            encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }
}
