//! Which redirects are followed, by what two servers receive.
#![expect(clippy::expect_used, reason = "a test ends where its premises do")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::to_bytes,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use reqwest::{Client, Url};
use tokio::{net::TcpListener, task::JoinSet};

/// What a request was, in words.
type Received = Arc<Mutex<Vec<String>>>;

#[tokio::test]
async fn a_redirect_that_keeps_the_method_is_followed_within_its_origin() {
    let server = Server::start().await;
    for status in [307, 308] {
        for location in ["/there".to_owned(), "there".to_owned(), server.url("/there").into()] {
            let (answered, target) = server.post(&format!("/{status}?{location}")).await;
            assert_eq!((answered, target), (200, None), "{status} {location}");
            assert_eq!(server.last(), "POST /there Basic dTpw body");
        }
    }
}

#[tokio::test]
async fn any_other_redirect_is_an_answer_that_names_its_target() {
    let (server, other) = (Server::start().await, Server::start().await);
    let elsewhere = other.url("/there").to_string();
    let with_secrets =
        elsewhere.replace("http://", "http://kim:secret@") + "?token=secret#fragment";
    let here = server.url("/there").to_string();
    for (status, location, target) in [
        (301, here.clone(), &here),
        (302, here.clone(), &here),
        (303, here.clone(), &here),
        (300, here.clone(), &here),
        (307, elsewhere.clone(), &elsewhere),
        (308, elsewhere.clone(), &elsewhere),
        (308, with_secrets, &elsewhere),
        (301, elsewhere.clone(), &elsewhere),
        (307, here.replace("http:", "https:"), &here.replace("http:", "https:")),
    ] {
        let (answered, found) = server.post(&format!("/{status}?{location}")).await;
        assert_eq!((answered, found.as_ref()), (status, Some(target)), "{location}");
        assert_eq!(server.last(), format!("POST /{status} Basic dTpw body"));
    }
    assert_eq!(*other.received.lock().expect("a lock"), [""; 0]);
}

#[tokio::test]
async fn redirects_without_end_are_not_followed_for_ever() {
    let server = Server::start().await;
    let (answered, target) = server.post("/308?/308?/308?/308?/308?/308?/308").await;
    assert_eq!((answered, target), (308, Some(server.url("/308").into())));
    assert_eq!(server.received.lock().expect("a lock").len(), 6);
}

#[tokio::test]
async fn a_redirect_to_nowhere_has_no_target() {
    let server = Server::start().await;
    assert_eq!(server.post("/304?").await, (304, None));
    assert_eq!(server.post("/307?").await, (307, None));
}

/// A server that redirects from `/<status>?<location>`.
struct Server {
    address: SocketAddr,
    received: Received,
    client: Client,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let received = Received::default();
        let handler = {
            let received = Arc::clone(&received);
            move |request: Request| answer(Arc::clone(&received), request)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut server = JoinSet::new();
        server.spawn(async move {
            axum::serve(listener, Router::new().fallback(handler)).await.expect("a server");
        });
        let client = http_client::builder(&[]).expect("TLS").no_proxy().build().expect("a client");
        Self { address, received, client, _tasks: server }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).expect("a URL")
    }

    /// Returns the status of the answer and where it leads to.
    async fn post(&self, path: &str) -> (u16, Option<String>) {
        let request = self.client.post(self.url(path)).basic_auth("u", Some("p")).body("body");
        let response = request.send().await.expect("an answer");
        let target = http_client::redirect_target(&response).map(String::from);
        (response.status().as_u16(), target)
    }

    fn last(&self) -> String {
        self.received.lock().expect("a lock").last().cloned().unwrap_or_default()
    }
}

async fn answer(received: Received, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let authorization =
        head.headers.get(header::AUTHORIZATION).map_or("", |value| value.to_str().expect("a text"));
    let body = to_bytes(body, 100).await.expect("a body");
    let body = String::from_utf8_lossy(&body);
    let words = format!("{} {path} {authorization} {body}", head.method);
    received.lock().expect("a lock").push(words);
    let status = path.trim_start_matches('/').parse().ok();
    match (status.and_then(|status| StatusCode::from_u16(status).ok()), head.uri.query()) {
        (Some(status), Some("") | None) => status.into_response(),
        (Some(status), Some(location)) => {
            (status, [(header::LOCATION, location.to_owned())]).into_response()
        }
        (None, _) => StatusCode::OK.into_response(),
    }
}
