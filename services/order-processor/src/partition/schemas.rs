//! Schemas that are not known yet: looked up before a record is taken in, or waited for by records that were.
//!
//! The first record that names an id waits until the registry has answered, and the partition with it: most answers are
//! the schema, and take milliseconds. Where the answer is that there is no such schema, it may be there soon. The records
//! that name it are held then, with their keys behind them, and everything else goes on.
//!
//! ```text
//!                    the registry answers
//!   NotAsked ─► look_up ─┬─► Usable ─────────────────────────────────► decoded
//!                 ▲      ├─► Awaited ─► held ─► asked again ─┬─► Usable ─► decoded
//!                 │      │                 ▲                 └─► Unusable ─► dead letter
//!                 └──────│─────────────────┴── too old
//!                        └─► Unusable ──────────────────────────────► dead letter
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kafka_core::TopicPartition;
use order_avro::{SchemaId, WriterSchema};
use schema_registry::{RegistryError, SchemaRegistry};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::{Intake, Worker};
use crate::flow::pause_reasons::Pauses;
use crate::handler::Handler;
use crate::telemetry::partition_status::SharedStanding;

/// How many different ids the held records of a partition wait for at most; each is asked for about once a second.
const IDS_MAX: usize = 32;
/// Pause before a registry that does not answer is asked again.
const REGISTRY_PROBE: Duration = Duration::from_secs(1);
/// How often a registry that does not answer is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The held records that wait for a schema.
#[derive(Default)]
pub(super) struct AwaitedSchemas {
    /// Their offsets, by the id that they name.
    offsets: BTreeMap<SchemaId, Vec<i64>>,
    /// Each ends with its id when there is an answer that is final.
    asking: FuturesUnordered<BoxFuture<'static, SchemaId>>,
}

/// Asks the registry on behalf of one partition.
#[derive(Clone)]
struct Inquiry {
    schemas: SchemaRegistry,
    pauses: Pauses,
    standing: SharedStanding,
    tp: TopicPartition,
    id: SchemaId,
}

impl AwaitedSchemas {
    /// Returns whether a record that names `id` may wait for it.
    pub(super) fn has_room_for(&self, id: SchemaId) -> bool {
        self.offsets.len() < IDS_MAX || self.offsets.contains_key(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Forgets all of them; the offsets stay incomplete.
    pub(super) fn clear(&mut self) {
        self.offsets.clear();
        self.asking.clear();
    }

    /// Returns the next id about which there is a final answer.
    ///
    /// Cancel safe: asking goes on where it was.
    pub(super) async fn next(&mut self) -> Option<SchemaId> {
        self.asking.next().await
    }
}

impl Inquiry {
    /// Waits for an answer of the registry, however long it is away: the partition pauses, and nothing is dead-lettered.
    async fn answer(&self) -> Result<Arc<WriterSchema>, RegistryError> {
        let Self { id, tp, .. } = self;
        let mut reported: Option<Instant> = None;
        let mut pause = None;
        loop {
            let answer = self.schemas.schema_by_id(*id).await;
            let Err(error @ RegistryError::Unavailable { .. }) = answer else {
                if pause.is_some() {
                    self.standing.lock().waits_for_registry = false;
                    tracing::info!(schema_id = %id, partition = %tp, "the schema registry answers again");
                }
                return answer;
            };
            self.standing.lock().waits_for_registry = true;
            pause.get_or_insert_with(|| {
                self.pauses.begin(format!("{tp} waits for the schema registry"))
            });
            if reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                let error = kafka_client::error::chain(&error);
                tracing::warn!(
                    schema_id = %id, partition = %tp, error,
                    "partition paused: waiting for the schema registry"
                );
                reported = Some(Instant::now());
            }
            sleep(REGISTRY_PROBE).await;
        }
    }

    /// Asks until the answer is final: the schema, or that there is none.
    async fn settle(self) -> SchemaId {
        while let Err(RegistryError::NotYetKnown { ask_at, .. }) = self.answer().await {
            sleep_until(ask_at).await;
        }
        self.id
    }
}

impl<H: Handler> Worker<'_, H> {
    fn inquiry(&self, id: SchemaId) -> Inquiry {
        Inquiry {
            schemas: self.shared.schemas.clone(),
            pauses: self.shared.pauses.clone(),
            standing: self.standing.clone(),
            tp: self.tp.clone(),
            id,
        }
    }

    /// Looks a schema up for the record at hand; everything held goes on meanwhile.
    pub(super) async fn look_up(&mut self, id: SchemaId) {
        let inquiry = self.inquiry(id);
        match self.meanwhile(inquiry.answer()).await {
            Some(Ok(schema)) => self.schema = Some((id, schema)),
            Some(Err(error)) => tracing::debug!(schema_id = %id, %error, "schema cannot be had"),
            None => {}
        }
    }

    /// Lets a held record wait until the registry has its schema, or has denied it for long enough.
    pub(super) fn await_schema(&mut self, id: SchemaId, offset: i64) {
        let offsets = self.awaited.offsets.entry(id).or_default();
        if offsets.is_empty() {
            tracing::warn!(
                schema_id = %id, partition = %self.tp, offset,
                "the schema registry does not know this schema yet: its records wait"
            );
            let inquiry = self.inquiry(id);
            self.awaited.asking.push(inquiry.settle().boxed());
        }
        self.awaited.offsets.entry(id).or_default().push(offset);
    }

    /// Lets the records go on that waited for a schema.
    pub(super) fn on_schema(&mut self, id: SchemaId) {
        self.ready.extend(self.awaited.offsets.remove(&id).unwrap_or_default());
    }

    /// Waits for `future` while everything held goes on; `None` when the worker is told to end.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => return Some(output),
                _ = self.turn(Intake::Closed) => if self.is_ending() {
                    return None;
                },
            }
        }
    }
}
