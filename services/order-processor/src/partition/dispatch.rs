//! A record's way in: skipped, done in place, kept as incomplete, or given up.

use std::sync::atomic::Ordering as Atomic;
use std::time::Duration;

use anyhow::Context as _;
use kafka_client::error::chain;
use kafka_core::record_batch::{DamagedBatch, Record, RecordBatch, RecordPosition};
use order_avro::{Order, SchemaId};
use order_ledger::checkpoint::{Admission, CompletedOrder, Origin, RecordState};
use tokio::time::Instant;

use super::attempt::{More, Place};
use super::cursor::{Block, Content, Cursor};
use super::decoding::{Undecoded, schema_header};
use super::incomplete::{IncompleteRecord, OwnedRecord, Work};
use super::unreadable_range::UnreadableRange;
use super::worker::Worker;
use crate::handler::{Handler, Outcome};
use crate::settings::{OnCorruptBatch, Ordering};
use crate::telemetry::partition_status::{Full, Next};

impl<H: Handler> Worker<'_, H> {
    /// Takes in one batch, or as much of it as can be taken in.
    ///
    /// # Errors
    /// When a batch is damaged and `CORRUPT_BATCH=fail`.
    pub(super) fn ingest(&mut self) -> anyhow::Result<()> {
        let Some(mut batch) = self.intake.cursor.as_mut().and_then(Cursor::next_batch) else {
            self.intake.cursor = None;
            return Ok(());
        };
        self.intake.arrival = batch.arrival;
        self.reporting.delivered += std::mem::take(&mut batch.delivered);
        if let Some(base_timestamp_ms) = batch.base_timestamp_ms.take() {
            self.reporting.next = Next::At(base_timestamp_ms);
        }
        let taken = match &mut batch.content {
            Content::Records { batch, position } => self.ingest_records(batch, position),
            Content::Damaged { batch, is_reported } => {
                self.report_damage(batch, is_reported)?;
                self.dispatch_range(&UnreadableRange::of_batch(batch))
            }
            Content::Nothing => Ok(()),
        };
        if let Err(block) = taken {
            if let Some(cursor) = &mut self.intake.cursor {
                cursor.put_back(batch);
            }
            self.await_unblocking(block);
            return Ok(());
        }
        if let Some(max_timestamp_ms) = batch.max_timestamp_ms {
            self.reporting.next = Next::After(max_timestamp_ms);
        }
        self.advance_to(batch.next_offset);
        Ok(())
    }

    /// Takes in the records of a batch from its position on.
    fn ingest_records(
        &mut self,
        batch: &RecordBatch,
        position: &mut RecordPosition,
    ) -> Result<(), Block> {
        self.reporting.timing.begin_stretch(self.state.aggregate().orders());
        let mut records = batch.records_at(*position);
        let mut taken = Ok(());
        loop {
            let before = records.position();
            let Some(item) = records.next() else { break };
            let dispatched = match &item {
                Ok(record) => self.dispatch(record),
                Err(range) => {
                    let timestamp_ms = batch.header().max_timestamp_ms;
                    self.dispatch_range(&UnreadableRange::of_record(range, timestamp_ms))
                }
            };
            if let Err(block) = dispatched {
                if let Ok(record) = item {
                    self.reporting.next = Next::At(record.timestamp_ms);
                }
                *position = before;
                taken = Err(block);
                break;
            }
        }
        self.reporting.timing.end_stretch(self.state.aggregate().orders());
        taken
    }

    /// Reports a damaged batch once, and ends the process if the settings say so.
    fn report_damage(&self, damaged: &DamagedBatch, is_reported: &mut bool) -> anyhow::Result<()> {
        if std::mem::replace(is_reported, true) {
            return Ok(());
        }
        if self.shared.settings.corrupt_batch == OnCorruptBatch::Fail {
            return Err(anyhow::Error::msg(UnreadableRange::of_batch(damaged).cause.message))
                .with_context(|| format!("read {} of the log (CORRUPT_BATCH=fail)", self.tp));
        }
        tracing::error!(
            partition = %self.tp,
            first_offset = damaged.first_offset,
            last_offset = damaged.last_offset,
            bytes = damaged.bytes.len(),
            fault = %chain(&damaged.fault),
            "a batch in the log is damaged: its bytes go to the dead-letter topic"
        );
        Ok(())
    }

    /// Notes that everything below `next_offset` was taken in.
    fn advance_to(&mut self, next_offset: i64) {
        let gone = self.state.advance_to(next_offset);
        if gone > 0 {
            let skipped = u64::try_from(gone).unwrap_or(u64::MAX);
            self.shared.instruments.skipped_offsets.inc_by(skipped);
            tracing::warn!(
                partition = %self.tp, gone,
                "the log start moved past records that were not processed"
            );
        }
    }

    fn dispatch(&mut self, record: &Record<'_>) -> Result<(), Block> {
        self.check_room(record.offset)?;
        // Replays can be in the orders' own topic too; most records have too few headers to be one.
        let headers = || record.headers.iter().map(|header| (header.name, header.value));
        let may_be_replay = record.headers.len() >= Origin::REPLAY_HEADERS_MIN;
        let origin = if may_be_replay { Origin::of(headers()) } else { Origin::Produced };
        let delay = match self.state.record_state(record.offset) {
            RecordState::Doomed { reason, .. } => {
                return self.dispatch_doomed(record, reason, origin);
            }
            // It has failed before a restart.
            RecordState::Incomplete { attempts: attempts @ 1.. } => {
                let retry = &self.shared.settings.retry;
                retry.delay_after(attempts, Duration::ZERO, None, rand::random)
            }
            RecordState::Incomplete { attempts: 0 }
            | RecordState::Complete
            | RecordState::NotRead => None,
        };
        let decoded = match self.decode(record.value, schema_header(record)) {
            Err(Undecoded::NeedsSchema(id)) => return Err(Block::Schema(id)),
            Err(Undecoded::AwaitsSchema(id)) if !self.intake.awaited.has_room_for(id) => {
                return Err(Block::Room(Full::Schemas));
            }
            decoded => decoded,
        };
        let keeps_key = self.shared.settings.retry.ordering == Ordering::Key;
        let is_behind_its_key =
            keeps_key && record.key.is_some_and(|key| self.pending.incomplete.is_busy(key));
        // Before the record is admitted: from there on there is no way back.
        let is_tried = decoded.is_ok() && !is_behind_its_key && delay.is_none();
        if is_tried && !self.pending.permits.allow() {
            return Err(Block::Permit);
        }
        let attempts = match self.state.admit(record.offset) {
            Admission::Process { attempts } => attempts,
            Admission::Doomed { .. } | Admission::Skip => return Ok(()),
        };
        match decoded {
            Err(Undecoded::Never(cause)) => {
                self.keep(record, Work::new(attempts, None, cause.schema_id, origin));
                self.give_up(record.offset, cause);
            }
            Err(Undecoded::NeedsSchema(id) | Undecoded::AwaitsSchema(id)) => {
                let work = Work::new(attempts, None, Some(id), origin);
                let (offset, record) = (record.offset, self.copy(record));
                let record = IncompleteRecord { record, work, keeps_key };
                if is_behind_its_key {
                    self.pending.incomplete.queue_behind_key(record);
                } else {
                    self.pending.incomplete.insert(record);
                    self.await_schema(id, offset);
                }
            }
            Ok((order, schema_id)) if is_behind_its_key => {
                let work = Work::new(attempts, Some(order), schema_id, origin);
                let record = IncompleteRecord { record: self.copy(record), work, keeps_key };
                self.pending.incomplete.queue_behind_key(record);
            }
            Ok((order, schema_id)) => match delay {
                Some(delay) => {
                    self.keep(record, Work::new(attempts, Some(order), schema_id, origin));
                    self.pending.incomplete.wait(record.offset, Instant::now() + delay);
                }
                None => self.attempt_in_place(record, order, schema_id, attempts + 1, origin),
            },
        }
        Ok(())
    }

    /// Makes the first attempt at a record; one that is done at once is never copied.
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
                let timestamp_ms = self.intake.arrival.time_of(record.timestamp_ms);
                let completed =
                    CompletedOrder { timestamp_ms, price: order.price, attempts, origin };
                self.state.complete_order(record.offset, completed);
                let headers = record.headers.iter().map(|header| (header.name, header.value));
                self.processed(record.offset, &order, attempts, headers);
            }
            ended => {
                self.keep(record, Work::new(attempts, None, schema_id, origin));
                if let Some((order, outcome)) = ended {
                    self.on_attempted(record.offset, order, Duration::ZERO, outcome);
                }
            }
        }
        self.pending.permits.end_probe();
    }

    /// Keeps a copy of a record until it is complete.
    fn keep(&mut self, record: &Record<'_>, work: Work) {
        // A record that holds no order is out of its key's order: its letter is all that follows.
        let is_attempted = work.attempts > 0;
        let keeps_key = is_attempted && self.shared.settings.retry.ordering == Ordering::Key;
        let record = self.copy(record);
        self.pending.incomplete.insert(IncompleteRecord { record, work, keeps_key });
    }

    fn copy(&self, record: &Record<'_>) -> OwnedRecord {
        OwnedRecord::copy(record, self.intake.arrival)
    }

    /// Takes in an unreadable range. The records behind it wait until its dead letter is written.
    fn dispatch_range(&mut self, range: &UnreadableRange<'_>) -> Result<(), Block> {
        if self.state.is_range_incomplete(range.first_offset..=range.last_offset) {
            return Err(Block::Letter);
        }
        self.check_room(range.last_offset)?;
        let offsets = range.first_offset..=range.last_offset;
        let Some((offset, attempts)) = self.state.admit_range(offsets) else { return Ok(()) };
        self.keep(&range.as_record(offset), Work::new(attempts, None, None, Origin::Produced));
        self.give_up_range(offset, &range.cause);
        if range.first_offset < range.last_offset { Err(Block::Letter) } else { Ok(()) }
    }

    /// Returns an error while no record may be taken in.
    #[inline]
    fn check_room(&self, offset: i64) -> Result<(), Block> {
        if self.shared.pause_switch.is_paused() {
            return Err(Block::Paused);
        }
        if let Some(full) = self.full(offset) {
            return Err(Block::Room(full));
        }
        if self.dead_letters.limit_pause.is_some() { Err(Block::Release) } else { Ok(()) }
    }

    /// Returns why no further record may become incomplete.
    fn full(&self, offset: i64) -> Option<Full> {
        let retry = &self.shared.settings.retry;
        if self.pending.incomplete.is_empty() {
            None
        } else if retry.ordering == Ordering::Partition {
            Some(Full::Order)
        } else if !self.state.has_room_for(offset) {
            Some(Full::Window)
        } else {
            let bytes = self.shared.in_flight_bytes.load(Atomic::Relaxed);
            (bytes >= retry.in_flight_bytes_max).then_some(Full::Bytes)
        }
    }
}
