//! The registry against what Confluent's answered, recorded in `tests/registry`.
//!
//! Of the recording these are left out: other schema types (JSON, PROTOBUF; ours lists only AVRO), references between schemas,
//! setting modes and what they change, importing under a given id, contexts and the cluster's metadata, and the routes below a
//! schema's id or version (`…/schema`, `…/subjects`, `…/versions`, `…/referencedby`); besides them a decimal with a new scale,
//! which the Avro library takes for incompatible, a subject of 500 characters, registering in parallel, and a body without a
//! `Content-Type`, which ours refuses: a page of any site can have a browser send one. Of an answer, `guid`, `ts` and `deleted` are left out, which
//! ours does not have, and of an error's text what follows `details:`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use apache_avro::Schema;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, header},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::registry::api::routes;
use crate::registry::canonical::canonical;
use crate::registry::store::{Level, Store};

const EXCHANGES: &str = include_str!("../../tests/registry/exchanges.jsonl");
const CANONICAL: &str = include_str!("../../tests/registry/canonical.jsonl");
const COMPATIBILITY: &str = include_str!("../../tests/registry/compatibility.jsonl");

/// Subjects of the recording that exist only because of what is left out.
const LEFT_OUT_SUBJECTS: [&str; 4] = ["imp-value", "invoice-value", "js-value", "pb-value"];

#[derive(Deserialize)]
struct Exchange {
    id: String,
    method: String,
    path: String,
    #[serde(default)]
    body: String,
    /// Absent: the usual one. Empty: none.
    content_type: Option<String>,
    /// Absent: `*/*`. Empty: none.
    accept: Option<String>,
    status: u16,
    answer_type: Option<String>,
    answer: Value,
}

#[tokio::test]
async fn answers_are_those_that_were_recorded() {
    let routes = routes(Arc::new(Mutex::new(Store::default())));
    let mut ids = BTreeMap::new();
    for exchange in lines::<Exchange>(EXCHANGES) {
        let (status, answer_type, answer) = ask(&routes, &exchange, &ids).await;
        let mut expected = comparable(&exchange.answer);
        if let Some(recorded) = expected.get("id").and_then(Value::as_u64) {
            // Ids are the same but for those that what is left out has used up.
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

#[test]
fn schemas_are_stored_as_they_were_recorded() {
    for line in lines::<Value>(CANONICAL) {
        let text = line["schema"].as_str().expect("a schema");
        let schema: Value = serde_json::from_str(text).expect("JSON");
        // Java also takes a record that says it is an error.
        let stricter = schema["type"] == "error";
        match line["stored"].as_str() {
            Some(stored) => assert_eq!(canonical(&schema), stored),
            None => assert!(Schema::parse(&schema).is_err(), "{text}"),
        }
        assert_eq!(
            Schema::parse(&schema).is_ok(),
            line["stored"].is_string() && !stricter,
            "{text}"
        );
    }
}

#[test]
fn compatibility_is_judged_as_it_was_recorded() {
    for line in lines::<Value>(COMPATIBILITY) {
        let [old, new] = ["old", "new"].map(|key| Schema::parse(&line[key]).expect("a schema"));
        for (level, verdict) in line["verdicts"].as_object().expect("verdicts") {
            let case = (line["case"].as_str().expect("a name"), level.as_str());
            let level: Level = level.parse().expect("a level");
            let stricter = matches!(
                case,
                ("rename record with alias", "BACKWARD") | ("decimal scale change", _)
            );
            let expected = verdict.as_bool().expect("a verdict") && !stricter;
            assert_eq!(level.problem(&old, &new).is_none(), expected, "{case:?}");
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
    let usual = [
        (header::CONTENT_TYPE, &exchange.content_type, "application/vnd.schemaregistry.v1+json"),
        (header::ACCEPT, &exchange.accept, "*/*"),
    ];
    for (name, value, usual) in usual {
        let value = value.as_deref().unwrap_or(usual);
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    let request = request.body(Body::from(exchange.body.clone())).expect("a request");
    let response = routes.clone().oneshot(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let answer_type = head.headers[header::CONTENT_TYPE].to_str().expect("text").to_owned();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    (head.status.as_u16(), answer_type, serde_json::from_slice(&body).expect("JSON"))
}

/// Returns what two answers have in common when they say the same.
fn comparable(answer: &Value) -> Value {
    let mut answer = answer.clone();
    if let Some(subjects) = answer.as_array_mut() {
        subjects.retain(|subject| LEFT_OUT_SUBJECTS.iter().all(|left_out| subject != left_out));
    }
    if let Some(Value::Array(messages)) = answer.get("messages") {
        answer["messages"] = json!(if messages.is_empty() { "none" } else { "some" });
    }
    let code = answer.get("error_code").and_then(Value::as_u64);
    if let Some(Value::String(message)) = answer.get_mut("message") {
        let words = message.split_once("details:").map_or(message.as_str(), |(words, _)| words);
        // What is wrong with a body, each JSON library says in its own words.
        *message = if matches!(code, Some(400 | 422)) { String::new() } else { words.to_owned() };
    }
    answer
}

fn lines<T: for<'de> Deserialize<'de>>(text: &'static str) -> impl Iterator<Item = T> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of the recording"))
}
