//! The REST interface: routes and bodies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::registry::refusal::Refusal;
use crate::registry::store::{Store, Version};

/// The media types of bodies; the first one is that of responses.
const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
    "application/octet-stream",
];

type Shared = State<Arc<Mutex<Store>>>;
type Answer = Result<String, Refusal>;

#[derive(Deserialize)]
struct SchemaBody {
    #[serde(default)]
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
}

/// Returns the routes of a registry.
pub(super) fn routes(store: Arc<Mutex<Store>>) -> Router {
    Router::new()
        .route("/schemas/ids/{id}", get(schema_by_id))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(lookup))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .fallback(|| async { Refusal::of_status(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async {
            Refusal::of_status(StatusCode::METHOD_NOT_ALLOWED)
        })
        .layer(middleware::from_fn(check_media_type))
        .with_state(store)
}

async fn schema_by_id(State(store): Shared, Path(id): Path<String>) -> Answer {
    let id = id.parse().map_err(|_| Refusal::of_status(StatusCode::NOT_FOUND))?;
    let Version { subject, number, schema, .. } = lock(&store).by_id(id)?;
    let body =
        json!({ "subject": subject, "version": number, "schemaType": "AVRO", "schema": schema });
    Ok(body.to_string())
}

async fn subjects(State(store): Shared) -> String {
    lock(&store).subjects().collect::<Value>().to_string()
}

async fn versions(State(store): Shared, Path(subject): Path<String>) -> Answer {
    let numbers: Value = lock(&store).versions(&subject)?.collect();
    Ok(numbers.to_string())
}

async fn lookup(State(store): Shared, Path(subject): Path<String>, body: Bytes) -> Answer {
    let Version { number, id, schema, .. } = lock(&store).lookup(&subject, &schema_of(&body)?)?;
    let body = json!({
        "subject": subject, "version": number, "id": id, "schemaType": "AVRO", "schema": schema,
    });
    Ok(body.to_string())
}

async fn register(State(store): Shared, Path(subject): Path<String>, body: Bytes) -> Answer {
    let Version { number, id, schema, .. } = lock(&store).register(&subject, &schema_of(&body)?)?;
    let body = json!({ "id": id, "version": number, "schemaType": "AVRO", "schema": schema });
    Ok(body.to_string())
}

/// Refuses bodies that are not JSON, and sets the media type of the response.
///
/// A `POST` has to name its media type. A browser sends a request without one, or with that of a text or a form, for a page
/// of any site. With any other media type it asks the registry first, and the registry's answer allows nothing.
async fn check_media_type(request: Request, next: Next) -> Response {
    let sent = request.headers().get(header::CONTENT_TYPE);
    let sent = sent.map(|value| value.to_str().unwrap_or_default());
    let is_readable = match sent {
        None => request.method() != Method::POST,
        Some(sent) => MEDIA_TYPES.contains(&sent.split(';').next().unwrap_or_default().trim()),
    };
    let mut response = if is_readable {
        next.run(request).await
    } else {
        Refusal::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE).into_response()
    };
    let media_type = HeaderValue::from_static(MEDIA_TYPES[0]);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

fn schema_of(body: &[u8]) -> Result<String, Refusal> {
    if body.is_empty() {
        return Err(Refusal::new(422, "the request has no body"));
    }
    let body: SchemaBody =
        serde_json::from_slice(body).map_err(|error| Refusal::new(400, error.to_string()))?;
    match body.schema_type.as_deref() {
        None | Some("AVRO") => Ok(body.schema),
        Some(other) => Err(Refusal::new(42201, format!("Invalid schema type {other}"))),
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
