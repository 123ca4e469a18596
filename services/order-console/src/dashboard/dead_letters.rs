//! Replays and dismissals of dead letters for the API, one after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr as _;

use axum::Json;
use axum::http::StatusCode;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use service_runtime::Context;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::App;
use super::access::Visitor;
use super::problem::Problem;
use crate::dlq::dismiss;
use crate::dlq::filter::{self, Filter};
use crate::dlq::letter::Place;
use crate::dlq::letter_state::LetterState;
use crate::dlq::query::{InvalidRequest, Query};
use crate::dlq::queue::DeadLetterQueue;
use crate::operator::Operator;
use crate::replay::{self, Tally};
use crate::settings::ConsoleSettings;
use crate::text::TEXT_BYTES_MAX;

/// The ends of partitions of the dead-letter topic. A dry run counts the letters below them; a request with them leaves
/// later letters alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = BTreeMap<String, u64>)]
pub(super) struct Ends(BTreeMap<i32, i64>);

/// A selection of letters: those at places, or those that match a filter.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    /// These letters.
    #[schema(value_type = Option<Vec<Place>>, max_items = 1000)]
    places: Option<Vec<String>>,
    /// Those that match.
    filter: Option<Query>,
    /// At most so many, in the order of the dead-letter topic.
    #[schema(minimum = 1)]
    limit: Option<u64>,
    /// Whether the letters are only counted.
    #[serde(default)]
    #[schema(required)]
    dry_run: bool,
    before: Option<Ends>,
    /// Why the letters are dismissed, for operators who read it later. Dismissals need it, unless it is a dry run.
    #[schema(min_length = 1)]
    reason: Option<String>,
}

/// What was sent, or would be.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Replayed {
    dry_run: bool,
    #[serde(flatten)]
    tally: Tally,
    before: Ends,
    /// Why not all were sent.
    error: Option<String>,
}

/// What was dismissed, or would be.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(super) struct Dismissed {
    dry_run: bool,
    chosen: u64,
    dismissed: u64,
    before: Ends,
}

impl Selection {
    fn selection(&self) -> Result<filter::Selection, InvalidRequest> {
        let before = self.before.clone().map(|Ends(before)| before);
        Ok(filter::Selection::of(Filter { before, ..self.filter()? }, self.limit))
    }

    fn filter(&self) -> Result<Filter, InvalidRequest> {
        let invalid = |text: &str| Err(InvalidRequest(text.to_owned()));
        match (&self.places, &self.filter) {
            (Some(places), None) if !places.is_empty() => {
                let places = places.iter().map(|place| Place::from_str(place));
                let places = places.collect::<Result<_, _>>();
                let places = places.map_err(|error| InvalidRequest(error.to_string()))?;
                Ok(Filter { places, ..Filter::default() })
            }
            (None, Some(query)) => {
                let (filter, state) = query.filter()?;
                if state.is_some_and(|state| state != LetterState::Unresolved) {
                    return invalid("only unresolved dead letters can be replayed or dismissed");
                }
                Ok(filter)
            }
            (_, _) => invalid("say which dead letters: places that are not none, or a filter"),
        }
    }

    fn reason(&self) -> Result<String, InvalidRequest> {
        let reason = self.reason.as_deref().map(str::trim).unwrap_or_default();
        if reason.is_empty() && !self.dry_run {
            return Err(InvalidRequest("say the reason".to_owned()));
        }
        if reason.len() > TEXT_BYTES_MAX {
            let error = format!("the reason is too long: {TEXT_BYTES_MAX} bytes are kept");
            return Err(InvalidRequest(error));
        }
        Ok(reason.to_owned())
    }

    /// Sends the selected letters again, or counts them. The error that ended the replay early is beside the counts.
    ///
    /// # Errors
    /// [`InvalidRequest`], [`Busy`](replay::Busy), or when the cluster does not answer before anything was sent.
    pub(super) async fn replay(
        self,
        settings: ConsoleSettings,
        context: Context,
        operator: Operator,
    ) -> anyhow::Result<Replayed> {
        let request = replay::Request {
            selection: self.selection()?,
            dry_run: self.dry_run,
            interval: None,
            replays_max: replay::REPLAYS_MAX,
            dropped: Vec::new(),
            to_source: false,
            break_lock: false,
            operator,
        };
        let mut queue = DeadLetterQueue::open(settings, context).await?;
        let notify = |notice: &str| tracing::info!("{notice}");
        let (tally, outcome) = replay::execute(&mut queue, &request, &notify).await?.tally();
        Ok(Replayed {
            dry_run: self.dry_run,
            tally,
            before: Ends(queue.log.ends()),
            error: outcome.err().map(|error| format!("{error:#}")),
        })
    }

    /// Dismisses the selected letters, or counts them.
    ///
    /// # Errors
    /// [`InvalidRequest`], or when the cluster does not answer.
    pub(super) async fn dismiss(
        self,
        settings: ConsoleSettings,
        context: Context,
        operator: Operator,
    ) -> anyhow::Result<Dismissed> {
        let request = dismiss::Request {
            reason: Some(self.reason()?),
            selection: self.selection()?,
            undo: false,
            dry_run: self.dry_run,
            operator,
        };
        let mut queue = DeadLetterQueue::open(settings, context).await?;
        let chosen = dismiss::execute(&mut queue, &request).await?.changed;
        let dismissed = if self.dry_run { 0 } else { chosen };
        let before = Ends(queue.log.ends());
        Ok(Dismissed { dry_run: self.dry_run, chosen, dismissed, before })
    }
}

/// A replay or dismissal that waits for those before it.
pub(super) type Job = BoxFuture<'static, ()>;

impl App {
    /// Changes the selected letters after the jobs that wait, or counts them at once. Once begun a change is completed, even
    /// if the client has gone.
    pub(super) async fn change<T, F>(
        &self,
        work: &'static str,
        selection: Selection,
        visitor: Visitor,
        execute: impl FnOnce(Selection, ConsoleSettings, Context, Operator) -> F + Send + 'static,
    ) -> Result<Json<T>, Problem>
    where
        T: fmt::Debug + Send + 'static,
        F: Future<Output = anyhow::Result<T>> + Send,
    {
        let (settings, context) = (self.settings.clone(), self.context.clone());
        let (by, peer) = (visitor.name(), visitor.origin.peer);
        let operator = Operator { by: by.clone() };
        if selection.dry_run {
            let _permit = self.reads.acquire().await.map_err(anyhow::Error::new)?;
            return Ok(Json(execute(selection, settings, context, operator).await?));
        }
        let (answer, answered) = oneshot::channel();
        let job = async move {
            if answer.is_closed() {
                tracing::info!(by, %peer, "not begun: the client has gone");
                return;
            }
            let outcome = execute(selection, settings, context, operator).await;
            match &outcome {
                Ok(result) => tracing::info!(work, by, %peer, ?result, "done"),
                Err(error) => tracing::warn!(work, by, %peer, "not done: {error:#}"),
            }
            if answer.send(outcome).is_err() {
                tracing::debug!("the client does not wait for the answer");
            }
        };
        self.jobs.try_send(job.boxed()).map_err(|_full| {
            let error = "other replays or dismissals are in progress: try again".to_owned();
            Problem(StatusCode::SERVICE_UNAVAILABLE, error)
        })?;
        Ok(Json(answered.await.map_err(anyhow::Error::new)??))
    }
}
