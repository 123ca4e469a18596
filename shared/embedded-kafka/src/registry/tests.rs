//! Replays requests to Confluent's registry, recorded in `tests/registry`, and compares the responses.
//!
//! The recording has no `guid` and `ts`, which this registry does not have. The comparison ignores the text after
//! `details:` of an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::registry::api::routes;

const EXCHANGES: &str = include_str!("../../tests/registry/exchanges.jsonl");

/// Subjects that the recording lists but whose registration it leaves out: other schema types and imports.
const LEFT_OUT_SUBJECTS: [&str; 4] = ["imp-value", "invoice-value", "js-value", "pb-value"];

#[derive(Deserialize)]
struct Exchange {
    id: String,
    method: String,
    path: String,
    #[serde(default)]
    body: String,
    /// Absent: the default. Empty: no header.
    content_type: Option<String>,
    status: u16,
    answer_type: Option<String>,
    answer: Value,
}

#[tokio::test]
async fn answers_are_those_that_were_recorded() {
    let routes = routes(Arc::default());
    let mut ids = BTreeMap::new();
    for exchange in lines::<Exchange>(EXCHANGES) {
        let (status, answer_type, answer) = ask(&routes, &exchange, &ids).await;
        let mut expected = comparable(&exchange.answer);
        if let Some(recorded) = expected.get("id").and_then(Value::as_u64) {
            // The requests that the recording leaves out have used up ids.
            let ours = *ids.entry(recorded).or_insert_with(|| answer["id"].as_u64());
            assert_eq!(ids.values().filter(|id| **id == ours).count(), 1, "{}", exchange.id);
            expected["id"] = json!(ours);
        }
        assert_eq!((status, comparable(&answer)), (exchange.status, expected), "{}", exchange.id);
        if let Some(expected) = exchange.answer_type {
            assert_eq!(answer_type, expected, "{}", exchange.id);
        }
    }
}

async fn ask(
    routes: &Router,
    exchange: &Exchange,
    ids: &BTreeMap<u64, Option<u64>>,
) -> (u16, String, Value) {
    let mut path = exchange.path.clone();
    if let Some(Ok(recorded)) = path.strip_prefix("/schemas/ids/").map(str::parse)
        && let Some(Some(ours)) = ids.get(&recorded)
    {
        path = format!("/schemas/ids/{ours}");
    }
    let mut request = Request::builder().method(exchange.method.as_str()).uri(path);
    let usual = "application/vnd.schemaregistry.v1+json";
    let content_type = exchange.content_type.as_deref().unwrap_or(usual);
    if !content_type.is_empty() {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    let request = request.body(Body::from(exchange.body.clone())).expect("a request");
    let response = routes.clone().oneshot(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let answer_type = head.headers[header::CONTENT_TYPE].to_str().expect("text").to_owned();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    (head.status.as_u16(), answer_type, serde_json::from_slice(&body).expect("JSON"))
}

/// Returns the parts of a response that must be equal.
fn comparable(answer: &Value) -> Value {
    let mut answer = answer.clone();
    if let Some(subjects) = answer.as_array_mut() {
        subjects.retain(|subject| LEFT_OUT_SUBJECTS.iter().all(|left_out| subject != left_out));
    }
    // Confluent's registry sorts the attributes of a schema.
    if let Some(Value::String(schema)) = answer.get("schema") {
        answer["schema"] = serde_json::from_str(schema).expect("a schema");
    }
    let code = answer.get("error_code").and_then(Value::as_u64);
    if let Some(Value::String(message)) = answer.get_mut("message") {
        let text = message.split_once("details:").map_or(message.as_str(), |(text, _)| text);
        // Each JSON library has its own texts for an invalid body.
        *message = if matches!(code, Some(400 | 422)) { String::new() } else { text.to_owned() };
    }
    answer
}

fn lines<T: for<'de> Deserialize<'de>>(text: &'static str) -> impl Iterator<Item = T> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of the recording"))
}
