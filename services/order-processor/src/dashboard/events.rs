//! What is seen, as it changes: server-sent events.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::App;
use super::api::Problem;
use crate::view::body::Snapshot;

/// How often something is sent on a stream on which nothing happens: proxies close silent connections.
const SIGN_INTERVAL: Duration = Duration::from_secs(5);

/// One tab's stream.
struct Tab {
    app: Arc<App>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What was last sent of each kind.
    sent: Sent,
    ready: VecDeque<Event>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Sent {
    orders: String,
    group: String,
    control: String,
    point: Option<String>,
}

/// Streams what changes, beginning with what is.
pub(super) async fn stream(
    State(app): State<Arc<App>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_full| {
        let words = "too many pages are open".to_owned();
        Problem(StatusCode::SERVICE_UNAVAILABLE, words)
    })?;
    let latest = app.view.fresh().await;
    let mut snapshots = app.view.changes();
    snapshots.mark_changed();
    // The points so far are there to be fetched.
    let point = latest.history.points.last().map(|point| point.at.clone());
    let sent = Sent { point, ..Sent::default() };
    let tab = Tab { app, snapshots, sent, ready: VecDeque::new(), _permit: permit };
    let events = unfold(tab, async |mut tab| {
        let event = tab.next().await?;
        Some((Ok(event), tab))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_INTERVAL)))
}

impl Tab {
    /// Returns the next event; `None` when the dashboard stops.
    async fn next(&mut self) -> Option<Event> {
        let stop = self.app.context.stop.clone();
        while self.ready.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return None,
                changed = self.snapshots.changed() => changed.ok()?,
            }
            self.app.view.look();
            let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            self.take(&snapshot);
        }
        self.ready.pop_front()
    }

    /// Makes events of what is news.
    fn take(&mut self, snapshot: &Snapshot) {
        self.ready.push_back(event("stats", json(&snapshot.stats)));
        let control = snapshot.control.clone().read_only(self.app.access.read_only);
        let Sent { orders, group, control: last_control, point } = &mut self.sent;
        for (name, text, sent) in [
            ("orders", json(&snapshot.orders), orders),
            ("group", json(&snapshot.group), group),
            ("control", json(&control), last_control),
        ] {
            if text != *sent {
                sent.clone_from(&text);
                self.ready.push_back(event(name, text));
            }
        }
        if let Some(latest) = snapshot.history.points.last()
            && point.as_ref() != Some(&latest.at)
        {
            *point = Some(latest.at.clone());
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
