//! What comes in: fetches, the place in them, and what the next record waits for.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use kafka_client::reader::Fetched;
use order_avro::{SchemaId, WriterSchema};
use schema_registry::RegistryError;
use tokio::sync::mpsc;

use super::cursor::{Arrival, Block, Cursor};
use super::schemas::AwaitedSchemas;
use super::worker::Worker;
use crate::handler::Handler;

/// The registry's answer to a lookup.
pub(super) type LookedUp = (SchemaId, Result<Arc<WriterSchema>, RegistryError>);

pub(super) struct Intake {
    pub(super) fetched: mpsc::Receiver<Fetched>,
    pub(super) cursor: Option<Cursor>,
    /// What the cursor's next record waits for.
    pub(super) block: Option<Block>,
    /// The lookup of a schema that the next record waits for.
    pub(super) lookup: Option<BoxFuture<'static, LookedUp>>,
    /// The schema of the last order: most orders have the same.
    pub(super) schema: Option<(SchemaId, Arc<WriterSchema>)>,
    pub(super) awaited: AwaitedSchemas,
    /// How the timestamps of the batch at hand were set.
    pub(super) arrival: Arrival,
}

impl Intake {
    pub(super) fn new(fetched: mpsc::Receiver<Fetched>) -> Self {
        Self {
            fetched,
            cursor: None,
            block: None,
            lookup: None,
            schema: None,
            awaited: AwaitedSchemas::default(),
            arrival: Arrival::Appended,
        }
    }

    /// Returns whether the next record can be taken in, as far as is known.
    pub(super) fn is_ready(&self) -> bool {
        self.cursor.is_some() && self.block.is_none()
    }

    /// Drops everything that is not taken in; the offsets stay incomplete.
    pub(super) fn clear(&mut self) {
        self.cursor = None;
        self.block = None;
        self.lookup = None;
        self.awaited.clear();
    }
}

impl<H: Handler> Worker<'_, H> {
    /// Returns whether an attempt could begin if there were a permit.
    pub(super) fn wants_permit(&self) -> bool {
        (self.pending.permits.newcomer_waits || !self.pending.ready.is_empty())
            && self.session.draining.is_none()
            && self.may_begin()
    }

    /// Tells the limiter whether this worker has an order to probe with: one that waits, or one in flight. Orders that wait
    /// while the replica is paused do not count.
    pub(super) fn note_prober(&mut self) {
        let waits = self.pending.permits.newcomer_waits || !self.pending.incomplete.is_empty();
        let is_paused = self.shared.pause_switch.is_paused() && self.pending.in_flight.is_empty();
        self.pending.permits.probes(waits && !is_paused);
    }

    /// Notes what the next record waits for, and asks for it.
    pub(super) fn await_unblocking(&mut self, block: Block) {
        self.intake.block = Some(block);
        match block {
            Block::Room(full) => {
                let first_waits = self.first_waits();
                self.reporting.status.lock().waits.full = Some((full, first_waits));
            }
            Block::Schema(id) => self.begin_lookup(id),
            Block::Permit => self.pending.permits.newcomer_waits = true,
            Block::Letter | Block::Release | Block::Paused => {}
        }
    }

    /// Lets the next record be tried again if what it waits for may have happened.
    pub(super) fn reconsider(&mut self) {
        match self.intake.block {
            None => return,
            Some(Block::Room(_)) => self.reporting.status.lock().waits.full = None,
            Some(Block::Schema(_)) if self.intake.lookup.is_some() => return,
            Some(Block::Schema(_) | Block::Letter | Block::Release | Block::Paused) => {}
            Some(Block::Permit) => {
                if self.pending.permits.at_hand.is_none() && self.wants_permit() {
                    return;
                }
                self.pending.permits.newcomer_waits = false;
                self.reporting.status.lock().waits.for_permit = false;
            }
        }
        self.intake.block = None;
    }
}
