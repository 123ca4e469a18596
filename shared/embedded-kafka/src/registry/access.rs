//! Which requests are answered: those that name this machine, with a body within bounds.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Body,
    extract::{Extension, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http_server::{BodyError, Connection, Hosts, read_body};

use crate::registry::api::reply;
use crate::registry::store::refusal;

/// The most bytes of a request's body: a large schema.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Returns the routes of a registry that listens at `address`, behind these checks.
///
/// A registry on loopback answers only by this machine's own names. One that listens beyond it is there for others, and
/// answers by any name.
pub(super) fn guarded(routes: Router, address: SocketAddr) -> Router {
    let any = (!address.ip().is_loopback()).then(|| "*".to_owned());
    routes.layer(from_fn_with_state(Hosts::new(any), guard))
}

async fn guard(
    State(hosts): State<Hosts>,
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    if let Err(error) = hosts.check(&head.uri, &head.headers, connection.local.ip()) {
        return reply(Err(refusal(403, error.to_string())));
    }
    match read_body(body, BODY_BYTES_MAX).await {
        Ok(bytes) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Err(error) => refused(error),
    }
}

fn refused(error: BodyError) -> Response {
    let code = error.status().as_u16().into();
    reply(Err(refusal(code, error.to_string()))).into_response()
}
