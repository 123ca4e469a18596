//! The spans of a record that is part of a trace: one for each attempt, and one for its dead letter.

use std::time::SystemTime;

use service_runtime::trace_context::TraceContext;
use service_runtime::{Span, SpanKind, SpanValue};

use super::worker::Shared;
use crate::handler::{AttemptResult, Source};
use crate::telemetry::labels::of_attempt;

/// A span that has begun; it is dropped with the attempt if that is.
pub(super) struct Begun {
    started: SystemTime,
    context: TraceContext,
    parent: TraceContext,
}

impl Begun {
    /// Begins a span of the trace of `parent`, if spans of it go anywhere.
    pub(super) fn of<H>(shared: &Shared<H>, parent: TraceContext, span_id: u64) -> Option<Self> {
        let is_told = shared.spans.is_on() && parent.is_sampled();
        let context = parent.with_span(span_id).filter(|_| is_told)?;
        Some(Self { started: SystemTime::now(), context, parent })
    }

    /// Ends the span of an attempt.
    pub(super) fn processed<H>(
        self,
        shared: &Shared<H>,
        source: &Source,
        offset: i64,
        outcome: &AttemptResult,
    ) {
        let mut attributes = attributes("process", &source.topic);
        attributes.extend([
            (
                "messaging.consumer.group.name",
                SpanValue::Text(shared.settings.group.group_id.clone()),
            ),
            ("messaging.destination.partition.id", SpanValue::Text(source.partition.to_string())),
            ("messaging.kafka.offset", SpanValue::Number(offset)),
        ]);
        let name = format!("process {}", source.topic);
        self.end(shared, name, SpanKind::Consumer, attributes, of_attempt(outcome));
    }

    /// Ends the span of a dead letter that is written.
    pub(super) fn written<H>(self, shared: &Shared<H>) {
        let topic = &shared.settings.group.dlq_topic;
        let attributes = attributes("send", topic);
        self.end(shared, format!("send {topic}"), SpanKind::Producer, attributes, None);
    }

    fn end<H>(
        self,
        shared: &Shared<H>,
        name: String,
        kind: SpanKind,
        attributes: Vec<(&'static str, SpanValue)>,
        error_type: Option<&'static str>,
    ) {
        let Self { started, context, parent } = self;
        let parent = Some(parent);
        shared.spans.end(Span { name, kind, context, parent, started, attributes, error_type });
    }
}

fn attributes(operation: &str, topic: &str) -> Vec<(&'static str, SpanValue)> {
    let text = |text: &str| SpanValue::Text(text.to_owned());
    vec![
        ("messaging.system", text("kafka")),
        ("messaging.operation.name", text(operation)),
        ("messaging.operation.type", text(operation)),
        ("messaging.destination.name", text(topic)),
    ]
}
