//! The API: one function for each path.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use control_topic::record::{Role, RunState};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::App;
use super::access::Visitor;
use super::dead_letters::{Dismissed, Replayed, Selection};
use super::problem::{Problem, ProblemBody};
use super::responses::{ChangeRefusals, InvalidRefusals, Refusals};
use crate::control::{self, Target};
use crate::dlq::letter::Place;
use crate::dlq::query::{self, LetterDetails, LetterList};
use crate::view::body::{Control, Group, History, Orders, Snapshot, Stats};

/// How long an answer waits for the control topic to show a command.
const SEEN_MAX: Duration = Duration::from_secs(3);
/// Orders of an answer to a request without a limit.
const ORDERS_DEFAULT: usize = 50;

type Answer<T> = Result<Json<T>, Problem>;

pub(super) async fn nothing() -> Problem {
    Problem(StatusCode::NOT_FOUND, "there is no such path".to_owned())
}

/// The group's numbers.
#[utoipa::path(get, path = "/api/stats", responses((status = OK, body = Stats), Refusals))]
pub(super) async fn stats(State(app): State<Arc<App>>) -> Json<Stats> {
    Json(app.view.fresh().await.stats.clone())
}

/// The numbers of the last minutes.
#[utoipa::path(get, path = "/api/history", responses((status = OK, body = History), Refusals))]
pub(super) async fn history(State(app): State<Arc<App>>) -> Json<History> {
    Json(app.view.look().history.clone())
}

/// The query of `/api/orders`.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Limit {
    /// At most so many.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<usize>,
}

/// The newest orders and what became of them.
#[utoipa::path(
    get,
    path = "/api/orders",
    params(Limit),
    responses((status = OK, body = Orders), InvalidRefusals, Refusals)
)]
pub(super) async fn orders(
    State(app): State<Arc<App>>,
    limit: Result<Query<Limit>, QueryRejection>,
) -> Answer<Orders> {
    let Query(Limit { limit }) = limit?;
    let mut orders = app.view.fresh().await.orders.clone();
    orders.orders.truncate(limit.unwrap_or(ORDERS_DEFAULT));
    Ok(Json(orders))
}

/// The consumer group and its members.
#[utoipa::path(get, path = "/api/group", responses((status = OK, body = Group), Refusals))]
pub(super) async fn group(State(app): State<Arc<App>>) -> Json<Group> {
    Json(app.view.fresh().await.group.clone())
}

/// The last command to generators and processors, and the state of each instance.
#[utoipa::path(get, path = "/api/control", responses((status = OK, body = Control), Refusals))]
pub(super) async fn control(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
) -> Json<Control> {
    Json(shown(&visitor, &*app.view.fresh().await))
}

fn shown(visitor: &Visitor, snapshot: &Snapshot) -> Control {
    snapshot.control.clone().read_only(!visitor.may_change)
}

/// A command to services.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Command {
    #[schema(inline)]
    target: Target,
    #[schema(inline)]
    action: Action,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Pause,
    Resume,
}

/// Pauses or resumes generators, processors, or both.
#[utoipa::path(
    post,
    path = "/api/control",
    operation_id = "steer",
    request_body = Command,
    responses((status = OK, body = Control), InvalidRefusals, ChangeRefusals, Refusals)
)]
pub(super) async fn command(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    command: Result<Json<Command>, JsonRejection>,
) -> Answer<Control> {
    let Json(Command { target, action }) = command?;
    let roles = target.roles();
    let state = match action {
        Action::Pause => RunState::Paused,
        Action::Resume => RunState::Running,
    };
    let commanded = control::command(&app.settings, roles, state, visitor.name()).await;
    commanded.map_err(anyhow::Error::new)?;
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
            role.command.desired == state
        })
    };
    // After a timeout the answer has the latest known state.
    drop(timeout(SEEN_MAX, snapshots.wait_for(is_seen)).await);
    let latest = Arc::clone(&snapshots.borrow());
    Ok(Json(shown(&visitor, &latest)))
}

/// The dead letters by cause, and the newest.
#[utoipa::path(
    get,
    path = "/api/dlq",
    operation_id = "dead_letters",
    params(query::Query),
    responses((status = OK, body = LetterList), InvalidRefusals, Refusals)
)]
pub(super) async fn letters(
    State(app): State<Arc<App>>,
    query: Result<Query<query::Query>, QueryRejection>,
) -> Answer<LetterList> {
    let Query(query) = query?;
    let _permit = app.reads.acquire().await.map_err(anyhow::Error::new)?;
    Ok(Json(query::list(&app.settings, &app.context, &query).await?))
}

/// One dead letter.
#[utoipa::path(
    get,
    path = "/api/dlq/{partition}/{offset}",
    operation_id = "dead_letter",
    params(
        ("partition" = i32, Path, minimum = 0, description = "Its partition of the dead-letter topic."),
        ("offset" = i64, Path, minimum = 0, description = "Its offset there."),
    ),
    responses(
        (status = OK, body = LetterDetails),
        (status = NOT_FOUND, description = "There is no such letter.", body = ProblemBody),
        InvalidRefusals,
        Refusals,
    )
)]
pub(super) async fn letter(
    State(app): State<Arc<App>>,
    place: Result<Path<(i32, i64)>, PathRejection>,
) -> Answer<LetterDetails> {
    let Path((partition, offset)) = place?;
    let _permit = app.reads.acquire().await.map_err(anyhow::Error::new)?;
    let place = Place { partition, offset };
    let letter = query::letter(&app.settings, &app.context, place).await?;
    let error = || format!("there is no dead letter at {place}");
    letter.map(Json).ok_or_else(|| Problem(StatusCode::NOT_FOUND, error()))
}

/// Sends dead letters again, to the group's replay topic, each once.
#[utoipa::path(
    post,
    path = "/api/dlq/replay",
    request_body = Selection,
    responses(
        (status = OK, body = Replayed),
        (status = CONFLICT, description = "Another operator replays.", body = ProblemBody),
        InvalidRefusals,
        ChangeRefusals,
        Refusals,
    )
)]
pub(super) async fn replay(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    selection: Result<Json<Selection>, JsonRejection>,
) -> Answer<Replayed> {
    let Json(selection) = selection?;
    app.change("replay", selection, visitor, Selection::replay).await
}

/// Dismisses dead letters that need no more work.
#[utoipa::path(
    post,
    path = "/api/dlq/dismiss",
    request_body = Selection,
    responses((status = OK, body = Dismissed), InvalidRefusals, ChangeRefusals, Refusals)
)]
pub(super) async fn dismiss(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    selection: Result<Json<Selection>, JsonRejection>,
) -> Answer<Dismissed> {
    let Json(selection) = selection?;
    app.change("dismiss", selection, visitor, Selection::dismiss).await
}
