//! Records that are given up: doomed first, and written to the dead-letter topic once a commit says so.
//!
//! A letter is the last word about its record. Were an order tried again that has a letter, it could succeed, and a replay
//! of the letter would count it twice. So the checkpoint that names the record doomed is committed before the letter is
//! written, and whoever goes on from that checkpoint makes no attempt at it:
//!
//! ```text
//!  given up ─► doomed ─► waits for a commit ─► letter on its way ─► acknowledged: counted, complete
//!                              │                      │
//!             killed: tried again         killed: gets its letter again, with the same identity
//! ```
//!
//! Nothing else waits for that commit, and one commit serves all letters that wait. Bytes that are no record need none: no
//! replay sends them, so they count nothing, however often they are read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};

use dead_letter::{DeadLetter, ErrorType, FailedRecord, Failure, RawHeader};
use kafka_core::record_batch::Record;
use order_avro::Payload;
use order_ledger::checkpoint::{Admission, Origin};
use service_runtime::trace_context::Trace;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;

use super::dispatch::{Block, Dispatch, Poison, Undecoded, schema_header};
use super::held::{HeldRecord, OwnedRecord, Work};
use super::permits::InFlight;
use super::settle::{about, raw};
use super::spans::Begun;
use super::{Finished, Notice, Worker};
use crate::handler::Handler;
use service_runtime::now_ms;

/// What the letter of a record says that was doomed before a restart.
const DOOMED_BEFORE: &str =
    "given up before a restart; an earlier letter, or the log, has the words of the failure";

/// What a session and a worker share about the letters that wait for a commit.
#[derive(Clone, Debug)]
pub(crate) struct Durability {
    /// The revision of the state that names the last doomed record; 0 without one.
    pub(crate) doomed: Arc<AtomicU64>,
    /// Up to which revision the state is committed for good; `None` before the first commit.
    pub(crate) durable: watch::Receiver<Option<u64>>,
}

/// Doomed records whose letters wait for a commit, in the order of their revisions.
pub(super) struct Dooms {
    durability: Durability,
    /// The revision of the state that the worker began with.
    first_revision: u64,
    waiting: VecDeque<Doomed>,
}

struct Doomed {
    offset: i64,
    poison: Poison,
    failed_at_ms: i64,
    /// A commit of this revision names it.
    revision: u64,
}

