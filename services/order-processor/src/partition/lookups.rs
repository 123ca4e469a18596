//! What the worker does about schemas that are not known yet.

use futures_util::future::FutureExt as _;
use order_avro::SchemaId;

use super::intake::LookedUp;
use super::schemas::Lookup;
use super::worker::Worker;

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
        self.attempts.ready.extend(self.intake.awaited.remove(id));
    }
}
