//! What comes in: fetches, the place in them, and the schemas that their records need.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use kafka_client::reader::Fetched;
use order_avro::{SchemaId, WriterSchema};
use schema_registry::RegistryError;
use tokio::sync::mpsc;

use super::arrival::Arrival;
use super::cursor::{Block, Cursor};
use super::schemas::AwaitedSchemas;

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

    /// Waits until the registry answers the lookup.
    ///
    /// # Cancel safety
    /// Cancel safe: the lookup is kept.
    pub(super) async fn looked_up(lookup: &mut Option<BoxFuture<'static, LookedUp>>) -> LookedUp {
        match lookup {
            Some(pending) => {
                let answer = pending.await;
                *lookup = None;
                answer
            }
            None => std::future::pending().await,
        }
    }
}
