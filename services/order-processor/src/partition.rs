//! One partition at work: takes batches in, hands out checkpoints, and never lets one record hold up another.
//!
//! The worker owns its partition's state. Everything that happens to it happens in [`Worker::turn`], one thing at a
//! time: a batch arrives, an attempt or a dead letter finishes, a retry comes due, the session asks for something.
//!
//! ```text
//!  fetched ─► dispatch ─┬─► done in place ─────────────────────────────► state ─► checkpoint ─► session
//!                       ├─► attempt pending ─► in flight ──┬─► done ───────▲
//!                       ├─► poison ─► doomed ─► letter in flight ─► written┤
//!                       ├─► waits for its schema           └─► transient ─► waiting ─► attempt
//!                       └─► parked behind its key
//! ```
//!
//! An attempt needs a permit of the [`crate::flow::limiter`], so that not too many run at once, and none while what the handler
//! needs is down. Many dead letters with nothing done between them stop the partition until they are released.

mod arrival;
mod attempt;
mod dispatch;
mod doomed;
mod guarded;
mod held;
mod permits;
mod pieces;
mod schemas;
mod settle;
mod shown;
mod spans;
#[cfg(test)]
mod tests;
mod timing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering as Atomic};
use std::time::Duration;

use dead_letter::ErrorType;
use doomed::Dooms;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_client::offsets::OffsetCommit;
use kafka_client::reader::{Fetched, FetchedBatches};
use kafka_core::TopicPartition;
use kafka_core::record_batch::AbortedTransactions;
use order_avro::{Order, PayloadFormat, SchemaId, WriterSchema};
use schema_registry::SchemaRegistry;
use service_runtime::{Recurring, Spans};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::ReusableBoxFuture;
use uuid::Uuid;

use crate::dlq_writer::{LetterError, Letters};
use crate::flow::limiter::Gate;
use crate::flow::pause_reasons::Pauses;
use crate::flow::pause_switch::Halt;
use crate::flow::releases::Releases;
use crate::flow::retry::RetryPolicy;
use crate::flow::watchdog::{Activity, Watch};
use crate::handler::{Handler, Outcome, Source};
use crate::settings::{OnCorruptBatch, Ordering};
use crate::telemetry::metrics::Instruments;
use crate::telemetry::partition_status::{Next, SharedStanding};
use crate::telemetry::report::Reporter;
use arrival::Arrival;
pub(crate) use doomed::Durability;
use guarded::Guarded;
use held::HeldRecords;
use order_ledger::checkpoint::Checkpoint;
use order_ledger::checkpoint::PartitionState;
use permits::{InFlight, Permits};
use schemas::AwaitedSchemas;
use service_runtime::now_ms;
use timing::Timing;

/// Most bytes that one batch may unpack to: a compressed batch cannot claim more memory than this.
const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What all workers of a process share.
pub(crate) struct Shared<H> {
    pub(crate) handler: H,
    /// How long one attempt may take.
    pub(crate) attempt_timeout: Duration,
    pub(crate) gate: Arc<Gate>,
    /// On while this replica is to begin nothing.
    pub(crate) halt: Arc<Halt>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) pauses: Pauses,
    /// The dead letters of one type after which a partition stops.
    pub(crate) dlq_guard: u32,
    pub(crate) releases: Releases,
    pub(crate) group_id: String,
    pub(crate) orders_topic: String,
    pub(crate) replay_topic: String,
    pub(crate) retry: RetryPolicy,
    pub(crate) ordering: Ordering,
    pub(crate) payload_format: PayloadFormat,
    pub(crate) value_bytes_max: usize,
    pub(crate) dedupe: bool,
    pub(crate) corrupt_batch: OnCorruptBatch,
    pub(crate) schemas: SchemaRegistry,
    pub(crate) letters: Letters,
    pub(crate) reporter: Reporter,
    pub(crate) instruments: Arc<Instruments>,
    pub(crate) spans: Spans,
    pub(crate) dlq_topic: String,
    /// Bytes of records held by all workers, and how many there may be.
    pub(crate) held_bytes: AtomicUsize,
    pub(crate) held_bytes_max: usize,
}

