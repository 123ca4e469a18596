//! Records that are given up: doomed first, and written to the dead-letter topic after a commit that names them.
//!
//! A letter is final. If an order with a letter were tried again, it could succeed, and a replay of the letter would count
//! it twice. So the checkpoint that names the record as doomed is committed before the letter is written, and a worker that
//! resumes from that checkpoint makes no attempt at the record:
//!
//! ```text
//!  given up ─► doomed ─► waits for a commit ─► letter in flight ─► acknowledged: counted, complete
//!                              │                      │
//!             killed: tried again         killed: gets its letter again, with the same identity
//! ```
//!
//! Nothing else waits for that commit, and one commit serves all letters that wait. An unreadable range needs none: no
//! replay sends it, so it counts nothing, however often it is read.

use std::sync::atomic::Ordering as Atomic;

use dead_letter::{DeadLetter, ErrorType, FailedRecord, Failure, RawHeader};
use kafka_core::record_batch::Record;
use order_avro::Payload;
use order_ledger::checkpoint::{Admission, Origin};
use service_runtime::now_ms;
use service_runtime::trace_context::Trace;
use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;

use super::cursor::Block;
use super::dead_letters::{Doomed, LetterCause};
use super::decoding::{Undecoded, schema_header};
use super::incomplete::{IncompleteRecord, OwnedRecord, Work, raw};
use super::messages::Notice;
use super::pending::{Finished, InFlight};
use super::reporting::about;
use super::spans::Begun;
use super::worker::Worker;
use crate::handler::Handler;

/// What the letter says of a record that was doomed before a restart.
const DOOMED_BEFORE: &str =
    "given up before a restart; an earlier letter, or the log, has the words of the failure";

