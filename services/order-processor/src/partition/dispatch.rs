//! A record's way in: skipped, repeated, done in place, held, or poison.

use std::time::Duration;

use dead_letter::ErrorType;
use kafka_core::record_batch::{Record, RecordBatch};
use order_avro::{DecodeError, Order, Payload, SCHEMA_ID_HEADER, SchemaId};
use order_ledger::checkpoint::{Admission, CompletedOrder, Origin, RecordState};
use order_ledger::producer_table::Stamp;
use schema_registry::{RegistryError, SchemaStatus};
use tokio::time::Instant;

use super::attempt::{More, Place};
use super::held::{HeldRecord, OwnedRecord, Work};
use super::pieces::Piece;
use super::{Atomic, Intake, Worker};
use crate::handler::{Handler, Outcome};
use crate::settings::Ordering;
use crate::telemetry::partition_status::{FirstWaits, Full, Next};

/// What came of handing a record in.
pub(super) enum Dispatch {
    /// It is taken care of.
    Taken,
    /// It cannot be taken yet.
    Blocked(Block),
}

/// What has to happen before a record can be taken.
#[derive(Clone, Copy)]
pub(super) enum Block {
    /// Something held has to be completed: too much is held, or everything of the partition is kept in order.
    Room(Full),
    /// The writer's schema has to be looked up.
    Schema(SchemaId),
    /// No attempt may begin now.
    Permit,
    /// The letter of what cannot be read has to be written.
    Letter,
    /// The partition is stopped.
    Release,
    /// The brake is on.
    Paused,
}

/// Why a value gave no order.
pub(super) enum Undecoded {
    /// The registry has to be asked for its schema.
    NeedsSchema(SchemaId),
    /// The registry does not have its schema yet.
    AwaitsSchema(SchemaId),
    /// It is no order.
    Poison(Poison),
}

/// A record that no retry can help.
pub(super) struct Poison {
    pub(super) error_type: ErrorType,
    pub(super) message: String,
    pub(super) schema_id: Option<SchemaId>,
    /// The first and the last offset that it stands for, where that is a piece of the log and no record.
    pub(super) offsets: Option<(i64, i64)>,
}