/// What the session asks of a worker.
#[derive(Debug)]
pub(crate) enum Request {
    /// Say where the partition stands, to commit it.
    Checkpoint(oneshot::Sender<Snapshot>),
    /// Take nothing more in, let running work end until the deadline, say where the partition stands, and end.
    Drain {
        /// When work that still runs is given up.
        deadline: Instant,
        /// Where the answer goes.
        answer: oneshot::Sender<Snapshot>,
    },
}

/// Where a partition stands at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The state's revision; a commit of this snapshot makes all changes up to it durable.
    pub(crate) revision: u64,
    /// What to commit; `None` where the state does not fit, which leaves the last commit valid.
    pub(crate) commit: Option<OffsetCommit>,
}

/// What a worker tells the session unasked.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Nothing is under way any more, and nothing will begin while the brake is on.
    AtRest,
    /// Dead letters wait for a commit.
    LettersWait,
    /// Reading cannot go on where it was.
    OutOfPlace {
        /// The partition.
        tp: TopicPartition,
        /// Its assignment.
        epoch: u64,
        /// Why not.
        mishap: Mishap,
    },
}

/// Why a partition cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The position is below the log's start or beyond its end.
    OutOfRange {
        /// The offset that could not be read.
        position: i64,
    },
    /// The topic was deleted and created again.
    Recreated {
        /// The id of the topic that bears the name by now.
        topic_id: Uuid,
    },
}

/// What a worker is given when it starts.
pub(crate) struct Assignment {
    pub(crate) tp: TopicPartition,
    /// Tells this assignment of the partition from earlier ones.
    pub(crate) epoch: u64,
    pub(crate) topic_id: Uuid,
    pub(crate) state: PartitionState,
    pub(crate) fetched: mpsc::Receiver<Fetched>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) notices: mpsc::Sender<Notice>,
    /// Shared with the session: the state's revision, to see whether there is anything to commit.
    pub(crate) revision: Arc<AtomicU64>,
    /// Shared with the session: the move of the brake since which nothing has been under way.
    pub(crate) rest: Arc<AtomicU64>,
    /// Shared with the session: which letters wait for a commit, and what is committed.
    pub(crate) durability: Durability,
    /// Shared with the metrics: how the partition stands.
    pub(crate) standing: SharedStanding,
}

/// How a piece of work in flight ended.
enum Finished {
    Attempt {
        offset: i64,
        order: Order,
        outcome: Attempted,
    },
    Letter {
        offset: i64,
        /// The last offset that it stands for, if that is a piece of the log and no record.
        last_offset: Option<i64>,
        error_type: ErrorType,
        outcome: Result<(), LetterError>,
    },
}

/// What an attempt came to.
pub(crate) type Attempted = Result<Outcome, Broken>;

/// Why a handler gave no answer.
pub(crate) enum Broken {
    /// It panicked, with these words.
    Panic(String),
    /// Its time was over.
    Timeout(Duration),
}

/// Whether a worker takes batches in during a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intake {
    Open,
    Closed,
}

struct Draining {
    deadline: Instant,
    answer: oneshot::Sender<Snapshot>,
}

