//! A replica of a registry that lacks some schemas or forbids writes, in front of the registry itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

struct Shared {
    upstream: String,
    client: reqwest::Client,
    denied: Mutex<BTreeSet<u32>>,
    /// The denials of each id.
    denials: watch::Sender<BTreeMap<u32, usize>>,
    is_read_only: AtomicBool,
    /// The attempts to write.
    writes: AtomicUsize,
}

/// A replica that denies some schema ids or all writes, and forwards all other requests.
pub struct LaggingRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

impl fmt::Debug for LaggingRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaggingRegistry").field("address", &self.address).finish_non_exhaustive()
    }
}

impl LaggingRegistry {
    /// Starts a replica of the registry at `upstream`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("bind a registry")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: upstream.trim_end_matches('/').to_owned(),
            client: http_client::builder(&[])?.build()?,
            denied: Mutex::default(),
            denials: watch::Sender::default(),
            is_read_only: AtomicBool::new(false),
            writes: AtomicUsize::new(0),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        // The server runs until the set is dropped.
        server.spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Ok(Self { address, shared, _server: server })
    }

    /// Returns its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Forbids writes.
    pub fn forbid_writing(&self) {
        self.shared.is_read_only.store(true, Ordering::Relaxed);
    }

    /// Returns the number of attempts to write.
    pub fn writes(&self) -> usize {
        self.shared.writes.load(Ordering::Relaxed)
    }

    /// Denies the schema with this id.
    pub fn deny(&self, id: u32) {
        self.shared.denied.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Serves the schema with this id again.
    pub fn admit(&self, id: u32) {
        self.shared.denied.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Waits for a number of denials of an id.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn denied(&self, id: u32, times: usize) {
        let mut denials = self.shared.denials.subscribe();
        let is_reached = |denials: &BTreeMap<_, _>| denials.get(&id).is_some_and(|n| *n >= times);
        // The sender outlives this borrow, so the wait cannot fail.
        drop(denials.wait_for(is_reached).await);
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let id = uri.path().strip_prefix("/schemas/ids/").and_then(|id| id.parse::<u32>().ok());
    let is_denied =
        |id: &u32| shared.denied.lock().unwrap_or_else(PoisonError::into_inner).contains(id);
    if let Some(id) = id.filter(is_denied) {
        shared.denials.send_modify(|denials| *denials.entry(id).or_default() += 1);
        let body = format!(r#"{{"error_code": 40403, "message": "Schema {id} not found"}}"#);
        return (StatusCode::NOT_FOUND, body).into_response();
    }
    // A lookup is also a `POST`, to the subject itself.
    if method != Method::GET && (method != Method::POST || uri.path().ends_with("/versions")) {
        shared.writes.fetch_add(1, Ordering::Relaxed);
        if shared.is_read_only.load(Ordering::Relaxed) {
            return (StatusCode::FORBIDDEN, "you may only read").into_response();
        }
    }
    let url = format!("{}{uri}", shared.upstream);
    let mut request = shared.client.request(method, url).body(body);
    if let Some(content_type) = headers.get(CONTENT_TYPE) {
        request = request.header(CONTENT_TYPE, content_type);
    }
    match pass_on(request).await {
        Ok(answered) => answered.into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

async fn pass_on(request: reqwest::RequestBuilder) -> reqwest::Result<(StatusCode, Bytes)> {
    let answered = request.send().await?;
    Ok((answered.status(), answered.bytes().await?))
}
