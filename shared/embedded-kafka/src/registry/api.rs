//! The REST interface: routes, bodies, error envelopes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::registry::store::{
    Deletion, Level, Refusal, Scope, Store, Version, Wanted, no_subject, refusal,
};

const MEDIA_TYPES: [&str; 3] = [
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
];

type Shared = State<Arc<Mutex<Store>>>;
pub(super) type Answer = Result<Value, Refusal>;

/// The query parameters that mean something here; all others are ignored.
#[derive(Deserialize, Default)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of different requests")]
struct Parameters {
    deleted: bool,
    permanent: bool,
    verbose: bool,
    #[serde(rename = "defaultToGlobal")]
    default_to_global: bool,
    #[serde(rename = "subjectPrefix")]
    subject_prefix: String,
}

#[derive(Deserialize)]
struct SchemaBody {
    #[serde(default)]
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
}

#[derive(Deserialize)]
struct LevelBody {
    compatibility: String,
}

/// Returns the routes of a registry.
pub(super) fn routes(store: Arc<Mutex<Store>>) -> Router {
    Router::new()
        .route("/", get(|| async { reply(Ok(json!({}))) }))
        .route("/schemas/types", get(|| async { reply(Ok(json!(["AVRO"]))) }))
        .route("/mode", get(|| async { reply(Ok(json!({ "mode": "READWRITE" }))) }))
        .route("/schemas/ids/{id}", get(schema_by_id))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(lookup).delete(delete_subject))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version).delete(delete_version))
        .route("/compatibility/subjects/{subject}/versions", post(check_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(check_one))
        .route("/config", get(global_level).put(set_global_level).delete(delete_global_level))
        .route("/config/{subject}", get(level).put(set_level).delete(delete_level))
        .fallback(|| async { status(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async { status(StatusCode::METHOD_NOT_ALLOWED) })
        .layer(middleware::from_fn(negotiate))
        .with_state(store)
}

async fn schema_by_id(State(store): Shared, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse() else { return status(StatusCode::NOT_FOUND) };
    reply(lock(&store).schema(id).map(|(subject, version, schema)| {
        json!({ "subject": subject, "version": version.number, "schemaType": "AVRO", "schema": schema })
    }))
}

async fn subjects(State(store): Shared, Query(parameters): Query<Parameters>) -> Response {
    let store = lock(&store);
    let subjects = store.subjects(parameters.scope());
    let subjects: Value =
        subjects.filter(|subject| subject.starts_with(&parameters.subject_prefix)).collect();
    reply(Ok(subjects))
}

async fn versions(
    State(store): Shared,
    Path(subject): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let store = lock(&store);
    let versions = store.versions(&subject, parameters.scope());
    reply(versions.map(|versions| versions.into_iter().map(|version| version.number).collect()))
}

async fn version(
    State(store): Shared,
    Path((subject, version)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let store = lock(&store);
    let found =
        version.parse().and_then(|version| store.version(&subject, version, parameters.scope()));
    reply(found.map(|version| described(&subject, version, &store)))
}

async fn register(State(store): Shared, Path(subject): Path<String>, body: Bytes) -> Response {
    let mut store = lock(&store);
    reply(schema(&body).and_then(|schema| {
        let version = store.register(&subject, &schema)?.clone();
        let schema = store.text(&version);
        let (id, version) = (version.id, version.number);
        Ok(json!({ "id": id, "version": version, "schemaType": "AVRO", "schema": schema }))
    }))
}

async fn lookup(
    State(store): Shared,
    Path(subject): Path<String>,
    Query(parameters): Query<Parameters>,
    body: Bytes,
) -> Response {
    let store = lock(&store);
    reply(schema(&body).and_then(|schema| {
        let version = store.lookup(&subject, &schema, parameters.scope())?;
        Ok(described(&subject, version, &store))
    }))
}

async fn delete_subject(
    State(store): Shared,
    Path(subject): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Response {
    reply(lock(&store).delete_subject(&subject, parameters.deletion()).map(Value::from))
}

async fn delete_version(
    State(store): Shared,
    Path((subject, version)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let mut store = lock(&store);
    let deleted = version
        .parse()
        .and_then(|version| store.delete_version(&subject, version, parameters.deletion()));
    reply(deleted.map(Value::from))
}

async fn check_all(
    State(store): Shared,
    Path(subject): Path<String>,
    Query(parameters): Query<Parameters>,
    body: Bytes,
) -> Response {
    reply(check(&lock(&store), &subject, None, &parameters, &body))
}

async fn check_one(
    State(store): Shared,
    Path((subject, version)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
    body: Bytes,
) -> Response {
    let wanted = version.parse().map(Some);
    reply(wanted.and_then(|wanted| check(&lock(&store), &subject, wanted, &parameters, &body)))
}

fn check(
    store: &Store,
    subject: &str,
    against: Option<Wanted>,
    parameters: &Parameters,
    body: &[u8],
) -> Answer {
    let messages = store.check(subject, &schema(body)?, against)?;
    let is_compatible = messages.is_empty();
    Ok(if parameters.verbose {
        json!({ "is_compatible": is_compatible, "messages": messages })
    } else {
        json!({ "is_compatible": is_compatible })
    })
}

async fn global_level(State(store): Shared) -> Response {
    reply(Ok(current(lock(&store).level(None).unwrap_or_default())))
}

async fn set_global_level(State(store): Shared, body: Bytes) -> Response {
    reply(change_level(&mut lock(&store), None, &body))
}

async fn delete_global_level(State(store): Shared) -> Response {
    reply(Ok(current(lock(&store).set_level(None, None).unwrap_or_default())))
}

async fn level(
    State(store): Shared,
    Path(subject): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let store = lock(&store);
    let global = store.level(None).filter(|_| parameters.default_to_global);
    let level = store.level(Some(&subject)).or(global).ok_or_else(|| {
        let message =
            format!("Subject '{subject}' does not have subject-level compatibility configured");
        refusal(40408, message)
    });
    reply(level.map(current))
}

async fn set_level(State(store): Shared, Path(subject): Path<String>, body: Bytes) -> Response {
    reply(change_level(&mut lock(&store), Some(&subject), &body))
}

async fn delete_level(State(store): Shared, Path(subject): Path<String>) -> Response {
    let before = lock(&store).set_level(Some(&subject), None);
    reply(before.map(current).ok_or_else(|| no_subject(&subject)))
}

fn change_level(store: &mut Store, subject: Option<&str>, body: &[u8]) -> Answer {
    let level = json::<LevelBody>(body)?.compatibility.parse()?;
    store.set_level(subject, Some(level));
    Ok(json!({ "compatibility": level.as_str() }))
}

fn current(level: Level) -> Value {
    json!({ "compatibilityLevel": level.as_str() })
}

impl Parameters {
    fn scope(&self) -> Scope {
        if self.deleted { Scope::WithDeleted } else { Scope::Live }
    }

    fn deletion(&self) -> Deletion {
        if self.permanent { Deletion::Hard } else { Deletion::Soft }
    }
}

/// Refuses what comes in, or is wanted, in another form than JSON, and names the form of the answer.
///
/// A `POST` has to name its form. Without one, or with that of a text or a form, a page of any site can have a browser send
/// it; any other form makes the browser ask first, and no answer of ours allows it.
async fn negotiate(request: Request, next: Next) -> Response {
    let answered = accepted(request.headers());
    let sent = request.headers().get(header::CONTENT_TYPE);
    let sent = sent.map(|value| media_type(value.to_str().unwrap_or_default()));
    let is_readable = match sent {
        None => request.method() != Method::POST,
        Some(sent) => MEDIA_TYPES.contains(&sent) || (sent == "application/octet-stream"),
    };
    let response = if answered.is_none() {
        status(StatusCode::NOT_ACCEPTABLE)
    } else if is_readable {
        next.run(request).await
    } else {
        status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    };
    let answered = answered.unwrap_or(MEDIA_TYPES[0]);
    ([(header::CONTENT_TYPE, answered)], response).into_response()
}

/// Returns the first form that the client accepts and the registry has.
fn accepted(headers: &HeaderMap) -> Option<&'static str> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Some(MEDIA_TYPES[0]) };
    accept.to_str().unwrap_or_default().split(',').map(media_type).find_map(|wanted| match wanted {
        "*/*" | "application/*" => Some(MEDIA_TYPES[0]),
        wanted => MEDIA_TYPES.into_iter().find(|offered| *offered == wanted),
    })
}

/// Returns a media type without its parameters.
fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

fn schema(body: &[u8]) -> Result<String, Refusal> {
    let body: SchemaBody = json(body)?;
    match body.schema_type.as_deref() {
        None | Some("AVRO") => Ok(body.schema),
        Some(other) => Err(refusal(42201, format!("Invalid schema type {other}"))),
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() {
        return Err(refusal(422, "the request has no body"));
    }
    serde_json::from_slice(body).map_err(|error| refusal(400, error.to_string()))
}

fn described(subject: &str, version: &Version, store: &Store) -> Value {
    let (number, id, schema) = (version.number, version.id, store.text(version));
    json!({ "subject": subject, "version": number, "id": id, "schemaType": "AVRO", "schema": schema })
}

pub(super) fn reply(answer: Answer) -> Response {
    match answer {
        Ok(body) => body.to_string().into_response(),
        Err(Refusal { code, message }) => {
            // A code of five digits begins with its HTTP status.
            let status = if code < 1000 { code } else { code / 100 };
            let status =
                u16::try_from(status).ok().and_then(|code| StatusCode::from_u16(code).ok());
            let body = json!({ "error_code": code, "message": message }).to_string();
            (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body).into_response()
        }
    }
}

fn status(status: StatusCode) -> Response {
    let reason = status.canonical_reason().unwrap_or_default();
    let code = status.as_u16();
    reply(Err(refusal(code.into(), format!("HTTP {code} {reason}"))))
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
