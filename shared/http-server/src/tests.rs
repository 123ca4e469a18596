use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::Extension;
use axum::routing::{get, post};
use futures_util::stream::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;

/// How long a test waits for anything before it fails.
const PATIENCE: Duration = HEAD_TIME.saturating_mul(2);
const LIMITS: Limits = Limits::of_connections(8);
const BODY_BYTES_MAX: usize = 16;

#[tokio::test(start_paused = true)]
async fn a_head_that_is_never_finished_is_not_waited_for() {
    let server = Server::start(LIMITS).await;
    let mut half = server.send("GET / HTTP/1.1\r\nHost: localhost\r\nX-More: ").await;
    assert_eq!(half.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nothing_is_asked_on_is_closed() {
    let server = Server::start(LIMITS).await;
    assert_eq!(server.send("").await.rest().await, "");
    let mut idle = server.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(idle.rest().await.ends_with("hello"), "answered, and closed after a while");
}

#[tokio::test(start_paused = true)]
async fn a_head_without_bounds_is_refused() {
    let server = Server::start(LIMITS).await;
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
    let answer = server.send(&head).await.rest().await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_body_is_read_within_its_bounds() {
    let server = Server::start(LIMITS).await;
    for (head, body, expected) in [
        ("Content-Length: 5", "12345", "200 OK"),
        ("Content-Length: 5", "1", "408 Request Timeout"),
        ("Content-Length: 17", "12345678901234567", "413 Payload Too Large"),
        ("Transfer-Encoding: chunked", "11\r\n12345678901234567\r\n", "413 Payload Too Large"),
        ("Transfer-Encoding: chunked", "no length\r\n", "400 Bad Request"),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{body}");
        let answer = server.send(&request).await.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}\r\n")), "{head}: {answer}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_those_before_are_answered() {
    let server = Server::start(Limits::of_connections(4)).await;
    let mut first = server.send("").await;
    let mut second = server.send("").await;
    assert_eq!(server.send("").await.rest().await, "", "the third one of one client");
    for client in [&mut first, &mut second] {
        client.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        assert!(client.rest().await.ends_with("hello"));
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_does_not_hold_its_connection() {
    let server = Server::start(Limits { unread_time: Duration::from_millis(200), ..LIMITS }).await;
    let _deaf = server.send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let ended = timeout(PATIENCE, server.endless_ended).await.expect("the answer is dropped");
    assert!(ended.is_err());
}

#[tokio::test]
async fn a_request_knows_both_ends_of_its_connection() {
    let server = Server::start(LIMITS).await;
    let mut client =
        server.send("GET /ends HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let ends = format!("{} {}", client.0.local_addr().unwrap(), server.address);
    assert!(client.rest().await.ends_with(&ends));
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_waits_for_nobody_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (begun, has_begun) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let parts = std::sync::Mutex::new(Some((begun, may_go_on)));
    let handler = async move || {
        let (begun, may_go_on) = parts.lock().unwrap().take().unwrap();
        begun.send(()).unwrap();
        may_go_on.await.unwrap();
        "done"
    };
    let handler = std::sync::Arc::new(handler);
    let router = Router::new().route("/", get(async move || handler().await));
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, router, LIMITS, async { stopped.await.unwrap() }));
    let _idle = Client(TcpStream::connect(address).await.unwrap());
    let mut client = Client(TcpStream::connect(address).await.unwrap());
    client.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    has_begun.await.unwrap();
    stop.send(()).unwrap();
    go_on.send(()).unwrap();
    assert!(client.rest().await.ends_with("done"));
    tasks.join_next().await.unwrap().unwrap();
}

/// A server that lives as long as the test.
struct Server {
    address: SocketAddr,
    /// Ends with an error when the endless answer is dropped.
    endless_ended: oneshot::Receiver<()>,
    _task: JoinSet<()>,
}

struct Client(TcpStream);

impl Server {
    async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, endless_ended) = oneshot::channel();
        let endless = std::sync::Mutex::new(Some(Endless(sender)));
        let endless = std::sync::Arc::new(endless);
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route(
                "/",
                post(async |body: Body| {
                    read_body(body, BODY_BYTES_MAX)
                        .await
                        .map_err(|error| (error.status(), error.to_string()))
                }),
            )
            .route(
                "/endless",
                get(async move || Body::from_stream(endless.lock().unwrap().take().unwrap())),
            )
            .route(
                "/ends",
                get(async |Extension(ends): Extension<Connection>| {
                    format!("{} {}", ends.peer, ends.local)
                }),
            );
        let mut task = JoinSet::new();
        task.spawn(serve(listener, router, limits, pending()));
        Self { address, endless_ended, _task: task }
    }

    async fn send(&self, text: &str) -> Client {
        let mut client = Client(TcpStream::connect(self.address).await.unwrap());
        client.write(text).await;
        client
    }
}

impl Client {
    async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until the server closes the connection.
    async fn rest(&mut self) -> String {
        let mut text = Vec::new();
        // A server that closes before it has read everything resets the connection, after its answer.
        drop(timeout(PATIENCE, self.0.read_to_end(&mut text)).await.expect("it is closed"));
        String::from_utf8(text).unwrap()
    }
}

/// A body that has always more.
struct Endless(#[expect(dead_code, reason = "dropped with the body")] oneshot::Sender<()>);

impl Stream for Endless {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(Bytes::from_static(&[b'x'; 4096]))))
    }
}
