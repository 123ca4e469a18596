//! Schemas that are not known yet: looked up before a record is taken in, or awaited by incomplete records.
//!
//! The first record that names an id waits for the registry's answer, and the partition with it: most answers are the
//! schema, and take milliseconds. If the registry does not know the schema, another lookup may find it soon. The records
//! that name it are then kept as incomplete, with their keys behind them, and the partition goes on.
//!
//! ```text
//!                    the registry answers
//!   NotAsked ─► lookup ──┬─► Usable ─────────────────────────────────────► decoded
//!                 ▲      ├─► Awaited ─► incomplete ─► asked again ─┬─► Usable ─► decoded
//!                 │      │                 ▲                       └─► Unusable ─► dead letter
//!                 └──────│─────────────────┴── too old
//!                        └─► Unusable ──────────────────────────────────► dead letter
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kafka_client::error::chain;
use kafka_core::TopicPartition;
use order_avro::{SchemaId, WriterSchema};
use pacing::ReportLimit;
use schema_registry::{RegistryError, SchemaRegistry};
use tokio::time::{Duration, sleep, sleep_until};

use super::intake::LookedUp;
use super::worker::Worker;
use crate::flow::pause_reasons::PauseReasons;
use crate::telemetry::REPORT_INTERVAL;
use crate::telemetry::partition_status::SharedStatus;

/// The most ids that the incomplete records of a partition await; each is asked for about once a second.
const IDS_MAX: usize = 32;
/// Pause before a registry that does not answer is asked again.
const REGISTRY_PROBE: Duration = Duration::from_secs(1);

/// The incomplete records that await a schema.
#[derive(Default)]
pub(super) struct AwaitedSchemas {
    /// Their offsets, by the id that they name.
    offsets: BTreeMap<SchemaId, Vec<i64>>,
    /// Each ends with its id when the registry's answer is final.
    asking: FuturesUnordered<BoxFuture<'static, SchemaId>>,
}

/// A lookup in the registry for one partition.
#[derive(Clone)]
pub(super) struct Lookup {
    pub(super) schemas: SchemaRegistry,
    pub(super) pause_reasons: PauseReasons,
    pub(super) status: SharedStatus,
    pub(super) tp: TopicPartition,
    pub(super) id: SchemaId,
}

impl AwaitedSchemas {
    /// Returns whether a record that names `id` may wait for it.
    pub(super) fn has_room_for(&self, id: SchemaId) -> bool {
        self.offsets.len() < IDS_MAX || self.offsets.contains_key(&id)
    }

    /// Forgets all of them; the offsets stay incomplete.
    pub(super) fn clear(&mut self) {
        self.offsets.clear();
        self.asking.clear();
    }

    /// Returns the next id about which the registry's answer is final.
    ///
    /// # Cancel safety
    /// Cancel safe: the lookups go on where they were.
    pub(super) async fn next(&mut self) -> Option<SchemaId> {
        self.asking.next().await
    }

    /// Adds a record that awaits the lookup's schema, and returns whether it is the first one.
    pub(super) fn add(&mut self, offset: i64, lookup: Lookup) -> bool {
        let offsets = self.offsets.entry(lookup.id).or_default();
        offsets.push(offset);
        let is_first = offsets.len() == 1;
        if is_first {
            self.asking.push(lookup.final_answer().boxed());
        }
        is_first
    }

    /// Takes the records that await a schema.
    pub(super) fn remove(&mut self, id: SchemaId) -> Vec<i64> {
        self.offsets.remove(&id).unwrap_or_default()
    }
}

impl Lookup {
    /// Waits for the registry's answer, however long the registry is away: the partition pauses, and no record is
    /// dead-lettered.
    pub(super) async fn answer(&self) -> Result<Arc<WriterSchema>, RegistryError> {
        let Self { id, tp, .. } = self;
        let mut outages = ReportLimit::every(REPORT_INTERVAL);
        let mut pause = None;
        loop {
            let answer = self.schemas.schema_by_id(*id).await;
            let Err(error @ RegistryError::Unavailable { .. }) = answer else {
                if pause.is_some() {
                    self.status.lock().waits.for_registry = false;
                    tracing::info!(schema_id = %id, partition = %tp, "the schema registry answers again");
                }
                return answer;
            };
            self.status.lock().waits.for_registry = true;
            pause.get_or_insert_with(|| {
                self.pause_reasons.begin(format!("{tp} waits for the schema registry"))
            });
            if outages.is_due() {
                let error = chain(&error);
                tracing::warn!(
                    schema_id = %id, partition = %tp, error,
                    "partition paused: waiting for the schema registry"
                );
            }
            sleep(REGISTRY_PROBE).await;
        }
    }

    /// Asks until the answer is final: the schema, or that there is none.
    async fn final_answer(self) -> SchemaId {
        while let Err(RegistryError::NotYetKnown { ask_at, .. }) = self.answer().await {
            sleep_until(ask_at).await;
        }
        self.id
    }
}

impl<H> Worker<'_, H> {
    fn lookup(&self, id: SchemaId) -> Lookup {
        Lookup {
            schemas: self.shared.schemas.clone(),
            pause_reasons: self.shared.pause_reasons.clone(),
            status: self.reporting.status.clone(),
            tp: self.tp.clone(),
            id,
        }
    }

    /// Begins to look a schema up for the cursor's next record.
    pub(super) fn begin_lookup(&mut self, id: SchemaId) {
        let lookup = self.lookup(id);
        self.intake.lookup = Some(async move { (id, lookup.answer().await) }.boxed());
    }

    /// Lets the cursor's next record go on.
    pub(super) fn on_looked_up(&mut self, (id, answer): LookedUp) {
        self.intake.lookup = None;
        match answer {
            Ok(schema) => self.intake.schema = Some((id, schema)),
            Err(error) => {
                tracing::debug!(schema_id = %id, %error, "the registry has no such schema");
            }
        }
        self.reporting.status.lock().waits.for_registry = false;
    }

    /// Lets an incomplete record wait until the registry has its schema, or has denied it for long enough.
    pub(super) fn await_schema(&mut self, id: SchemaId, offset: i64) {
        if self.intake.awaited.add(offset, self.lookup(id)) {
            tracing::warn!(
                schema_id = %id, partition = %self.tp, offset,
                "the schema registry does not know this schema yet: its records wait"
            );
        }
    }

    /// Lets the records go on that awaited a schema.
    pub(super) fn on_schema(&mut self, id: SchemaId) {
        self.pending.ready.extend(self.intake.awaited.remove(id));
    }
}
