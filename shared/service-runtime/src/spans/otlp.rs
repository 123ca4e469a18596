//! Spans by OTLP: protobuf over HTTP, in batches, from a thread of their own.
//!
//! The endpoint, headers, timeout and the resource's attributes are taken from OpenTelemetry's variables by its own crates
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>). Without an endpoint nothing is exported.

use std::fmt;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use axum::body::Bytes;
use axum::http::{Request, Response};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};
use reqwest::{Client, Url};
use tokio::runtime::{Builder, Runtime};

use super::span::{Span, SpanKind, SpanValue};
use crate::trace_context::TraceContext;

/// Any of them turns the export on.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// How long the end of the process may wait for spans.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// The most that is read of a collector's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Exports spans until it is dropped.
#[derive(Debug)]
pub(super) struct Export {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Export {
    /// Starts to export, if there is anywhere to export to.
    pub(super) fn start(name: &'static str, version: &'static str) -> anyhow::Result<Option<Self>> {
        let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let Some(endpoint) = ENDPOINTS.iter().find(|name| is_set(name)) else { return Ok(None) };
        let text = std::env::var_os(endpoint).unwrap_or_default();
        let url =
            Url::parse(&text.to_string_lossy()).with_context(|| format!("read {endpoint}"))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Http::to(&url)?)
            .build()
            .with_context(|| format!("export spans to {endpoint}"))?;
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", version));
        if !is_set(&SERVICE_NAME) {
            resource = resource.with_service_name(name);
        }
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource.build());
        let scope = InstrumentationScope::builder(name).with_version(version).build();
        Ok(Some(Self { processor, scope }))
    }

    pub(super) fn end(&self, span: Span) {
        self.processor.on_end(data(span, SystemTime::now(), self.scope.clone()));
    }

    pub(super) fn flush(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(FLUSH_MAX) {
            tracing::warn!(%error, "not all spans were exported");
        }
    }
}

fn data(span: Span, end_time: SystemTime, instrumentation_scope: InstrumentationScope) -> SpanData {
    let Span { name, kind, context, parent, started, attributes, error_type } = span;
    let mut attributes: Vec<KeyValue> = attributes
        .into_iter()
        .map(|(name, value)| KeyValue::new(name, otel_value(value)))
        .collect();
    attributes.extend(error_type.map(|error_type| KeyValue::new("error.type", error_type)));
    let mut links = SpanLinks::default();
    if kind == SpanKind::Consumer {
        links.links.extend(parent.map(|parent| Link::with_context(remote(parent))));
    }
    SpanData {
        span_context: otel_context(context, false),
        parent_span_id: parent.map_or(SpanId::INVALID, |parent| parent.span_id().into()),
        parent_span_is_remote: parent.is_some(),
        span_kind: match kind {
            SpanKind::Producer => OtelKind::Producer,
            SpanKind::Consumer => OtelKind::Consumer,
        },
        name: name.into(),
        start_time: started,
        end_time,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: error_type.map_or(Status::Unset, Status::error),
        instrumentation_scope,
    }
}

fn otel_value(value: SpanValue) -> Value {
    match value {
        SpanValue::Number(number) => number.into(),
        SpanValue::Text(text) => text.into(),
    }
}

fn remote(context: TraceContext) -> SpanContext {
    otel_context(context, true)
}

fn otel_context(context: TraceContext, is_remote: bool) -> SpanContext {
    SpanContext::new(
        TraceId::from(context.trace_id().get()),
        SpanId::from(context.span_id()),
        if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED },
        is_remote,
        TraceState::default(),
    )
}

/// The project's HTTP client on a runtime of its own: the exporter's thread has none.
struct Http {
    client: Client,
    runtime: Runtime,
}

impl Http {
    fn to(url: &Url) -> anyhow::Result<Self> {
        let client = http_client::builder(std::slice::from_ref(url))
            .context("set up TLS for the spans' collector")?
            .build()
            .context("set up the client for the spans' collector")?;
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self { client, runtime: runtime.context("start the spans' runtime")? })
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        self.runtime.block_on(async {
            let answer = self.client.execute(request).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.clone_from(answer.headers());
            }
            let body = http_client::read(answer, ANSWER_BYTES_MAX).await?;
            Ok(response.body(body.into())?)
        })
    }
}
