//! A registry that answers as the test says.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use schema_registry::{Outage, RegistryConfig, RegistryError, SchemaRegistry};
use std::time::Duration;
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    task::JoinSet,
};

/// A registry on a real port that gives each request the next of its answers, and none when it has no more. The body of a
/// redirect is where it leads.
pub(crate) struct Fake {
    address: SocketAddr,
    script: Arc<Script>,
    _server: JoinSet<()>,
}

struct Script {
    answers: Mutex<VecDeque<(StatusCode, String)>>,
    /// One permit for each answer without a waiting test.
    ready: Semaphore,
    requests: Mutex<Vec<Recorded>>,
    arrived: Notify,
}

#[derive(Clone)]
pub(crate) struct Recorded {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    body: Bytes,
}

impl Recorded {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl Fake {
    pub(crate) async fn start(answers: impl IntoIterator<Item = (StatusCode, String)>) -> Self {
        let script = Arc::new(Script {
            answers: Mutex::default(),
            ready: Semaphore::new(0),
            requests: Mutex::default(),
            arrived: Notify::new(),
        });
        let handler = {
            let script = Arc::clone(&script);
            move |request: Request| {
                let script = Arc::clone(&script);
                async move { script.serve(request).await }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut server = JoinSet::new();
        server.spawn(async move {
            axum::serve(listener, Router::new().fallback(handler)).await.expect("a server");
        });
        let fake = Self { address, script, _server: server };
        answers.into_iter().for_each(|answer| fake.answer(answer));
        fake
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn client(&self) -> SchemaRegistry {
        self.client_with(|_| {})
    }

    pub(crate) fn client_with(&self, change: impl FnOnce(&mut RegistryConfig)) -> SchemaRegistry {
        let mut config = quick(self.url());
        change(&mut config);
        SchemaRegistry::new(config).expect("a client")
    }

    pub(crate) fn answer(&self, answer: (StatusCode, String)) {
        self.script.answers.lock().expect("a lock").push_back(answer);
        self.script.ready.add_permits(1);
    }

    /// Waits for a request.
    pub(crate) async fn arrived(&self) {
        self.script.arrived.notified().await;
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.script.requests.lock().expect("a lock").clone()
    }

    pub(crate) fn only_request(&self) -> Recorded {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1);
        requests.remove(0)
    }
}

impl Script {
    async fn serve(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let recorded = Recorded {
            line: format!("{} {}", head.method, head.uri),
            headers: head.headers,
            body: to_bytes(body, usize::MAX).await.expect("a body"),
        };
        self.requests.lock().expect("a lock").push(recorded);
        self.arrived.notify_one();
        self.ready.acquire().await.expect("open").forget();
        let answer = self.answers.lock().expect("a lock").pop_front();
        let (status, body) = answer.expect("an answer for each permit");
        if status.is_redirection() {
            return (status, [(header::LOCATION, body)]).into_response();
        }
        (status, body).into_response()
    }
}

/// A configuration whose waits take no time.
pub(crate) fn quick(url: String) -> RegistryConfig {
    RegistryConfig { retry_backoff: Duration::ZERO, ..RegistryConfig::new(url) }
}

pub(crate) fn ok(body: &str) -> (StatusCode, String) {
    (StatusCode::OK, body.to_owned())
}

pub(crate) fn answer(status: u16, body: &str) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), body.to_owned())
}

pub(crate) fn found(schema: &str) -> (StatusCode, String) {
    (
        StatusCode::OK,
        serde_json::json!({ "schema": schema, "subject": "s", "version": 1 }).to_string(),
    )
}

pub(crate) fn outage(error: &RegistryError) -> Option<Outage> {
    if let RegistryError::Unavailable { outage, .. } = error { Some(*outage) } else { None }
}

/// Returns an address without a listener.
pub(crate) async fn unused_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}

/// A version of a subject with a schema that refers to others, each by name, subject and version.
pub(crate) fn referring(schema: &str, references: &[(&str, &str, i64)]) -> (StatusCode, String) {
    let references = references.iter().map(|(name, subject, version)| {
        serde_json::json!({ "name": name, "subject": subject, "version": version })
    });
    let references: Vec<_> = references.collect();
    let body = serde_json::json!({ "schema": schema, "references": references, "new": {} });
    (StatusCode::OK, body.to_string())
}
