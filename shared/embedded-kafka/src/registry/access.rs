//! Which requests the registry answers: those that name this machine, with a body within bounds.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_server::{Connection, Hosts, read_body};

use crate::registry::refusal::Refusal;

/// The largest body of a request: a large schema.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Returns the routes of a registry that listens at `address`, behind these checks.
///
/// A registry on loopback answers only to this machine's own names. A registry on another address serves other machines and
/// answers to any name.
pub(super) fn checked(routes: Router, address: SocketAddr) -> Router {
    let any = (!address.ip().is_loopback()).then(|| "*".to_owned());
    routes.layer(from_fn_with_state(Hosts::new(any), check))
}

async fn check(
    State(hosts): State<Hosts>,
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    if let Err(error) = hosts.check(&head.uri, &head.headers, connection.local.ip()) {
        return Refusal::new(403, error.to_string()).into_response();
    }
    match read_body(body, BODY_BYTES_MAX).await {
        Ok(bytes) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Err(error) => {
            Refusal::new(error.status().as_u16().into(), error.to_string()).into_response()
        }
    }
}