impl<H: Handler> Worker<'_, H> {
    /// Takes in the records of one batch, waiting where one cannot be taken yet.
    pub(super) async fn take_batch(&mut self, batch: &RecordBatch) {
        self.timing.begin_stretch(self.state.aggregate().orders());
        for item in batch.records() {
            loop {
                let dispatch = match &item {
                    Ok(record) => self.dispatch(record),
                    Err(piece) => {
                        let timestamp_ms = batch.header().max_timestamp_ms;
                        self.dispatch_piece(&Piece::of_record(piece, timestamp_ms))
                    }
                };
                match dispatch {
                    Dispatch::Taken => break,
                    Dispatch::Blocked(block) => {
                        self.timing.end_stretch(self.state.aggregate().orders());
                        self.next = item.as_ref().map_or(self.next, |r| Next::At(r.timestamp_ms));
                        self.unblock(block).await;
                        self.timing.begin_stretch(self.state.aggregate().orders());
                    }
                }
                if self.is_ending() {
                    return;
                }
            }
        }
        self.timing.end_stretch(self.state.aggregate().orders());
    }

    fn dispatch(&mut self, record: &Record<'_>) -> Dispatch {
        if let Some(block) = self.block(record.offset) {
            return Dispatch::Blocked(block);
        }
        // Replays can be on the orders' own topic too; most records have too few headers to be one.
        let headers = || record.headers.iter().map(|header| (header.name, header.value));
        let may_be_replay = record.headers.len() >= Origin::REPLAY_HEADERS_MIN;
        let origin = if may_be_replay { Origin::of(headers()) } else { Origin::Produced };
        let delay = match self.state.record_state(record.offset) {
            RecordState::Doomed { reason, .. } => {
                return self.dispatch_doomed(record, reason, origin);
            }
            // It has failed before a restart.
            RecordState::Incomplete { attempts: attempts @ 1.. } => {
                self.shared.retry.delay_after(attempts, Duration::ZERO, None, rand::random)
            }
            RecordState::Incomplete { attempts: 0 }
            | RecordState::Complete
            | RecordState::NotRead => None,
        };
        let decoded = match self.decode(record.value, schema_header(record)) {
            Err(Undecoded::NeedsSchema(id)) => return Dispatch::Blocked(Block::Schema(id)),
            Err(Undecoded::AwaitsSchema(id)) if !self.awaited.has_room_for(id) => {
                return Dispatch::Blocked(Block::Room(Full::Schemas));
            }
            decoded => decoded,
        };
        let is_behind_its_key = self.shared.ordering == Ordering::Key
            && record.key.is_some_and(|key| self.held.is_busy(key));
        // Before the record is admitted: from there on there is no way back.
        let is_tried = decoded.is_ok() && !is_behind_its_key && delay.is_none();
        if is_tried && !self.permits.allow() {
            return Dispatch::Blocked(Block::Permit);
        }
        let stamp = if self.shared.dedupe { Stamp::of(headers()) } else { None };
        let attempts = match self.state.admit(record.offset, stamp) {
            Admission::Process { attempts } => attempts,
            Admission::Doomed { .. } | Admission::Repeat | Admission::Skip => {
                return Dispatch::Taken;
            }
        };
        match decoded {
            Err(Undecoded::Poison(poison)) => {
                self.hold(record, Work::new(attempts, None, poison.schema_id, origin));
                self.give_up(record.offset, poison);
            }
            Err(Undecoded::NeedsSchema(id) | Undecoded::AwaitsSchema(id)) => {
                let work = Work::new(attempts, None, Some(id), origin);
                let keeps_key = self.shared.ordering == Ordering::Key;
                let (offset, record) = (record.offset, OwnedRecord::copy(record, self.arrival));
                let held = HeldRecord { record, work, keeps_key };
                if is_behind_its_key {
                    self.held.park(held);
                } else {
                    self.held.hold(held);
                    self.await_schema(id, offset);
                }
            }
            Ok((order, schema_id)) => {
                if is_behind_its_key {
                    let record = OwnedRecord::copy(record, self.arrival);
                    let work = Work::new(attempts, Some(order), schema_id, origin);
                    self.held.park(HeldRecord { record, work, keeps_key: true });
                } else if let Some(delay) = delay {
                    self.hold(record, Work::new(attempts, Some(order), schema_id, origin));
                    self.held.wait(record.offset, Instant::now() + delay);
                } else {
                    self.attempt_in_place(record, order, schema_id, attempts + 1, origin);
                }
            }
        }
        Dispatch::Taken
    }

    /// Makes the first attempt at a record; one that is done at once is never held.
    fn attempt_in_place(
        &mut self,
        record: &Record<'_>,
        order: Order,
        schema_id: Option<SchemaId>,
        attempts: u32,
        origin: Origin,
    ) {
        let place = Place {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            more: More::of(
                record.headers.len(),
                || record.headers.iter().map(|header| (header.name, header.value)),
                origin,
                self.traces(),
            ),
        };
        match self.start(place, order, attempts) {
            Some((order, Ok(Outcome::Done))) => {
                self.answered();
                let timestamp_ms = self.arrival.time_of(record.timestamp_ms);
                let completed =
                    CompletedOrder { timestamp_ms, price: order.price, attempts, origin };
                self.state.complete_order(record.offset, completed);
                let headers = record.headers.iter().map(|header| (header.name, header.value));
                self.processed(record.offset, &order, attempts, headers);
            }
            Some((order, outcome)) => {
                self.timing.attempt(Duration::ZERO, &outcome);
                self.hold(record, Work::new(attempts, Some(order), schema_id, origin));
                self.settle(record.offset, outcome);
            }
            None => self.hold(record, Work::new(attempts, None, schema_id, origin)),
        }
        self.permits.end_probe();
    }

    pub(super) fn hold(&mut self, record: &Record<'_>, work: Work) {
        // Poison is out of its key's order: nothing is done with it but writing it down.
        let keeps_key = work.attempts > 0 && self.shared.ordering == Ordering::Key;
        let record = OwnedRecord::copy(record, self.arrival);
        self.held.hold(HeldRecord { record, work, keeps_key });
    }

    /// Returns what keeps any record from being taken.
    #[inline]
    pub(super) fn block(&self, offset: i64) -> Option<Block> {
        if self.shared.halt.is_on() {
            return Some(Block::Paused);
        }
        if let Some(full) = self.full(offset) {
            return Some(Block::Room(full));
        }
        self.guarded.is_some().then_some(Block::Release)
    }

    /// Returns what keeps one more record from becoming incomplete: the checkpoint's window, or the memory bound.
    fn full(&self, offset: i64) -> Option<Full> {
        if self.held.is_empty() {
            None
        } else if self.shared.ordering == Ordering::Partition {
            Some(Full::Order)
        } else if !self.state.has_room_for(offset) {
            Some(Full::Window)
        } else {
            let held_bytes = self.shared.held_bytes.load(Atomic::Relaxed);
            (held_bytes >= self.shared.held_bytes_max).then_some(Full::Bytes)
        }
    }

    pub(super) fn decode(
        &mut self,
        value: Option<&[u8]>,
        schema_header: Option<&[u8]>,
    ) -> Result<(Order, Option<SchemaId>), Undecoded> {
        let Some(value) = value else {
            return Err(poison(ErrorType::Tombstone, "the record has no value", None));
        };
        let bytes_max = self.shared.value_bytes_max;
        if value.len() > bytes_max {
            let message =
                format!("the value has {} bytes, MAX_VALUE_BYTES is {bytes_max}", value.len());
            return Err(poison(ErrorType::Oversize, message, None));
        }
        let payload = order_avro::recognise(value, schema_header, self.shared.payload_format)
            .map_err(|error| undecodable(&error, None))?;
        let (order, schema_id) = match payload {
            Payload::Confluent { schema_id, datum } => {
                let schema = self.schema(schema_id)?;
                (schema.decode(datum), Some(schema_id))
            }
            Payload::SingleObject { fingerprint, datum } => {
                (order_avro::decode_single_object(fingerprint, datum), None)
            }
            Payload::Container(file) => (order_avro::decode_container(file, bytes_max), None),
            Payload::Bare(datum) => (order_avro::WriterSchema::own().decode(datum), None),
        };
        let order = order.map_err(|error| undecodable(&error, schema_id))?;
        order_avro::validate(&order).map_err(|error| undecodable(&error, schema_id))?;
        Ok((order, schema_id))
    }

    fn schema(&mut self, id: SchemaId) -> Result<&order_avro::WriterSchema, Undecoded> {
        if self.schema.as_ref().is_none_or(|(last, _)| *last != id) {
            match self.shared.schemas.status(id) {
                SchemaStatus::Usable(schema) => self.schema = Some((id, schema)),
                SchemaStatus::NotAsked => return Err(Undecoded::NeedsSchema(id)),
                SchemaStatus::Awaited => return Err(Undecoded::AwaitsSchema(id)),
                SchemaStatus::Unusable(error) => {
                    let error_type = if matches!(error, RegistryError::InvalidSchema { .. }) {
                        ErrorType::SchemaMismatch
                    } else {
                        ErrorType::UnknownSchema
                    };
                    return Err(poison(error_type, error.to_string(), Some(id)));
                }
            }
        }
        match &self.schema {
            Some((_, schema)) => Ok(schema),
            None => Err(Undecoded::NeedsSchema(id)),
        }
    }

    /// Returns what the first incomplete record waits for.
    fn first_waits(&self) -> FirstWaits {
        let Some(first) = self.held.oldest() else { return FirstWaits::Attempt };
        match (self.state.record_state(first.record.offset), first.work.due) {
            (RecordState::Doomed { .. }, _) => FirstWaits::Letter,
            (_, Some(due)) => FirstWaits::Retry { due, attempts: first.work.attempts },
            (_, None) => FirstWaits::Attempt,
        }
    }

    /// Waits until what blocks the record at hand may have gone; everything held goes on meanwhile.
    pub(super) async fn unblock(&mut self, block: Block) {
        self.publish();
        match block {
            Block::Room(full) => {
                self.standing.lock().full = Some((full, self.first_waits()));
                // Nothing is taken in, so the turn returns nothing.
                self.turn(Intake::Closed).await;
                self.standing.lock().full = None;
            }
            Block::Letter | Block::Release | Block::Paused => {
                self.turn(Intake::Closed).await;
            }
            Block::Schema(id) => {
                self.look_up(id).await;
                self.standing.lock().waits_for_registry = false;
            }
            Block::Permit => self.wait_for_permit().await,
        }
    }
}

/// Returns what names the schema of a record's value beside it; of several headers the last, as for Kafka's own clients.
#[inline]
pub(super) fn schema_header<'a>(record: &Record<'a>) -> Option<&'a [u8]> {
    record.headers.last(SCHEMA_ID_HEADER.as_bytes())?.value
}

fn poison(
    error_type: ErrorType,
    message: impl Into<String>,
    schema_id: Option<SchemaId>,
) -> Undecoded {
    Undecoded::Poison(Poison { error_type, message: message.into(), schema_id, offsets: None })
}

fn undecodable(error: &DecodeError, schema_id: Option<SchemaId>) -> Undecoded {
    poison(error.kind().into(), kafka_client::error::chain(error), schema_id)
}