impl<H: Handler> Worker<'_, H> {
    /// Gives a record up: its letter is written after a commit that dooms it, and completes it when it is acknowledged.
    pub(super) fn give_up(&mut self, offset: i64, cause: LetterCause) {
        let Some(incomplete) = self.pending.incomplete.get_mut(offset) else { return };
        let attempts = incomplete.work.attempts;
        self.count_dead_letter(cause.error_type);
        self.state.doom(offset, attempts, cause.error_type);
        self.await_commit(offset, cause, self.state.revision());
    }

    /// Gives up an unreadable range.
    pub(super) fn give_up_range(&mut self, offset: i64, cause: &LetterCause) {
        self.count_dead_letter(cause.error_type);
        self.note_dead_letter(offset, cause);
        self.write_letter(offset, cause, now_ms());
    }

    /// Takes in a record that was doomed before a restart: it gets its letter again, which was counted then.
    pub(super) fn dispatch_doomed(
        &mut self,
        record: &Record<'_>,
        reason: Option<ErrorType>,
        origin: Origin,
    ) -> Result<(), Block> {
        let cause = self.cause_of(record, reason)?;
        if let Admission::Doomed { attempts, .. } = self.state.admit(record.offset) {
            let work = Work::new(attempts, None, cause.schema_id, origin);
            // Later records of its key need not wait: no attempt at it comes after theirs.
            let owned = OwnedRecord::copy(record, self.intake.arrival);
            self.pending.incomplete.insert(IncompleteRecord {
                record: owned,
                work,
                keeps_key: false,
            });
            self.await_commit(record.offset, cause, self.dead_letters.first_revision);
        }
        Ok(())
    }

    /// Finds out why a record was doomed before a restart: what the checkpoint does not say, its bytes may.
    fn cause_of(
        &mut self,
        record: &Record<'_>,
        reason: Option<ErrorType>,
    ) -> Result<LetterCause, Block> {
        let doomed_before =
            |error_type, schema_id| LetterCause::new(error_type, DOOMED_BEFORE, schema_id);
        if let Some(error_type) = reason {
            let (header, format) = (schema_header(record), self.shared.settings.payload_format);
            let payload =
                record.value.and_then(|value| order_avro::recognise(value, header, format).ok());
            let schema_id = match payload {
                Some(Payload::Confluent { schema_id, .. }) => Some(schema_id),
                _ => None,
            };
            return Ok(doomed_before(error_type, schema_id));
        }
        match self.decode(record.value, schema_header(record)) {
            Err(Undecoded::NeedsSchema(id)) => Err(Block::Schema(id)),
            Err(Undecoded::Never(cause)) => Ok(cause),
            // The record does not wait for its schema, which would change only the letter's texts.
            Err(Undecoded::AwaitsSchema(id)) => {
                Ok(doomed_before(ErrorType::UnknownSchema, Some(id)))
            }
            Ok((_, schema_id)) => Ok(doomed_before(ErrorType::GivenUp, schema_id)),
        }
    }

    fn await_commit(&mut self, offset: i64, cause: LetterCause, revision: u64) {
        self.note_dead_letter(offset, &cause);
        let failed_at_ms = now_ms();
        self.dead_letters.doomed.push_back(Doomed { offset, cause, failed_at_ms, revision });
    }

    /// Writes the letters whose records are committed as doomed, and asks for a commit if others wait.
    pub(super) fn write_durable_letters(&mut self) {
        if self.dead_letters.doomed.is_empty() || self.session.draining.is_some() {
            return;
        }
        let durable = *self.dead_letters.durable.borrow_and_update();
        while let Some(Doomed { offset, cause, failed_at_ms, .. }) =
            self.dead_letters.doomed.pop_front_if(|doomed| durable >= Some(doomed.revision))
        {
            self.write_letter(offset, &cause, failed_at_ms);
        }
        let Some(Doomed { revision, .. }) = self.dead_letters.doomed.back() else { return };
        // The session reads the revision first, and commits only a new one.
        self.session.published.revision.store(self.state.revision(), Atomic::Relaxed);
        if self.session.published.doomed.swap(*revision, Atomic::Release) < *revision {
            self.session.notify(Notice::LettersWait);
        }
    }

    fn note_dead_letter(&mut self, offset: i64, cause: &LetterCause) {
        if let Some(incomplete) = self.pending.incomplete.get_mut(offset) {
            self.shared.reporter.dead_letter(
                about(&self.tp, incomplete),
                cause.error_type,
                &cause.message,
            );
        }
    }

    /// Writes a record to the dead-letter topic; it is complete when the letter is acknowledged.
    fn write_letter(&mut self, offset: i64, cause: &LetterCause, failed_at_ms: i64) {
        let Some(incomplete) = self.pending.incomplete.get_mut(offset) else { return };
        let record = &incomplete.record;
        let headers: Vec<RawHeader<'_>> = raw(&record.headers).collect();
        let failed = FailedRecord {
            topic: &self.tp.topic,
            topic_id: self.source.topic_id,
            partition: self.tp.partition,
            offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let failure = Failure {
            error_type: cause.error_type,
            message: &cause.message,
            attempts: incomplete.work.attempts,
            schema_id: cause.schema_id,
            failed_at_ms,
            group: &self.shared.settings.group.group_id,
        };
        let mut letter = DeadLetter::build(&failed, &failure);
        if let Some((first, last)) = cause.offsets {
            letter = letter.for_offsets(first, last);
        }
        let dlq_writer = self.shared.dlq_writer.clone();
        let (partition, error_type) = (self.tp.partition, cause.error_type);
        let last_offset = cause.offsets.map(|(_, last)| last);
        let shared = self.shared;
        let trace = Trace::of(raw(&record.headers)).filter(|_| shared.spans.is_on());
        let span = trace.and_then(|trace| Begun::of(shared, trace.context, rand::random()));
        let work = ReusableBoxFuture::new(async move {
            let outcome = dlq_writer.write(partition, letter, failed_at_ms).await;
            if let Some(span) = span.filter(|_| outcome.is_ok()) {
                span.written(shared);
            }
            Finished::Letter { offset, last_offset, error_type, outcome }
        });
        self.dead_letters.writing += 1;
        self.pending.in_flight.push(InFlight { work, permit: None, begun: Instant::now() });
    }
}
