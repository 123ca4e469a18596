//! Spans of the traces that a service's work is part of.
//!
//! They are exported by builds with the feature `otlp`, where OpenTelemetry's variables say where to. Any other build
//! drops them, and [`Spans::is_on`] is always false.

#[cfg(feature = "otlp")]
mod otlp;
mod span;

pub use span::{Span, SpanKind, SpanValue};

/// Where spans go; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    #[cfg(feature = "otlp")]
    export: Option<std::sync::Arc<otlp::Export>>,
}

impl Spans {
    /// Returns where the spans of a service go, by OpenTelemetry's variables.
    #[cfg(feature = "otlp")]
    pub(crate) fn of_service(name: &'static str, version: &'static str) -> anyhow::Result<Self> {
        Ok(Self { export: otlp::Export::start(name, version)?.map(std::sync::Arc::new) })
    }

    /// Returns whether spans of sampled traces go anywhere.
    #[inline]
    pub fn is_on(&self) -> bool {
        #[cfg(feature = "otlp")]
        return self.export.is_some();
        #[cfg(not(feature = "otlp"))]
        false
    }

    /// Exports a span that ends at this moment. Drops it while too many wait.
    #[cfg_attr(
        not(feature = "otlp"),
        expect(unused_variables, clippy::needless_pass_by_value, reason = "they go nowhere")
    )]
    pub fn end(&self, span: Span) {
        #[cfg(feature = "otlp")]
        if let Some(export) = self.export.as_ref().filter(|_| span.context.is_sampled()) {
            export.end(span);
        }
    }

    /// Sends what waits, and waits for that a little.
    #[cfg(feature = "otlp")]
    pub(crate) fn flush(&self) {
        if let Some(export) = &self.export {
            export.flush();
        }
    }
}
