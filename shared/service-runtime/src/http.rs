//! The HTTP server beside the service: `/healthz`, `/readyz`, `/metrics`.

use std::collections::BTreeMap;
use std::future::pending;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http_server::Limits;
use serde::Serialize;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::context::Context;

pub(crate) mod probe;

/// Probes and scrapers are few.
const LIMITS: Limits = Limits::of_connections(64);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves health and metrics until it is dropped.
///
/// An address that cannot be used is a warning: the service's work does not depend on it, and a second service on the
/// same machine should simply run.
pub(crate) async fn serve(address: String, context: Context) {
    let listener = match TcpListener::bind(&address).await {
        Ok(listener) => listener,
        Err(error) => {
            warn!(http_addr = %address, %error, "no health and metrics: cannot listen");
            return;
        }
    };
    if let Ok(local) = listener.local_addr() {
        info!(http_addr = %local, "serving /healthz, /readyz and /metrics");
    }
    http_server::serve(listener, router(context), LIMITS, pending()).await;
}

fn router(context: Context) -> Router {
    Router::new()
        .route("/healthz", get(liveness))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(context)
}

/// Fails only if the process has to be killed. Failures that may pass show in `/readyz`.
async fn liveness(State(context): State<Context>) -> Response {
    match context.health.why_stuck() {
        None => "alive\n".into_response(),
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {reason}\n")).into_response()
        }
    }
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    checks: BTreeMap<&'static str, CheckReport>,
}

#[derive(Debug, Serialize)]
struct CheckReport {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

async fn readiness(State(context): State<Context>) -> Response {
    let mut reasons = context.health.report();
    if context.stop.is_cancelled() {
        reasons.insert("service", Some("stopping".to_owned()));
    }
    let ready = !reasons.is_empty() && reasons.values().all(Option::is_none);
    let mut notes = context.health.notes();
    let checks = reasons.into_iter().map(|(name, reason)| {
        let (ready, note) = (reason.is_none(), notes.remove(name));
        (name, CheckReport { ready, reason, note })
    });
    let report = Readiness { ready, checks: checks.collect() };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn metrics(State(context): State<Context>) -> Response {
    match context.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn readiness_follows_the_checks_and_gives_reasons() {
        let context = Context::default();
        let server = Server::start(&context).await;
        assert_eq!(server.get("/readyz").await, (503, r#"{"ready":false,"checks":{}}"#.to_owned()));

        let kafka = context.health.check("kafka");
        let starting = r#"{"ready":false,"checks":{"kafka":{"ready":false,"reason":"starting"}}}"#;
        assert_eq!(server.get("/readyz").await, (503, starting.to_owned()));

        kafka.ready();
        let ready = r#"{"ready":true,"checks":{"kafka":{"ready":true}}}"#;
        assert_eq!(server.get("/readyz").await, (200, ready.to_owned()));

        kafka.ready_with("paused by kim");
        let ready = r#"{"ready":true,"checks":{"kafka":{"ready":true,"note":"paused by kim"}}}"#;
        assert_eq!(server.get("/readyz").await, (200, ready.to_owned()));

        context.stop.cancel();
        let (status, body) = server.get("/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains(r#""service":{"ready":false,"reason":"stopping"}"#), "{body}");
    }

    #[tokio::test]
    async fn only_what_is_stuck_is_not_alive() {
        let context = Context::default();
        let server = Server::start(&context).await;
        context.health.check("kafka").not_ready("joining the group");
        assert_eq!(server.get("/healthz").await, (200, "alive\n".to_owned()));

        context.health.stuck("a handler's call has not ended");
        context.health.stuck("what follows from it");

        let stuck = "stuck: a handler's call has not ended\n";
        assert_eq!(server.get("/healthz").await, (503, stuck.to_owned()));
    }

    #[tokio::test]
    async fn metrics_that_the_service_registered_are_served() {
        let context = Context::default();
        let orders: Counter = Counter::default();
        context.metrics.register(|registry| registry.register("orders", "Orders.", orders.clone()));
        orders.inc_by(3);
        let server = Server::start(&context).await;

        let (status, body) = server.get("/metrics").await;

        assert_eq!(status, 200);
        assert!(body.contains("orders_total 3\n"), "{body}");
        assert_eq!(server.get("/healthz").await, (200, "alive\n".to_owned()));
        assert_eq!(server.get("/nothing").await.0, 404);
    }

    #[tokio::test]
    async fn an_address_in_use_ends_the_server_and_nothing_else() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();

        serve(address, Context::default()).await;
    }

    /// A server that lives as long as the test.
    struct Server {
        address: String,
        _task: JoinSet<()>,
    }

    impl Server {
        async fn start(context: &Context) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let router = router(context.clone());
            let mut task = JoinSet::new();
            task.spawn(http_server::serve(listener, router, LIMITS, pending()));
            Self { address, _task: task }
        }

        async fn get(&self, path: &'static str) -> (u16, String) {
            let address = self.address.clone();
            let response = tokio::task::spawn_blocking(move || probe::get(&address, path));
            let response = response.await.unwrap().unwrap();
            (response.status, response.body)
        }
    }
}
