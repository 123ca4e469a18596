//! The view as server-sent events.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::unfold;
use http_server::Place;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::access::Visitor;
use super::problem::Problem;
use super::responses::Refusals;
use super::{App, StreamOwner};
use crate::time::Time;
use crate::view::body::Snapshot;

/// How often a comment is sent on an idle stream: proxies close silent connections.
const SIGN_INTERVAL: Duration = Duration::from_secs(5);

/// How long a stream lives. Then the page opens the next one, so that no client has one for ever.
const STREAM_TIME_MAX: Duration = Duration::from_mins(10);
/// The event that says so.
const RENEW: &str = "renew";
/// Tells nginx and other proxies to pass events on at once.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

struct Tab {
    app: Arc<App>,
    visitor: Visitor,
    ends: Instant,
    /// Whether the page was asked to open the next one.
    is_over: bool,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The last event of each kind, and the time of the last point.
    sent: BTreeMap<&'static str, String>,
    point: Option<Time>,
    ready: VecDeque<Event>,
    _place: Place<StreamOwner>,
}

/// What changes, as server-sent events.
///
/// Events of the kinds stats (Stats), orders (Orders), group (Group), control (Control) and point (Point): first all that
/// there is, then what changes; Stats after every reading of the cluster and every change of Control. A comment every 5 s.
/// After 10 minutes comes renew, and the stream ends: the client is to open the next one. It ends with its session, too.
/// One session, or one client without a session, has 16 streams at most, and all have 64.
#[utoipa::path(
    get,
    path = "/api/events",
    operation_id = "events",
    responses(
        (status = OK, description = "The stream.", body = String, content_type = "text/event-stream"),
        Refusals,
    )
)]
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<impl IntoResponse, Problem> {
    let client = StreamOwner::Client(visitor.origin.client);
    let place = app.streams.take(visitor.session.map_or(client, StreamOwner::Session));
    let place = place.ok_or_else(|| {
        let words = "too many pages are open".to_owned();
        Problem(StatusCode::SERVICE_UNAVAILABLE, words)
    })?;
    let latest = app.view.fresh().await;
    let mut snapshots = app.view.changes();
    snapshots.mark_changed();
    // The client reads the points so far from `/api/history`.
    let point = latest.history.points.last().map(|point| point.at);
    let sent = BTreeMap::new();
    let ends = Instant::now() + STREAM_TIME_MAX;
    let ready = VecDeque::new();
    let tab =
        Tab { app, visitor, ends, is_over: false, snapshots, sent, point, ready, _place: place };
    let events = unfold(tab, async |mut tab| {
        let event = tab.next().await?;
        Some((Ok::<_, Infallible>(event), tab))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_INTERVAL));
    Ok(([UNBUFFERED], events))
}

impl Tab {
    /// Returns the next event; `None` when the dashboard stops, the session has ended or the stream is over.
    async fn next(&mut self) -> Option<Event> {
        let stop = self.app.context.stop.clone();
        while self.ready.is_empty() {
            if self.is_over || !self.app.access.is_alive(&self.visitor) {
                return None;
            }
            let now = Instant::now();
            if now >= self.ends {
                self.is_over = true;
                self.ready.push_back(event(RENEW, "null".to_owned()));
                break;
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = sleep_until(self.ends.min(now + SIGN_INTERVAL)) => continue,
                changed = self.snapshots.changed() => changed.ok()?,
            }
            self.app.view.look();
            let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            self.take(&snapshot);
        }
        self.ready.pop_front()
    }

    fn take(&mut self, snapshot: &Snapshot) {
        self.ready.push_back(event("stats", json(&snapshot.stats)));
        let control = snapshot.control.clone().read_only(!self.visitor.may_change);
        for (name, text) in [
            ("orders", json(&snapshot.orders)),
            ("group", json(&snapshot.group)),
            ("control", json(&control)),
        ] {
            if self.sent.get(name) != Some(&text) {
                self.sent.insert(name, text.clone());
                self.ready.push_back(event(name, text));
            }
        }
        if let Some(latest) = snapshot.history.points.last()
            && self.point != Some(latest.at)
        {
            self.point = Some(latest.at);
            self.ready.push_back(event("point", json(latest)));
        }
    }
}

fn event(name: &str, text: String) -> Event {
    Event::default().event(name).data(text)
}

fn json(body: &impl Serialize) -> String {
    // Texts, numbers and lists of them can always be written.
    serde_json::to_string(body).unwrap_or_default()
}