struct Worker<'a, H> {
    shared: &'a Shared<H>,
    tp: TopicPartition,
    /// The same with the topic's id, for as long as attempts live.
    source: &'a Source,
    epoch: u64,
    state: PartitionState,
    fetched: mpsc::Receiver<Fetched>,
    requests: mpsc::Receiver<Request>,
    notices: mpsc::Sender<Notice>,
    revision: Arc<AtomicU64>,
    rest: Arc<AtomicU64>,
    dooms: Dooms,
    halt_moves: watch::Receiver<u64>,
    held: HeldRecords,
    /// The part of the process's held bytes that is this worker's.
    counted_bytes: usize,
    in_flight: FuturesUnordered<InFlight<'a>>,
    /// An allocation that the next attempt reuses, so that attempts that end at once make none.
    spare: Option<ReusableBoxFuture<'a, Finished>>,
    /// Held records whose next attempt may start.
    ready: VecDeque<i64>,
    permits: Permits<'a>,
    /// Counted up before and after each first poll.
    activity: Arc<Activity>,
    /// Set while the partition is stopped by its dead letters.
    guarded: Option<Guarded>,
    /// The schema of the last order: most orders have the same.
    schema: Option<(SchemaId, Arc<WriterSchema>)>,
    awaited: AwaitedSchemas,
    draining: Option<Draining>,
    ended: bool,
    /// How many more lines about processed orders may be written.
    lines_reserved: usize,
    /// About how many processed orders no line was written.
    lines_withheld: usize,
    timing: Timing,
    standing: SharedStanding,
    /// How the records came that are taken in.
    arrival: Arrival,
    /// What is known about the time of the first record that was not taken in.
    next: Next,
    /// Records that were delivered since that was noted.
    delivered: u64,
    /// Dead letters that are on their way.
    letters: usize,
    /// The revision that the reporter knows.
    reported: u64,
    /// Checkpoints that did not fit beside the offset.
    too_large: Recurring<()>,
}

/// Works on one partition until it is drained or its session is gone.
///
/// # Errors
/// When a batch cannot be read, and the settings say that this ends the process.
pub(crate) async fn run<H: Handler>(
    shared: Arc<Shared<H>>,
    assignment: Assignment,
) -> anyhow::Result<()> {
    let source = Source {
        topic: assignment.tp.topic.to_string(),
        topic_id: assignment.topic_id,
        partition: assignment.tp.partition,
    };
    let timing = Timing::new(&shared.instruments, &source.topic);
    let mut worker = Worker {
        shared: &shared,
        source: &source,
        tp: assignment.tp,
        epoch: assignment.epoch,
        dooms: Dooms::new(assignment.durability, assignment.state.revision()),
        state: assignment.state,
        fetched: assignment.fetched,
        requests: assignment.requests,
        notices: assignment.notices,
        revision: assignment.revision,
        rest: assignment.rest,
        halt_moves: shared.halt.moves(),
        held: HeldRecords::default(),
        counted_bytes: 0,
        in_flight: FuturesUnordered::new(),
        spare: None,
        ready: VecDeque::new(),
        permits: Permits::of(&shared.gate),
        activity: shared.watch.activity(shared.attempt_timeout),
        guarded: None,
        schema: None,
        awaited: AwaitedSchemas::default(),
        draining: None,
        ended: false,
        lines_reserved: 0,
        lines_withheld: 0,
        timing,
        standing: assignment.standing,
        arrival: Arrival::Appended,
        next: Next::Unknown,
        delivered: 0,
        letters: 0,
        reported: 0,
        too_large: Recurring::default(),
    };
    let outcome = worker.work().await;
    worker.release_bytes();
    outcome
}

