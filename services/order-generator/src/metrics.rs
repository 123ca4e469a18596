//! The metrics of a generator besides those of its report.

use std::fmt;
use std::time::SystemTime;

use kafka_client::producer::{Attempted, OnAttempt, ProduceError};
use kafka_core::TopicPartition;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use schema_registry::SchemaRegistry;
use service_runtime::{
    Context, Families, Messaging, MessagingLabels, Metrics, Span, SpanKind, SpanValue, Spans,
};

use crate::senders::batch::Traced;

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

/// What senders and transports measure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measures {
    messaging: Messaging,
    spans: Spans,
}

impl Measures {
    /// Registers the metrics.
    pub(crate) fn new(context: &Context) -> Self {
        Self { messaging: Messaging::new(&context.metrics), spans: context.spans.clone() }
    }

    /// Returns what a producer calls after every attempt to write a batch.
    pub(crate) fn on_attempt(&self) -> OnAttempt {
        let operations = self.messaging.operations.clone();
        OnAttempt::new(move |target, attempted| {
            let Attempted { duration, error_type } = attempted;
            let labels = MessagingLabels::of("send").destination(&target.topic).error(error_type);
            operations.get_or_create(&labels).observe(duration);
        })
    }

    /// Counts the orders of a batch that has an outcome.
    pub(crate) fn sent(
        &self,
        target: &TopicPartition,
        orders: usize,
        error: Option<&ProduceError>,
    ) {
        let labels = MessagingLabels::of("send")
            .destination(&target.topic)
            .error(error.map(ProduceError::kind))
            .partition(target.partition);
        let count = u64::try_from(orders).unwrap_or(u64::MAX);
        self.messaging.sent.get_or_create(&labels).inc_by(count);
    }

    /// Ends the spans of the traced orders of an acknowledged batch; `base_offset` is that of its first order, if it is known.
    pub(crate) fn end_spans(
        &self,
        target: &TopicPartition,
        traces: &[Traced],
        base_offset: Option<i64>,
        started: SystemTime,
    ) {
        if !self.spans.is_on() {
            return;
        }
        for Traced { index, context } in traces {
            let text = |text: &str| SpanValue::Text(text.to_owned());
            let mut attributes = vec![
                ("messaging.system", text("kafka")),
                ("messaging.operation.name", text("send")),
                ("messaging.operation.type", text("send")),
                ("messaging.destination.name", text(&target.topic)),
                ("messaging.destination.partition.id", text(&target.partition.to_string())),
            ];
            let delta = i64::try_from(*index).unwrap_or_default();
            let offset = base_offset.map(|base_offset| SpanValue::Number(base_offset + delta));
            attributes.extend(offset.map(|offset| ("messaging.kafka.offset", offset)));
            self.spans.end(Span {
                name: format!("send {}", target.topic),
                kind: SpanKind::Producer,
                context: *context,
                parent: None,
                started,
                attributes,
                error_type: None,
            });
        }
    }
}
