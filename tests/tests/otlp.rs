//! The spans of an order, over OTLP.
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use end_to_end::service::PATIENCE;
use end_to_end::{Scenario, topic};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use service_runtime::trace_context::TraceContext;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

const GOOD: usize = 2;
const BAD: usize = 1;
/// One span for each sent order, for each processed order, and for each dead letter.
const SPANS: usize = 2 * (GOOD + BAD) + BAD;

#[tokio::test(flavor = "multi_thread")]
async fn the_spans_of_a_sent_processed_and_dead_lettered_order_are_one_trace() -> Result<()> {
    let collector = Collector::start().await?;
    let scenario = Scenario::open("otlp")
        .await?
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)
        .with("OTEL_BSP_SCHEDULE_DELAY", "100")
        .with("TRACE_SAMPLE_RATIO", "1")
        .with("PERMANENT_PRICE_ABOVE", "50");
    publish(&scenario, GOOD, ["10", "20"]).await?;
    publish(&scenario, BAD, ["100", "200"]).await?;
    let processor = scenario.processor("processor")?.start()?;
    scenario.stats_at_end(3).await?;
    let spans = collector.spans_when(SPANS).await?;
    processor.drain().await?;

    let orders = scenario.orders_topic();
    let records = topic::read(scenario.platform().bootstrap_servers(), orders).await?;
    assert_eq!(records.len(), GOOD + BAD);
    for record in records {
        let parent = record.header_text("traceparent").context("find a traceparent")?;
        let parent = TraceContext::parse(parent.as_bytes()).context("read it")?;
        let trace: Vec<_> = spans
            .iter()
            .filter(|received| received.trace_id() == parent.trace_id().get())
            .collect();
        let named = |name: String| trace.iter().find(move |received| received.span.name == name);
        let span_id = parent.span_id().to_be_bytes().to_vec();

        let sent = named(format!("send {orders}")).context("find the span of sending")?;
        assert_eq!(
            (sent.span.kind(), sent.service.as_str()),
            (SpanKind::Producer, "order-generator")
        );
        assert_eq!((&sent.span.span_id, sent.span.parent_span_id.as_slice()), (&span_id, &[][..]));

        let processed =
            named(format!("process {orders}")).context("find the span of processing")?;
        assert_eq!(processed.span.kind(), SpanKind::Consumer);
        assert_eq!(processed.service, "order-processor");
        assert_eq!(processed.span.parent_span_id, span_id);
        let links: Vec<_> = processed.span.links.iter().map(|link| &link.span_id).collect();
        assert_eq!(links, [&span_id]);
        assert_eq!(processed.attribute("messaging.destination.name"), Some(orders.to_owned()));
        assert_eq!(processed.attribute("messaging.kafka.offset"), Some(record.offset.to_string()));
        assert_eq!(
            processed.attribute("messaging.consumer.group.name"),
            Some(scenario.group().to_owned())
        );

        let letter = named(format!("send {}", scenario.dead_letter_topic()));
        assert_eq!(letter.is_some(), processed.attribute("error.type").is_some());
        if let Some(letter) = letter {
            assert_eq!(processed.attribute("error.type").as_deref(), Some("simulated"));
            assert_eq!(letter.span.kind(), SpanKind::Producer);
            assert_eq!(letter.span.parent_span_id, span_id);
        }
        assert_eq!(trace.len(), if letter.is_some() { 3 } else { 2 });
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_collector_delays_no_orders() -> Result<()> {
    let scenario = Scenario::open("otlp-nobody")
        .await?
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .with("TRACE_SAMPLE_RATIO", "1");
    publish(&scenario, 500, ["10", "20"]).await?;
    let processor = scenario.processor("processor")?.start()?;
    assert_eq!(scenario.stats_at_end(500).await?.orders, 500);
    processor.drain().await
}

async fn publish(scenario: &Scenario, orders: usize, prices: [&str; 2]) -> Result<()> {
    let generator = scenario.generator("generator")?.env("ORDER_COUNT", &orders.to_string());
    let generator = generator.env("PRICE_MIN", prices[0]).env("PRICE_MAX", prices[1]);
    generator.env("ORDER_RATE", "0").start()?.expect_exit(0).await
}

/// A span and its service.
#[derive(Clone, Debug)]
struct Received {
    service: String,
    span: Span,
}

impl Received {
    fn trace_id(&self) -> u128 {
        self.span.trace_id.iter().fold(0, |id, byte| id << 8 | u128::from(*byte))
    }

    fn attribute(&self, name: &str) -> Option<String> {
        texts(&self.span.attributes).remove(name)
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect()
}

/// A collector of spans over HTTP.
struct Collector {
    endpoint: String,
    received: Arc<watch::Sender<Vec<Received>>>,
    _server: JoinSet<()>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let received = Arc::new(watch::Sender::new(Vec::new()));
        let router =
            Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&received));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Ok(Self { endpoint, received, _server: server })
    }

    /// Waits for a number of spans, and returns all spans so far.
    async fn spans_when(&self, count: usize) -> Result<Vec<Received>> {
        let mut received = self.received.subscribe();
        let enough = received.wait_for(|received| received.len() >= count);
        let waited = timeout(PATIENCE, enough)
            .await
            .map(|received| received.map(|received| received.clone()));
        Ok(waited.with_context(|| format!("there are only {:#?}", self.received.borrow()))??)
    }
}

async fn take(
    State(received): State<Arc<watch::Sender<Vec<Received>>>>,
    body: Bytes,
) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    for resource in request.resource_spans {
        let attributes = resource.resource.map(|resource| texts(&resource.attributes));
        let service = attributes.and_then(|mut texts| texts.remove("service.name"));
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let service = service.clone().unwrap_or_default();
            received.send_modify(|received| received.push(Received { service, span }));
        }
    }
    StatusCode::OK
}
