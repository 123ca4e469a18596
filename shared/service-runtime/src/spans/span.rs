//! One span.

use std::time::SystemTime;

use crate::trace_context::TraceContext;

/// On which side of a topic a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// It sends a record.
    Producer,
    /// It processes one.
    Consumer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanValue {
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// The operation and what it is about, such as `send orders`.
    pub name: String,
    /// Its side.
    pub kind: SpanKind,
    /// The span itself.
    pub context: TraceContext,
    /// The span that caused it, in another process; a consumer's span is linked to it, too.
    pub parent: Option<TraceContext>,
    /// When it began.
    pub started: SystemTime,
    /// What is known about it, by OpenTelemetry's names.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// Why it failed, if it did: a word of a closed set.
    pub error_type: Option<&'static str>,
}
