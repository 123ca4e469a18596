//! Traces: from the producer through a dead letter and its replay to the webhook.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use end_to_end::service::field;
use end_to_end::webhook::{Answer, Call};
use end_to_end::{Scenario, Service, Webhook, topic};
use service_runtime::trace_context::TraceContext;

use super::{Header, dlq_json, stats_after_replays, write_exactly};

const ORDERS: usize = 3;
const FOREIGN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const STATE: &str = "vendor=1,other@one=2";

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_producer_through_dead_letter_and_replay_to_the_webhook() -> Result<()>
{
    let webhook = Webhook::start(Answer::Status(400))?;
    let scenario = Scenario::open("traces").await?.with("HANDLER_URL", &webhook.url());
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    produce(&scenario).await?;
    let letters = scenario.letters(ORDERS + 2).await?;
    scenario.stats_at_end(5).await?;

    let produced = traces_of(&scenario, scenario.orders_topic()).await?;
    assert_eq!(produced.len(), ORDERS + 2);
    let by_generator = produced.values().filter(|trace| trace.parse.is_some()).count();
    assert_eq!(by_generator, ORDERS + 1, "{produced:?}");
    for letter in &letters {
        let key = String::from_utf8(letter.key.clone().context("find a key")?)?;
        let trace = &produced[&key];
        assert_eq!(letter.header_text("traceparent"), trace.header);
        line_has_trace(&processor, "goes to the dead-letter topic", &key, trace)?;
    }
    let failed = calls(&webhook)?;

    webhook.answer(|_| Answer::DONE);
    assert_eq!(dlq_json(&scenario, &["replay", "--all"]).await?["sent"], ORDERS + 2);
    stats_after_replays(&scenario, 5).await?;

    let done = calls(&webhook)?;
    for (key, trace) in &produced {
        let [failed, done] = [&failed[key], &done[key]];
        let spans = [failed, done].map(span);
        let Some(context) = trace.parse else {
            assert_eq!(spans, [None, None], "what is not valid is not carried on");
            continue;
        };
        let [first, second] = [spans[0].context("a trace")?, spans[1].context("a trace")?];
        for span in [first, second] {
            assert_eq!(span.trace_id(), context.trace_id());
            assert_ne!(span.span_id(), context.span_id());
            assert!(span.is_sampled());
        }
        assert_ne!(first.span_id(), second.span_id(), "each attempt is a span of its own");
        let state = (key == "foreign").then_some(STATE);
        assert_eq!([failed, done].map(|call| call.tracestate.as_deref()), [state, state]);
        line_has_trace(&processor, "\"processed\"", key, trace)?;
    }
    assert_eq!(traces_of(&scenario, &scenario.replay_topic()).await?, produced);
    processor.drain().await
}

/// Publishes traced orders with the generator, and two orders of another producer.
async fn produce(scenario: &Scenario) -> Result<()> {
    let generator = scenario.generator("generator")?.env("ORDER_COUNT", &ORDERS.to_string());
    let mut generator = generator.env("ORDER_RATE", "0").env("TRACE_SAMPLE_RATIO", "1").start()?;
    generator.expect_exit(0).await?;
    let schema_id = scenario.register_order_schema().await?;
    let traced: &[Header] =
        &[(b"traceparent", Some(FOREIGN.as_bytes())), (b"tracestate", Some(STATE.as_bytes()))];
    let invalid: &[Header] = &[(b"traceparent", Some(b"00-1-2-3")), (b"tracestate", Some(b"a=b"))];
    for (key, headers) in [("foreign", traced), ("invalid", invalid)] {
        let value = topic::order_value(schema_id, key, "Item1", 12.5)?;
        let topic = scenario.orders_topic();
        write_exactly(scenario, topic, Some(key.as_bytes()), Some(value), headers).await?;
    }
    Ok(())
}

/// The trace headers of a record.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    header: Option<String>,
    parse: Option<TraceContext>,
}

/// Returns the trace headers of the records of a topic, by key.
async fn traces_of(scenario: &Scenario, topic: &str) -> Result<BTreeMap<String, Said>> {
    let records = topic::read(scenario.platform().bootstrap_servers(), topic).await?;
    let said = |record: &topic::TopicRecord| {
        let header = record.header_text("traceparent");
        let parse = header.as_ref().and_then(|text| TraceContext::parse(text.as_bytes()));
        let key = String::from_utf8(record.key.clone().context("find a key")?)?;
        Ok((key, Said { header, parse }))
    };
    records.iter().map(said).collect()
}

/// Returns the last call about each order.
fn calls(webhook: &Webhook) -> Result<BTreeMap<String, Call>> {
    let calls: BTreeMap<_, _> =
        webhook.calls().into_iter().map(|call| (call.order.order_id.clone(), call)).collect();
    ensure!(calls.len() == ORDERS + 2, "{calls:?}");
    Ok(calls)
}

fn span(call: &Call) -> Option<TraceContext> {
    TraceContext::parse(call.traceparent.as_ref()?.as_bytes())
}

/// Checks that the line about an order names its trace, if it has one.
fn line_has_trace(processor: &Service, message: &str, order_id: &str, trace: &Said) -> Result<()> {
    let lines = processor.lines();
    let line = lines.iter().find(|line| line.contains(message) && line.contains(order_id));
    let line = line.with_context(|| format!("find the line {message} about {order_id}"))?;
    let named = field(line, "trace_id").ok();
    let expected = trace.parse.map(|context| context.trace_id().to_string().into());
    ensure!(named == expected, "{expected:?} is not in {line}");
    Ok(())
}
