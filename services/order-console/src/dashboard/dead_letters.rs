//! Replays and dismissals of dead letters for the API, one after the other.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use serde::{Deserialize, Serialize};
use service_runtime::Context;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use super::access::Visitor;
use crate::dlq::dismiss::{self, Mode};
use crate::dlq::filter::Filter;
use crate::dlq::letter::Place;
use crate::dlq::letter_state::LetterState;
use crate::dlq::query::{InvalidRequest, Query};
use crate::dlq::queue::DeadLetterQueue;
use crate::replay::{self, Destination, Others, Tally};
use crate::settings::ConsoleSettings;
use crate::text::TEXT_BYTES_MAX;

/// Letters that failed after as many replays are left alone.
const REPLAYS_MAX: u32 = 3;

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
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    fn filter(&self) -> Result<Filter, InvalidRequest> {
        let before = self.before.clone().map(|Ends(before)| before);
        Ok(Filter { before, ..self.selected()? })
    }

    fn selected(&self) -> Result<Filter, InvalidRequest> {
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
        &self,
        settings: &ConsoleSettings,
        context: &Context,
        by: String,
    ) -> anyhow::Result<Replayed> {
        let request = replay::Request {
            filter: self.filter()?,
            limit: self.limit.unwrap_or(u64::MAX),
            replays_max: REPLAYS_MAX,
            destination: Destination::ReplayTopic,
            dropped: Vec::new(),
            interval: None,
            mode: if self.dry_run { replay::Mode::DryRun } else { replay::Mode::Send },
            others: Others::Respect,
            by,
        };
        let mut queue = DeadLetterQueue::open(settings.clone(), context.clone()).await?;
        let notify = |notice: replay::Notice| tracing::info!("{notice}");
        let (tally, outcome) = replay::execute(&mut queue, &request, &notify).await?.tally();
        Ok(Replayed {
            dry_run: self.dry_run,
            tally,
            before: Ends(queue.ends()),
            error: outcome.err().map(|error| format!("{error:#}")),
        })
    }

    /// Dismisses the selected letters, or counts them.
    ///
    /// # Errors
    /// [`InvalidRequest`], or when the cluster does not answer.
    pub(super) async fn dismiss(
        &self,
        settings: &ConsoleSettings,
        context: &Context,
        by: String,
    ) -> anyhow::Result<Dismissed> {
        let request = dismiss::Request {
            reason: Some(self.reason()?),
            filter: self.filter()?,
            limit: self.limit.unwrap_or(u64::MAX),
            by,
        };
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Write };
        let mut queue = DeadLetterQueue::open(settings.clone(), context.clone()).await?;
        let chosen = dismiss::execute(&mut queue, &request, mode).await?.changed;
        let dismissed = if self.dry_run { 0 } else { chosen };
        let before = Ends(queue.ends());
        Ok(Dismissed { dry_run: self.dry_run, chosen, dismissed, before })
    }
}

/// The answer to a job.
type Answer<T> = oneshot::Sender<anyhow::Result<T>>;

/// A task that changes dead letters.
#[derive(Debug)]
pub(super) enum Work {
    Replay(Answer<Replayed>),
    Dismiss(Answer<Dismissed>),
}

/// A replay or dismissal that waits for those before it. Once begun it is completed, even if the client has gone.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) selection: Selection,
    pub(super) visitor: Visitor,
}

/// Does jobs one after the other, until there can be no more.
pub(super) async fn work(
    settings: ConsoleSettings,
    context: Context,
    mut jobs: mpsc::Receiver<Job>,
) {
    while let Some(Job { work, selection, visitor }) = jobs.recv().await {
        let by = visitor.name();
        match work {
            Work::Replay(answer) if !answer.is_closed() => {
                let outcome = selection.replay(&settings, &context, by).await;
                finish("replay", &visitor, answer, outcome);
            }
            Work::Dismiss(answer) if !answer.is_closed() => {
                let outcome = selection.dismiss(&settings, &context, by).await;
                finish("dismiss", &visitor, answer, outcome);
            }
            Work::Replay(_) | Work::Dismiss(_) => {
                tracing::info!(by, peer = %visitor.origin.peer, "not begun: the client has gone");
            }
        }
    }
}

fn finish<T: std::fmt::Debug>(
    work: &str,
    visitor: &Visitor,
    answer: Answer<T>,
    outcome: anyhow::Result<T>,
) {
    let (by, peer) = (visitor.name(), visitor.origin.peer);
    match &outcome {
        Ok(result) => tracing::info!(work, by, %peer, ?result, "done"),
        Err(error) => tracing::warn!(work, by, %peer, "not done: {error:#}"),
    }
    if answer.send(outcome).is_err() {
        tracing::debug!("the client does not wait for the answer");
    }
}
