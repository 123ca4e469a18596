//! The metrics of a generator besides those of its report.

use std::fmt;
use std::time::SystemTime;

use kafka_client::writer::{OutgoingRecord, ProduceError, Writer};
use kafka_core::TopicPartition;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use schema_registry::SchemaRegistry;
use service_runtime::trace_context::Trace;
use service_runtime::{
    Context, Families, Messaging, MessagingLabels, Metrics, Span, SpanKind, SpanValue, Spans,
};
use tokio::time::Instant;

use crate::senders::delivery::Transport;

/// Registers the metrics of the schema registry's client and of `ORDER_RATE`.
pub(crate) fn register(metrics: &Metrics, registry: SchemaRegistry, rate_target: f64) {
    let scrape = Scrape { registry, rate_target };
    metrics.register(|metrics| metrics.register_collector(Box::new(scrape)));
}

struct Scrape {
    registry: SchemaRegistry,
    rate_target: f64,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        let help = "Records per second that ORDER_RATE asks for; 0 is as fast as it goes";
        families.gauge("orders_generator_rate_target", help, &self.rate_target)?;
        families.registry_requests(self.registry.requests())
    }
}

/// A transport with metrics and spans.
#[derive(Clone, Debug)]
pub(crate) struct Measured<T> {
    inner: T,
    messaging: Messaging,
    spans: Spans,
}

impl<T> Measured<T> {
    /// Measures the requests of `inner`, and ends the spans of acknowledged traced records.
    pub(crate) fn new(inner: T, context: &Context) -> Self {
        let spans = context.spans.clone();
        Self { inner, messaging: Messaging::new(&context.metrics), spans }
    }

    /// Ends the span of every traced record, which the record's header names.
    fn end_spans(
        &self,
        target: &TopicPartition,
        records: &[OutgoingRecord],
        base_offset: i64,
        started: SystemTime,
    ) {
        for (offset, record) in (base_offset..).zip(records) {
            let headers = record.headers.iter();
            let headers = headers.map(|(name, value)| (name.as_bytes(), Some(value.as_ref())));
            let Some(trace) = Trace::of(headers) else { continue };
            let text = |text: &str| SpanValue::Text(text.to_owned());
            self.spans.end(Span {
                name: format!("send {}", target.topic),
                kind: SpanKind::Producer,
                context: trace.context,
                parent: None,
                started,
                attributes: vec![
                    ("messaging.system", text("kafka")),
                    ("messaging.operation.name", text("send")),
                    ("messaging.operation.type", text("send")),
                    ("messaging.destination.name", text(&target.topic)),
                    ("messaging.destination.partition.id", text(&target.partition.to_string())),
                    ("messaging.kafka.offset", SpanValue::Number(offset)),
                ],
                error_type: None,
            });
        }
    }
}

impl Measured<Writer> {
    /// Drops the cached metadata of the cluster; see [`Writer::refresh`].
    pub(crate) fn refresh(&self) {
        self.inner.refresh();
    }
}

impl<T: Transport> Transport for Measured<T> {
    async fn produce(
        &self,
        target: &TopicPartition,
        records: &[OutgoingRecord],
        deadline: Instant,
    ) -> Result<i64, ProduceError> {
        let begun = Instant::now();
        let started = self.spans.is_on().then(SystemTime::now);
        // Boxed, because the compiler cannot resolve the nested types of a writer's future.
        let produced = Box::pin(self.inner.produce(target, records, deadline)).await;
        let error = produced.as_ref().err().map(ProduceError::kind);
        let labels = MessagingLabels::of("send").destination(&target.topic).error(error);
        self.messaging.operations.get_or_create(&labels).observe(begun.elapsed());
        let labels = labels.partition(target.partition);
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        self.messaging.sent.get_or_create(&labels).inc_by(count);
        if let (Ok(base_offset), Some(started)) = (&produced, started) {
            self.end_spans(target, records, *base_offset, started);
        }
        produced
    }
}
