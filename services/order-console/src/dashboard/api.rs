//! The API: one function for each path of `openapi.json`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use control_topic::record::{Role, RunState};
use serde::Deserialize;
use serde_json::{Value, json};
use service_runtime::Context;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::App;
use super::access::Visitor;
use crate::dlq::Place;
use crate::dlq::board::{self, Chosen, Looking, Unclear};
use crate::replay::Busy;
use crate::settings::ConsoleSettings;
use crate::view::body::{Control, Group, History, Orders, Snapshot, Stats};

/// How long an answer waits for a command to be seen.
const SEEN_MAX: Duration = Duration::from_secs(3);
/// Orders of an answer that does not say how many it wants.
const ORDERS_DEFAULT: usize = 50;

/// Why there is no answer, in a sentence.
#[derive(Debug)]
pub(super) struct Problem(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(status, words) = self;
        (status, Json(json!({ "error": words }))).into_response()
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        let status = if error.is::<Unclear>() {
            StatusCode::BAD_REQUEST
        } else if error.is::<Busy>() {
            StatusCode::CONFLICT
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Self(status, format!("{error:#}"))
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

type Answer<T> = Result<Json<T>, Problem>;

/// Answers for paths that are none.
pub(super) async fn nothing() -> Problem {
    Problem(StatusCode::NOT_FOUND, "there is no such path".to_owned())
}

pub(super) async fn stats(State(app): State<Arc<App>>) -> Json<Stats> {
    Json(app.view.fresh().await.stats.clone())
}

pub(super) async fn history(State(app): State<Arc<App>>) -> Json<History> {
    Json(app.view.look().history.clone())
}

/// The query of `/api/orders`.
#[derive(Deserialize)]
pub(super) struct Limit {
    limit: Option<usize>,
}

pub(super) async fn orders(
    State(app): State<Arc<App>>,
    limit: Result<Query<Limit>, QueryRejection>,
) -> Answer<Orders> {
    let Query(Limit { limit }) = limit?;
    let mut orders = app.view.fresh().await.orders.clone();
    orders.orders.truncate(limit.unwrap_or(ORDERS_DEFAULT));
    Ok(Json(orders))
}

pub(super) async fn group(State(app): State<Arc<App>>) -> Json<Group> {
    Json(app.view.fresh().await.group.clone())
}

pub(super) async fn control(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
) -> Json<Control> {
    Json(shown(&visitor, &*app.view.fresh().await))
}

fn shown(visitor: &Visitor, snapshot: &Snapshot) -> Control {
    snapshot.control.clone().read_only(!visitor.may_change())
}

/// The body of `POST /api/control`.
#[derive(Debug, Deserialize)]
pub(super) struct Command {
    target: Target,
    action: Action,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Target {
    Generator,
    Processor,
    All,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Pause,
    Resume,
}

/// Pauses or resumes services, and answers once the control topic shows it.
pub(super) async fn command(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    command: Result<Json<Command>, JsonRejection>,
) -> Answer<Control> {
    let Json(Command { target, action }) = command?;
    let roles: &[Role] = match target {
        Target::Generator => &[Role::Generator],
        Target::Processor => &[Role::Processor],
        Target::All => &Role::ALL,
    };
    let state = match action {
        Action::Pause => RunState::Paused,
        Action::Resume => RunState::Running,
    };
    let topics = &app.settings.topics;
    let cluster = app.settings.cluster();
    control_topic::command(
        &cluster,
        &topics.control_topic,
        topics.replication_factor,
        roles,
        state,
        visitor.name(),
    )
    .await
    .map_err(anyhow::Error::new)?;
    let (by, peer) = (visitor.name(), visitor.origin.peer);
    tracing::info!(by, %peer, ?target, state = state.as_str(), "commanded services");
    let mut snapshots = app.view.changes();
    app.view.look();
    let is_seen = |snapshot: &Arc<Snapshot>| {
        roles.iter().all(|role| {
            let role = match role {
                Role::Generator => &snapshot.control.generator,
                Role::Processor => &snapshot.control.processor,
            };
            role.desired == state.as_str()
        })
    };
    // Where it is not seen in time, the answer says what is.
    drop(timeout(SEEN_MAX, snapshots.wait_for(is_seen)).await);
    let latest = Arc::clone(&snapshots.borrow());
    Ok(Json(shown(&visitor, &latest)))
}

pub(super) async fn letters(
    State(app): State<Arc<App>>,
    looking: Result<Query<Looking>, QueryRejection>,
) -> Answer<Value> {
    let Query(looking) = looking?;
    let _permit = app.reads.acquire().await.map_err(anyhow::Error::new)?;
    Ok(Json(board::list(&app.settings, &app.context, &looking).await?))
}

pub(super) async fn letter(
    State(app): State<Arc<App>>,
    place: Result<Path<(i32, i64)>, PathRejection>,
) -> Answer<Value> {
    let Path((partition, offset)) = place?;
    let _permit = app.reads.acquire().await.map_err(anyhow::Error::new)?;
    let place = Place { partition, offset };
    let letter = board::letter(&app.settings, &app.context, place).await?;
    let words = || format!("there is no dead letter at {place}");
    letter.map(Json).ok_or_else(|| Problem(StatusCode::NOT_FOUND, words()))
}

pub(super) async fn replay(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    chosen: Result<Json<Chosen>, JsonRejection>,
) -> Answer<Value> {
    app.job(Work::Replay, chosen?.0, visitor).await
}

pub(super) async fn dismiss(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    chosen: Result<Json<Chosen>, JsonRejection>,
) -> Answer<Value> {
    app.job(Work::Dismiss, chosen?.0, visitor).await
}

/// What is done with dead letters.
#[derive(Clone, Copy, Debug)]
enum Work {
    Replay,
    Dismiss,
}

impl Work {
    async fn run(
        self,
        settings: &ConsoleSettings,
        context: &Context,
        chosen: &Chosen,
        by: String,
    ) -> anyhow::Result<Value> {
        match self {
            Self::Replay => board::replay(settings, context, chosen, by).await,
            Self::Dismiss => board::dismiss(settings, context, chosen, by).await,
        }
    }
}

/// Something to do, one after the other. What has begun is done to its end, also if nobody waits for the answer any more.
pub(super) struct Job {
    work: Work,
    chosen: Chosen,
    visitor: Visitor,
    answer: oneshot::Sender<anyhow::Result<Value>>,
}

impl App {
    async fn job(&self, work: Work, chosen: Chosen, visitor: Visitor) -> Answer<Value> {
        if chosen.is_dry_run() {
            let _permit = self.reads.acquire().await.map_err(anyhow::Error::new)?;
            let counted = work.run(&self.settings, &self.context, &chosen, visitor.name()).await?;
            return Ok(Json(counted));
        }
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Job { work, chosen, visitor, answer }).map_err(|_full| {
            let words = "other replays or dismissals are under way: try again".to_owned();
            Problem(StatusCode::SERVICE_UNAVAILABLE, words)
        })?;
        let answer = answered.await.map_err(anyhow::Error::new)?;
        Ok(Json(answer?))
    }
}

/// Who does the jobs.
pub(super) struct Jobs {
    pub(super) settings: ConsoleSettings,
    pub(super) context: Context,
}

impl Jobs {
    /// Does jobs for as long as there may be any.
    pub(super) async fn work(self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(Job { work, chosen, visitor, answer }) = jobs.recv().await {
            let (by, peer) = (visitor.name(), visitor.origin.peer);
            if answer.is_closed() {
                tracing::info!(?work, by, %peer, "not begun: nobody waits for it any more");
                continue;
            }
            let outcome = work.run(&self.settings, &self.context, &chosen, by.clone()).await;
            match &outcome {
                Ok(result) => tracing::info!(?work, by, %peer, %result, "done"),
                Err(error) => tracing::warn!(?work, by, %peer, "not done: {error:#}"),
            }
            if answer.send(outcome).is_err() {
                tracing::debug!("nobody waits for the answer");
            }
        }
    }
}