impl Dooms {
    pub(super) fn new(durability: Durability, first_revision: u64) -> Self {
        Self { durability, first_revision, waiting: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits until more is committed.
    ///
    /// Cancel safe.
    pub(super) async fn committed(&mut self) {
        if self.durability.durable.changed().await.is_err() {
            // The session is gone, which the worker hears by its requests.
            std::future::pending::<()>().await;
        }
    }

    /// Takes the next record whose letter may be written.
    fn next_durable(&mut self) -> Option<Doomed> {
        let durable = *self.durability.durable.borrow_and_update();
        self.waiting.pop_front_if(|doomed| durable >= Some(doomed.revision))
    }
}

impl<H: Handler> Worker<'_, H> {
    /// Gives a held record up: its letter is written once a commit says so, and it is complete when that is acknowledged.
    pub(super) fn give_up(&mut self, offset: i64, poison: Poison) {
        let Some(held) = self.held.get_mut(offset) else { return };
        let attempts = held.work.attempts;
        self.count_dead_letter(poison.error_type);
        self.state.doom(offset, attempts, poison.error_type);
        self.await_commit(offset, poison, self.state.revision());
    }

    /// Gives up held bytes that are no record.
    pub(super) fn give_up_piece(&mut self, offset: i64, poison: &Poison) {
        self.count_dead_letter(poison.error_type);
        self.note_dead_letter(offset, poison);
        self.write_letter(offset, poison, now_ms());
    }

    /// Takes in a record that was doomed before a restart: it gets its letter again, which was counted then.
    pub(super) fn dispatch_doomed(
        &mut self,
        record: &Record<'_>,
        reason: Option<ErrorType>,
        origin: Origin,
    ) -> Dispatch {
        let poison = match self.poison_of(record, reason) {
            Ok(poison) => poison,
            Err(block) => return Dispatch::Blocked(block),
        };
        if let Admission::Doomed { attempts, .. } = self.state.admit(record.offset, None) {
            let work = Work::new(attempts, None, poison.schema_id, origin);
            // Later records of its key need not wait: no attempt at it comes after theirs.
            let owned = OwnedRecord::copy(record, self.arrival);
            self.held.hold(HeldRecord { record: owned, work, keeps_key: false });
            self.await_commit(record.offset, poison, self.dooms.first_revision);
        }
        Dispatch::Taken
    }

    /// Finds out why a record was doomed before a restart: what the checkpoint does not say, its bytes may.
    fn poison_of(
        &mut self,
        record: &Record<'_>,
        reason: Option<ErrorType>,
    ) -> Result<Poison, Block> {
        let doomed_before = |error_type, schema_id| Poison {
            error_type,
            message: DOOMED_BEFORE.to_owned(),
            schema_id,
            offsets: None,
        };
        if let Some(error_type) = reason {
            let (header, format) = (schema_header(record), self.shared.payload_format);
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
            Err(Undecoded::Poison(poison)) => Ok(poison),
            // What is not known yet is not waited for: it would change no more than the letter's words.
            Err(Undecoded::AwaitsSchema(id)) => {
                Ok(doomed_before(ErrorType::UnknownSchema, Some(id)))
            }
            Ok((_, schema_id)) => Ok(doomed_before(ErrorType::GivenUp, schema_id)),
        }
    }

    fn await_commit(&mut self, offset: i64, poison: Poison, revision: u64) {
        self.note_dead_letter(offset, &poison);
        let failed_at_ms = now_ms();
        self.dooms.waiting.push_back(Doomed { offset, poison, failed_at_ms, revision });
    }

    /// Writes the letters that have waited for a commit which is made, and asks for one if others wait.
    pub(super) fn write_durable_letters(&mut self) {
        if self.dooms.is_empty() || self.draining.is_some() {
            return;
        }
        while let Some(Doomed { offset, poison, failed_at_ms, .. }) = self.dooms.next_durable() {
            self.write_letter(offset, &poison, failed_at_ms);
        }
        let Some(Doomed { revision, .. }) = self.dooms.waiting.back() else { return };
        // The session looks at this first, and commits nothing that is no news.
        self.revision.store(self.state.revision(), Atomic::Relaxed);
        if self.dooms.durability.doomed.swap(*revision, Atomic::Release) < *revision
            && self.notices.try_send(Notice::LettersWait).is_err()
        {
            tracing::trace!("the session is busy, and looks by itself");
        }
    }

    fn note_dead_letter(&mut self, offset: i64, poison: &Poison) {
        if let Some(held) = self.held.get_mut(offset) {
            self.shared.reporter.dead_letter(
                about(&self.tp, held),
                poison.error_type,
                &poison.message,
            );
        }
    }

    /// Writes a held record to the dead-letter topic; it is complete when the letter is acknowledged.
    fn write_letter(&mut self, offset: i64, poison: &Poison, failed_at_ms: i64) {
        let Some(held) = self.held.get_mut(offset) else { return };
        let record = &held.record;
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
            error_type: poison.error_type,
            message: &poison.message,
            attempts: held.work.attempts,
            schema_id: poison.schema_id,
            failed_at_ms,
            group: &self.shared.group_id,
        };
        let mut letter = DeadLetter::build(&failed, &failure);
        if let Some((first, last)) = poison.offsets {
            letter = letter.for_offsets(first, last);
        }
        let letters = self.shared.letters.clone();
        let (partition, error_type) = (self.tp.partition, poison.error_type);
        let last_offset = poison.offsets.map(|(_, last)| last);
        let shared = self.shared;
        let trace = Trace::of(raw(&record.headers)).filter(|_| shared.spans.is_on());
        let span = trace.and_then(|trace| Begun::of(shared, trace.context, rand::random()));
        let work = ReusableBoxFuture::new(async move {
            let outcome = letters.write(partition, letter, failed_at_ms).await;
            if let Some(span) = span.filter(|_| outcome.is_ok()) {
                span.written(shared);
            }
            Finished::Letter { offset, last_offset, error_type, outcome }
        });
        self.letters += 1;
        self.in_flight.push(InFlight { work, permit: None, begun: Instant::now() });
    }
}
