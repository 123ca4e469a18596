//! `order-console dashboard`: a page, and the API that it uses, over the view.
//!
//! ```text
//!  browser ──► access ──┬─► page      files of the binary
//!                       ├─► api       the view; pause and resume; dead letters
//!                       └─► events    the view, as it changes
//! ```
//!
//! It is a process of its own: it takes nothing from the processors, and needs nothing of them. It changes things as the
//! command line does: through the control topic, the replay topic and the actions topic.

mod access;
mod api;
mod dead_letters;
mod events;
mod metrics;
mod openapi;
mod page;
mod problem;
mod responses;
mod session;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use http_server::{Limits, Places};
use service_runtime::{Check, Context};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::access::{Access, SessionKey};
use self::dead_letters::Job;
use crate::settings::ConsoleSettings;
use crate::view::View;
use crate::view::body::{ConnectionState, Snapshot};

/// Connections at once: each page has some.
const LIMITS: Limits = Limits::of_connections(256);
/// Replays and dismissals that may wait for the one in progress.
const JOBS_MAX: usize = 4;
/// Streams of events at once: browser tabs.
const STREAMS_MAX: usize = 64;
/// Streams of one session, or of one client without a session.
const OWN_STREAMS_MAX: usize = 16;
/// Requests at once that read the dead-letter topic.
const READS_MAX: usize = 2;
/// How long connections may stay open at the end.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What all requests share.
struct App {
    settings: ConsoleSettings,
    context: Context,
    view: View,
    access: Access,
    jobs: mpsc::Sender<Job>,
    streams: Places<StreamOwner>,
    /// Limits requests that read the dead-letter topic.
    reads: Semaphore,
}

/// The owner whose streams are limited together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StreamOwner {
    Session(SessionKey),
    Client(IpAddr),
}

impl App {
    fn new(
        settings: ConsoleSettings,
        context: Context,
        view: View,
        jobs: mpsc::Sender<Job>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            access: Access::of(&settings.dashboard)?,
            settings,
            context,
            view,
            jobs,
            streams: Places::new(STREAMS_MAX, OWN_STREAMS_MAX),
            reads: Semaphore::new(READS_MAX),
        })
    }
}

/// Serves the dashboard until a signal.
///
/// # Errors
/// When there is no address to listen at, or it cannot be used.
pub async fn run(settings: ConsoleSettings, context: Context) -> anyhow::Result<()> {
    let address = settings.dashboard.address.clone();
    let address = address.context("DASHBOARD_ADDR is off: there is nowhere to serve it")?;
    let listener =
        TcpListener::bind(&address).await.with_context(|| format!("listen at {address}"))?;
    let local = listener.local_addr().context("listen")?;

    let mut tasks = JoinSet::new();
    let view = View::start(&settings, &mut tasks)?;
    tasks.spawn(report_health(view.changes(), context.health.check("kafka")));
    tasks.spawn(metrics::keep(settings.clone(), context.clone(), view.clone()));
    let (jobs, mut waiting) = mpsc::channel::<Job>(JOBS_MAX);
    tasks.spawn(async move {
        while let Some(job) = waiting.recv().await {
            job.await;
        }
    });
    tracing::info!(
        url = %format!("http://{local}"),
        read_only = settings.dashboard.read_only,
        token = settings.dashboard.token.is_some(),
        read_token = settings.dashboard.read_token.is_some(),
        "serving the dashboard"
    );
    let stop = context.stop.clone();
    let app = App::new(settings, context, view, jobs)?;
    let stopped = stop.clone().cancelled_owned();
    tokio::select! {
        () = http_server::serve(listener, router(Arc::new(app)), LIMITS, stopped) => Ok(()),
        // A client that has stopped reading would keep its connection open.
        () = async { stop.cancelled().await; sleep(STOP_MAX).await } => Ok(()),
        Some(ended) = tasks.join_next() => {
            ended.context("observe the group")?;
            bail!("the observer of the group has ended")
        }
    }
}

fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/session", get(session::session).post(session::sign_in).delete(session::sign_out))
        .route("/openapi.json", get(openapi::serve))
        .route("/stats", get(api::stats))
        .route("/history", get(api::history))
        .route("/orders", get(api::orders))
        .route("/group", get(api::group))
        .route("/control", get(api::control).post(api::command))
        .route("/dlq", get(api::letters))
        .route("/dlq/{partition}/{offset}", get(api::letter))
        .route("/dlq/replay", post(api::replay))
        .route("/dlq/dismiss", post(api::dismiss))
        .route("/events", get(events::stream))
        .fallback(api::nothing);
    page::routes()
        .nest("/api", api)
        .layer(from_fn_with_state(Arc::clone(&app), session::guard))
        .with_state(app)
}

/// Reports readiness: the dashboard is ready while the cluster can be read.
async fn report_health(mut view: watch::Receiver<Arc<Snapshot>>, check: Check) {
    check.not_ready("connecting");
    while view.changed().await.is_ok() {
        let broker = view.borrow_and_update().stats.connections.broker.clone();
        match broker.state {
            ConnectionState::Connected => check.ready(),
            ConnectionState::Failing | ConnectionState::Unreachable => {
                check.not_ready(broker.detail.unwrap_or_default());
            }
            ConnectionState::Unknown => check.not_ready("connecting"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::net::SocketAddr;

    use service_runtime::settings::{Environment, load};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_after_a_while_and_asks_the_page_to_open_the_next() {
        let mut tasks = JoinSet::new();
        let mut client = TcpStream::connect(served(&mut tasks).await).await.unwrap();
        let request = "GET /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        let (first, last) = (text.find("event: stats\n"), text.rfind("event: "));
        assert!(first < last, "{text}");
        let last = last.map(|start| &text[start..]).unwrap();
        assert!(last.starts_with("event: renew\ndata: null\n\n"), "{last}");
    }

    /// Serves a dashboard without a cluster, and returns its address.
    async fn served(tasks: &mut JoinSet<()>) -> SocketAddr {
        let unreachable =
            [("BOOTSTRAP_SERVERS", "127.0.0.1:1"), ("SCHEMA_REGISTRY_URL", "http://127.0.0.1:1")];
        let environment: Environment =
            unreachable.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let settings: ConsoleSettings = load(&environment).unwrap();
        let view = View::start(&settings, tasks).unwrap();
        let jobs = mpsc::channel(JOBS_MAX).0;
        let app = App::new(settings, Context::default(), view, jobs).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(http_server::serve(listener, router(Arc::new(app)), LIMITS, pending()));
        address
    }
}
