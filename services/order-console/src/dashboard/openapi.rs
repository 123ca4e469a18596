//! The description of the API, generated from its functions and types.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::api;
use super::events;
use super::session;
use crate::view::body::Point;

/// Bodies of requests: their fields may be absent.
const REQUESTS: [&str; 2] = ["Filter", "Selection"];
/// Files of the page, each with its operation, its media type and what it is.
const PAGE: [(&str, &str, &str, &str); 4] = [
    ("/", "page", "text/html", "The page."),
    ("/style.css", "style", "text/css", "Its style."),
    (
        "/app.js",
        "script",
        "text/javascript",
        "Its script; the modules that it imports are beside it.",
    ),
    ("/icon.svg", "icon", "image/svg+xml", "Its icon."),
];

/// The description as it is served: each text in one line.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string().replace(r"\n", " "));

#[derive(OpenApi)]
#[openapi(
    info(
        title = "order-console dashboard",
        description = "Times are RFC 3339 in UTC with milliseconds. Sums of money are decimal strings, exact. Paths are \
            below the address of the page, wherever a proxy has put it. A request that a browser sends for a page of \
            another origin, or that names a host which the dashboard does not answer to, is refused with 403; one with \
            a token, after too many wrong ones of the same client, with 429. A body has to come within 10 s (408), and \
            has at most 256 KiB, or 4 KiB for a token (413). Requests that change something need the content type \
            application/json.",
    ),
    paths(
        session::session,
        session::sign_in,
        session::sign_out,
        api::stats,
        api::history,
        api::orders,
        api::group,
        api::control,
        api::command,
        api::letters,
        api::letter,
        api::replay,
        api::dismiss,
        events::stream,
        serve,
    ),
    components(schemas(Point)),
    security((), ("bearer" = []), ("cookie" = [])),
)]
struct Api;

/// This description.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    operation_id = "openapi",
    responses((status = OK, description = "OpenAPI 3.1.", body = Object), super::responses::Refusals)
)]
pub(super) async fn serve() -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, DOCUMENT.as_str()).into_response()
}

/// Returns the description with what the derived one cannot say.
fn document() -> Value {
    let mut document = json!(Api::openapi());
    document["info"]["license"] = json!({ "name": "Apache-2.0", "identifier": "Apache-2.0" });
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "DASHBOARD_TOKEN, or DASHBOARD_READ_TOKEN, which only reads, where they are set.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "dashboard_session_0123456789abcdef",
            "description": "What POST /api/session gives for a token; each process has other digits in the name.",
        },
    });
    for (path, operation, media, summary) in PAGE {
        document["paths"][path]["get"] = json!({
            "operationId": operation,
            "summary": summary,
            "security": [],
            "responses": {
                "200": { "description": "The file.", "content": { media: { "schema": { "type": "string" } } } },
            },
        });
    }
    let schemas = document["components"]["schemas"].take();
    let closed = schemas.as_object().into_iter().flatten().map(|(name, schema)| {
        let is_request = REQUESTS.contains(&name.as_str());
        (name.clone(), closed(&schemas, schema, is_request))
    });
    document["components"]["schemas"] = closed.collect();
    document["components"]["schemas"]["Selection"]["oneOf"] =
        json!([{ "required": ["places"] }, { "required": ["filter"] }]);
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let answer = &mut operation["responses"]["200"];
        if answer.is_object() && answer["description"].is_null() {
            answer["description"] = json!("What was asked for.");
        }
    }
    let text = document.to_string();
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        // Those that were flattened into others.
        schemas.retain(|name, _| text.contains(&format!("#/components/schemas/{name}\"")));
    }
    document
}

/// Returns a schema of an object with all of its fields, flattened ones included, and no others.
fn closed(schemas: &Value, schema: &Value, is_request: bool) -> Value {
    let mut object = flat(schemas, schema);
    let Some(properties) = object["properties"].as_object() else { return object };
    if !is_request {
        object["required"] = properties.keys().cloned().collect();
    }
    object["additionalProperties"] = json!(false);
    object
}

/// Returns a schema without `allOf`: its fields, and those of the objects that are flattened into it.
fn flat(schemas: &Value, schema: &Value) -> Value {
    let Some(parts) = schema["allOf"].as_array() else { return schema.clone() };
    let mut object = json!({ "type": "object", "properties": {} });
    if !schema["description"].is_null() {
        object["description"] = schema["description"].clone();
    }
    for part in parts {
        let reference = part["$ref"].as_str().and_then(|name| name.rsplit('/').next());
        let part = flat(schemas, reference.map_or(part, |name| &schemas[name]));
        for (name, property) in part["properties"].as_object().into_iter().flatten() {
            object["properties"][name] = property.clone();
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_description_resolves_and_no_object_is_composed() {
        let document = document();
        let mut left = vec![&document];
        while let Some(value) = left.pop() {
            if let Some(reference) = value["$ref"].as_str() {
                assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
            }
            assert!(value["allOf"].is_null(), "{value}");
            left.extend(value.as_object().into_iter().flat_map(|object| object.values()));
            left.extend(value.as_array().into_iter().flatten());
        }
    }
}