impl<H: Handler> Worker<'_, H> {
    async fn work(&mut self) -> anyhow::Result<()> {
        self.rest();
        self.stop_if_too_many();
        while !self.ended {
            match self.turn(Intake::Open).await {
                None => {}
                Some(Fetched::Batches(fetched)) => self.take(fetched).await?,
                Some(Fetched::OutOfRange { position }) => {
                    self.out_of_place(Mishap::OutOfRange { position }).await;
                }
                Some(Fetched::Recreated { topic_id }) => {
                    self.out_of_place(Mishap::Recreated { topic_id }).await;
                }
            }
        }
        Ok(())
    }

    /// Waits until one thing happens, and deals with it; batches are returned to be taken in.
    ///
    /// Cancel safe: nothing is received and then dropped.
    async fn turn(&mut self, intake: Intake) -> Option<Fetched> {
        if self.state.revision() != self.reported {
            self.report();
        }
        self.write_durable_letters();
        let wants_permit = self.wants_permit();
        self.permits.prepare(wants_permit);
        let is_beginning = self.draining.is_none() && !self.shared.halt.is_on();
        let is_open = intake == Intake::Open && is_beginning;
        let due = self.held.next_due().filter(|_| is_beginning);
        let deadline = self.draining.as_ref().map(|draining| draining.deadline);
        tokio::select! {
            biased;
            request = self.requests.recv() => self.on_request(request),
            Ok(()) = self.halt_moves.changed() => {}
            () = self.dooms.committed(), if !self.dooms.is_empty() => {}
            Some(finished) = self.in_flight.next(), if !self.in_flight.is_empty() => self.on_finished(finished),
            release = guarded::release(&mut self.guarded), if self.guarded.is_some() => self.on_release(release),
            Some(id) = self.awaited.next(), if is_beginning && !self.awaited.is_empty() => self.on_schema(id),
            Some(permit) = self.permits.next(), if wants_permit => self.permits.arrive(permit),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => self.end_drain(),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.start_due(),
            fetched = self.fetched.recv(), if is_open => match fetched {
                Some(fetched) => return Some(fetched),
                // The reader is gone, so is the session.
                None => self.ended = true,
            },
        }
        self.after_change();
        None
    }

    /// Deals with what has happened meanwhile, without waiting for anything.
    fn catch_up_with_events(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            self.on_request(Some(request));
        }
        while let Some(Some(finished)) =
            futures_util::FutureExt::now_or_never(self.in_flight.next())
        {
            self.on_finished(finished);
        }
        if self.held.next_due().is_some() && self.draining.is_none() {
            self.start_due();
        }
        self.after_change();
    }

    /// Takes in the batches of one fetch.
    async fn take(&mut self, fetched: FetchedBatches) -> anyhow::Result<()> {
        let mut aborted = AbortedTransactions::new(fetched.aborted);
        let claimed = fetched.batches.iter().map(|batch| batch.header().record_count);
        let records = claimed.map(|count| usize::try_from(count).unwrap_or(0));
        self.lines_reserved = self.shared.reporter.reserve(records.fold(0, usize::saturating_add));
        let read_ms = now_ms();
        self.standing.lock().ends_at(fetched.last_stable_offset, read_ms);
        for raw in &fetched.batches {
            let is_appended = raw.header().is_log_append_time();
            self.arrival = if is_appended { Arrival::Appended } else { Arrival::Produced(read_ms) };
            self.next = Next::At(raw.header().base_timestamp_ms);
            match raw.open(UNPACKED_BYTES_MAX) {
                Ok(batch) if aborted.delivers(&batch) => {
                    self.delivered += u64::try_from(raw.header().record_count).unwrap_or(0);
                    self.take_batch(&batch).await;
                }
                Err(error) if aborted.delivers_unopened(raw.header()) => {
                    self.take_damaged(&error.into_damaged(raw.bytes().clone())).await?;
                }
                Ok(_) | Err(_) => {}
            }
            if self.is_ending() {
                return Ok(());
            }
            self.next = Next::After(raw.header().max_timestamp_ms);
            self.passed(raw.next_offset());
        }
        if let Some(damaged) = &fetched.damaged {
            self.take_damaged(damaged).await?;
            if self.is_ending() {
                return Ok(());
            }
            self.passed(damaged.next_offset());
        }
        Ok(())
    }

    /// Takes note that everything below `next_offset` was taken in.
    fn passed(&mut self, next_offset: i64) {
        let gone = self.state.advance_to(next_offset);
        if gone > 0 {
            self.shared.instruments.skipped(u64::try_from(gone).unwrap_or(u64::MAX));
            tracing::warn!(partition = %self.tp, gone, "records that were not done yet are gone from the log");
        }
        self.catch_up_with_events();
    }

    fn is_ending(&self) -> bool {
        self.ended || self.draining.is_some()
    }

    fn on_request(&mut self, request: Option<Request>) {
        match request {
            None => self.ended = true,
            Some(Request::Checkpoint(answer)) => self.answer(answer),
            Some(Request::Drain { deadline, answer }) => {
                // Waiting and parked records are left to whoever has the partition next, at the attempt the checkpoint
                // names, and so are doomed ones whose letters were not begun.
                self.held.clear_waiting();
                self.awaited.clear();
                self.ready.clear();
                self.permits.leave();
                self.draining = Some(Draining { deadline, answer });
            }
        }
    }

    /// Ends a drain whose last running work is done.
    fn after_change(&mut self) {
        self.start_ready();
        self.write_durable_letters();
        if self.draining.is_some() && self.in_flight.is_empty() {
            self.end_drain();
        }
        self.note_prober();
        self.count_bytes();
        if self.lines_withheld > 0 {
            self.shared.reporter.withhold(std::mem::take(&mut self.lines_withheld));
        }
        self.publish();
        self.rest();
    }

    /// Lets the session and the metrics see what was done: what they do not see is not committed.
    fn publish(&mut self) {
        self.revision.store(self.state.revision(), Atomic::Relaxed);
        self.show();
    }

    /// Says when nothing is under way any more while the brake is on.
    fn rest(&self) {
        let Some(number) = self.shared.halt.number_while_on() else { return };
        let has_work = !self.in_flight.is_empty() || !self.dooms.is_empty();
        if has_work || self.rest.swap(number, Atomic::Release) == number {
            return;
        }
        if self.notices.try_send(Notice::AtRest).is_err() {
            tracing::trace!("the session is busy, and looks by itself");
        }
    }

    fn end_drain(&mut self) {
        if let Some(draining) = self.draining.take() {
            if !self.in_flight.is_empty() {
                tracing::warn!(
                    topic = %self.tp.topic,
                    partition = self.tp.partition,
                    unfinished = self.in_flight.len(),
                    "gave up work that did not end in time; it will be done again"
                );
            }
            self.report();
            self.answer(draining.answer);
            self.ended = true;
        }
    }

    fn answer(&mut self, answer: oneshot::Sender<Snapshot>) {
        let commit = match self.state.checkpoint() {
            Ok(Checkpoint { offset, metadata }) => {
                self.standing.lock().checkpoint_bytes = metadata.len();
                Some(OffsetCommit { partition: self.tp.clone(), offset, metadata })
            }
            Err(error) => {
                if let Some(unreported) = self.too_large.report(()) {
                    tracing::warn!(
                        topic = %self.tp.topic,
                        partition = self.tp.partition,
                        %error,
                        unreported,
                        "cannot commit yet"
                    );
                }
                None
            }
        };
        let snapshot = Snapshot { revision: self.state.revision(), commit };
        if answer.send(snapshot).is_err() {
            tracing::debug!(partition = %self.tp, "nobody waits for the checkpoint");
        }
    }

    async fn out_of_place(&mut self, mishap: Mishap) {
        let notice = Notice::OutOfPlace { tp: self.tp.clone(), epoch: self.epoch, mishap };
        if self.notices.send(notice).await.is_err() {
            self.ended = true;
        }
    }

    /// Publishes this partition's numbers to the process's totals and to the group-wide view.
    fn report(&mut self) {
        self.reported = self.state.revision();
        self.shared.reporter.update(&self.tp, self.state.aggregate());
    }

    fn count_bytes(&mut self) {
        let bytes = self.held.bytes();
        if bytes >= self.counted_bytes {
            self.shared.held_bytes.fetch_add(bytes - self.counted_bytes, Atomic::Relaxed);
        } else {
            self.shared.held_bytes.fetch_sub(self.counted_bytes - bytes, Atomic::Relaxed);
        }
        self.counted_bytes = bytes;
    }

    fn release_bytes(&self) {
        self.shared.held_bytes.fetch_sub(self.counted_bytes, Atomic::Relaxed);
    }
}
