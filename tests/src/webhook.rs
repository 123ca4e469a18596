//! A webhook that answers by a test's policy and keeps all calls.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::stream;
use serde::Deserialize;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The backlog of connections.
const BACKLOG: u32 = 1_024;

/// The response to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response with this status.
    Status(u16),
    /// A response with this status and `Retry-After` in seconds.
    RetryAfter(u16, u64),
    /// A response with status 200 after a delay.
    Late(Duration),
    /// A response with this status and an endless body.
    Endless(u16),
}

impl Answer {
    /// The webhook has processed the order.
    pub const DONE: Self = Self::Status(200);
    /// The webhook is down.
    pub const UNAVAILABLE: Self = Self::Status(503);

    /// Returns whether the webhook has processed the order.
    pub fn is_done(self) -> bool {
        match self {
            Self::Status(status) | Self::RetryAfter(status, _) | Self::Endless(status) => {
                status == 200
            }
            Self::Late(_) => true,
        }
    }
}

/// A received call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The idempotency key.
    pub key: String,
    /// The header `traceparent`.
    pub traceparent: Option<String>,
    /// The header `tracestate`.
    pub tracestate: Option<String>,
    /// The posted order.
    pub order: PostedOrder,
    /// The response to the call.
    pub answer: Answer,
}

/// The body of a call.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostedOrder {
    /// The order's id.
    pub order_id: String,
    /// The product.
    pub product: String,
    /// The price.
    pub price: f64,
    /// The name of the record's topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The timestamp of the record.
    pub timestamp: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

type Policy = Box<dyn Fn(&PostedOrder) -> Answer + Send + Sync>;

struct Shared {
    policy: Mutex<Policy>,
    calls: watch::Sender<Vec<Call>>,
}

/// A webhook inside the test.
pub struct Webhook {
    address: SocketAddr,
    /// A bound socket that does not listen, which keeps the port and refuses connections.
    closed: Option<TcpSocket>,
    shared: Arc<Shared>,
    server: JoinSet<()>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Returns a webhook that refuses connections until [`Webhook::listen`].
    ///
    /// # Errors
    /// When no port is free.
    pub fn closed() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into()).context("bind a webhook's port")?;
        let policy: Policy = Box::new(|_| Answer::DONE);
        let shared = Shared { policy: Mutex::new(policy), calls: watch::Sender::new(Vec::new()) };
        Ok(Self {
            address: socket.local_addr()?,
            closed: Some(socket),
            shared: Arc::new(shared),
            server: JoinSet::new(),
        })
    }

    /// Starts a webhook that answers every call with `answer`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(answer: Answer) -> Result<Self> {
        let mut webhook = Self::closed()?;
        webhook.answer(move |_| answer);
        webhook.listen()?;
        Ok(webhook)
    }

    /// Starts to accept connections.
    ///
    /// # Errors
    /// When the system refuses to listen.
    pub fn listen(&mut self) -> Result<()> {
        let Some(socket) = self.closed.take() else { return Ok(()) };
        let listener = socket.listen(BACKLOG).context("listen on a webhook's port")?;
        let router =
            Router::new().route("/orders", post(receive)).with_state(Arc::clone(&self.shared));
        // The server runs until the set is dropped; an earlier failure fails the tests that wait for calls.
        self.server.spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Ok(())
    }

    /// Returns its `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the URL that orders are posted to.
    pub fn url(&self) -> String {
        format!("http://{}/orders", self.address)
    }

    /// Sets the policy for the responses to later calls.
    pub fn answer(&self, policy: impl Fn(&PostedOrder) -> Answer + Send + Sync + 'static) {
        *self.shared.policy() = Box::new(policy);
    }

    /// Returns all calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.borrow().clone()
    }

    /// Returns how often the webhook has processed each order, by idempotency key.
    pub fn done(&self) -> BTreeMap<String, usize> {
        let mut done = BTreeMap::new();
        for call in self.calls().into_iter().filter(|call| call.answer.is_done()) {
            *done.entry(call.key).or_default() += 1;
        }
        done
    }

    /// Waits until `is_reached` accepts the calls so far.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn calls_when(&self, is_reached: impl Fn(&[Call]) -> bool + Send + Sync) {
        let mut calls = self.shared.calls.subscribe();
        // The sender outlives this borrow, so the wait cannot fail.
        drop(calls.wait_for(|calls| is_reached(calls)).await);
    }
}

impl Shared {
    fn policy(&self) -> MutexGuard<'_, Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let key = text("idempotency-key");
    let order = serde_json::from_slice::<PostedOrder>(&body);
    let (Some(key), Ok(order)) = (key, order) else {
        return (StatusCode::BAD_REQUEST, "this is no order\r\n").into_response();
    };
    let answer = shared.policy()(&order);
    let (traceparent, tracestate) = (text("traceparent"), text("tracestate"));
    let call = Call { key, traceparent, tracestate, order, answer };
    shared.calls.send_modify(|calls| calls.push(call));
    let status = |status| StatusCode::from_u16(status).unwrap_or_default();
    match answer {
        Answer::Status(code) => status(code).into_response(),
        Answer::RetryAfter(code, seconds) => {
            (status(code), [("retry-after", seconds.to_string())]).into_response()
        }
        Answer::Late(pause) => {
            sleep(pause).await;
            StatusCode::OK.into_response()
        }
        Answer::Endless(code) => {
            let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
            (status(code), body).into_response()
        }
    }
}
