//! One worker between a reader's channel and a session's, with a handler that does what the test says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering as Atomic};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kafka_client::reader::{Fetched, FetchedBatches};
use kafka_core::TopicPartition;
use kafka_core::record_batch::{BatchBuilder, BatchErrorKind, DamagedBatch, RawBatch, batches};
use order_avro::{Order, encode_bare};
use order_ledger::checkpoint::{Capacity, PartitionState};
use schema_registry::{RegistryConfig, SchemaRegistry};
use service_runtime::settings::{Environment, load};
use service_runtime::{Health, Metrics, Spans};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::*;
use crate::dlq_writer::{DlqWriter, Letter};
use crate::flow::limiter::Limiter;
use crate::flow::pause_reasons::PauseReasons;
use crate::flow::pause_switch::PauseSwitch;
use crate::flow::releases::Releases;
use crate::handler::{Attempt, Handler, Outcome};
use crate::settings::{Ordering, ProcessorSettings, RetrySettings};
use crate::telemetry::metrics::Instruments;
use crate::telemetry::partition_status::SharedStatus;
use crate::telemetry::report::Reporter;

mod blocked;
mod damage;
mod doomed;
mod letters;
mod orders;
mod outages;
mod paused;
mod restarts;
mod schemas;
mod status;

const TOPIC: Uuid = Uuid::from_u128(1);
const BACKOFF: Duration = Duration::from_secs(10);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(100);
const CONCURRENCY: usize = 4;
const DOWN_AFTER: usize = 4;
const DLQ_GUARD: u32 = 5;
/// The most bytes of a value that is read.
const VALUE_BYTES_MAX: usize = 1000;
/// How long a test waits on the paused clock, which takes no time.
const PATIENCE: Duration = Duration::from_hours(24);

const RETRY: RetrySettings = RetrySettings {
    retries_max: 2,
    backoff: BACKOFF,
    multiplier: 1.0,
    jitter: false,
    backoff_max: BACKOFF,
    elapsed_max: None,
    ordering: Ordering::Key,
    in_flight_bytes_max: usize::MAX,
};

/// Answers what is scripted for an offset, one answer an attempt, and `Done` after that; notes every attempt.
#[derive(Default)]
struct Script {
    /// What the first attempts at any record are answered.
    first: Mutex<VecDeque<Outcome>>,
    answers: Mutex<BTreeMap<i64, VecDeque<Answer>>>,
    attempts: Mutex<Vec<(i64, u32)>>,
}

enum Answer {
    Now(Outcome),
    /// Answers when the test says so.
    Later(oneshot::Receiver<Outcome>),
    Panic,
}

impl Handler for Arc<Script> {
    async fn handle(&self, _order: &Order, attempt: Attempt<'_>) -> Outcome {
        self.attempts.lock().unwrap().push((attempt.offset, attempt.number));
        if let Some(outcome) = self.first.lock().unwrap().pop_front() {
            return outcome;
        }
        let answer =
            self.answers.lock().unwrap().get_mut(&attempt.offset).and_then(VecDeque::pop_front);
        match answer {
            None => Outcome::Done,
            Some(Answer::Now(outcome)) => outcome,
            Some(Answer::Later(outcome)) => outcome.await.expect("the test answers"),
            Some(Answer::Panic) => panic!("out of cheese"),
        }
    }
}

fn order(id: &str) -> Vec<u8> {
    let order = Order { order_id: id.to_owned(), product: "tea".to_owned(), price: 2.5 };
    let mut bytes = Vec::new();
    encode_bare(&order, &mut bytes);
    bytes
}

fn transient() -> Outcome {
    Outcome::transient("not now")
}

fn resumed() -> Arc<PauseSwitch> {
    let pause_switch = PauseSwitch::paused();
    pause_switch.set(false);
    pause_switch
}

/// Returns what the workers of a process share that does `script`.
fn shared(
    script: Arc<Script>,
    ordering: Ordering,
    dlq_writer: DlqWriter,
    health: &Health,
) -> Shared<Arc<Script>> {
    let pause_reasons = PauseReasons::new(health.check("work"));
    Shared {
        handler: script,
        settings: settings(ordering),
        limiter: Limiter::new(CONCURRENCY, DOWN_AFTER, pause_reasons.clone()),
        pause_switch: resumed(),
        watchdog: Arc::default(),
        pause_reasons,
        releases: Arc::default(),
        schemas: SchemaRegistry::new(RegistryConfig::new("http://127.0.0.1:1")).unwrap(),
        dlq_writer,
        reporter: Arc::new(Reporter::new()),
        instruments: Instruments::new(&Metrics::default(), "group"),
        spans: Spans::default(),
        in_flight_bytes: AtomicUsize::new(0),
    }
}

fn settings(ordering: Ordering) -> ProcessorSettings {
    let mut settings = load::<ProcessorSettings>(&Environment::new()).unwrap();
    settings.handler.timeout = ATTEMPT_TIMEOUT;
    settings.dlq.guard = DLQ_GUARD;
    settings.retry = RetrySettings { ordering, ..RETRY };
    settings.value_bytes_max = VALUE_BYTES_MAX;
    settings
}

/// Whether the session commits when letters wait for that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commits {
    AtOnce,
    /// Only when the test says so, by [`Bench::commit`].
    Asked,
}

/// A running worker and both ends of everything it is connected to.
struct Bench {
    script: Arc<Script>,
    fetched: mpsc::Sender<Fetched>,
    requests: mpsc::Sender<Request>,
    notices: mpsc::Receiver<Notice>,
    letters: mpsc::Receiver<Letter>,
    workers: JoinSet<anyhow::Result<()>>,
    durable: watch::Sender<Option<u64>>,
    commits: watch::Sender<Commits>,
    _keeper: JoinSet<()>,
    health: Health,
    releases: Arc<Releases>,
    pause_switch: Arc<PauseSwitch>,
    published: Arc<Published>,
    status: SharedStatus,
    next_offset: i64,
}

impl Bench {
    fn start(script: Arc<Script>, ordering: Ordering, state: PartitionState) -> Self {
        Self::start_with(script, ordering, state, |_| {})
    }

    fn start_with(
        script: Arc<Script>,
        ordering: Ordering,
        state: PartitionState,
        change: impl FnOnce(&mut Shared<Arc<Script>>),
    ) -> Self {
        let (dlq_writer, letters_rx) = DlqWriter::captured();
        let health = Health::default();
        let mut shared = shared(Arc::clone(&script), ordering, dlq_writer, &health);
        change(&mut shared);
        let (pause_switch, releases) =
            (Arc::clone(&shared.pause_switch), Arc::clone(&shared.releases));
        let mut keeper = JoinSet::new();
        keeper.spawn(Arc::clone(&shared.limiter).keep());
        let (fetched, fetched_rx) = mpsc::channel(1);
        let (requests, requests_rx) = mpsc::channel(4);
        let (notices, told) = mpsc::channel(16);
        let revision = AtomicU64::new(state.revision());
        let published = Arc::new(Published { revision, ..Published::default() });
        let (durable, durable_rx) = watch::channel(Some(state.revision()));
        let (commits, commits_rx) = watch::channel(Commits::AtOnce);
        let next_offset = state.committable();
        let status = SharedStatus::default();
        let assignment = Assignment {
            tp: TopicPartition::new("orders", 0),
            epoch: 1,
            topic_id: TOPIC,
            state,
            fetched: fetched_rx,
            requests: requests_rx,
            notices,
            published: Arc::clone(&published),
            durable: durable_rx,
            status: status.clone(),
        };
        let (forwarded, notices) = mpsc::channel(16);
        let session = (requests.downgrade(), durable.clone(), commits_rx);
        keeper.spawn(forward(told, forwarded, session, Arc::clone(&published)));
        let mut workers = JoinSet::new();
        workers.spawn(run(Arc::new(shared), assignment));
        Self {
            script,
            fetched,
            requests,
            notices,
            letters: letters_rx,
            workers,
            durable,
            commits,
            _keeper: keeper,
            health,
            releases,
            pause_switch,
            published,
            status,
            next_offset,
        }
    }

    fn fresh(script: Arc<Script>, ordering: Ordering) -> Self {
        Self::start(script, ordering, PartitionState::empty(TOPIC, 0, Capacity::DEFAULT))
    }

    /// Hands the worker one batch of records, `None` for an order's value and bytes for another, and waits until it has
    /// taken all of them.
    async fn read(&mut self, records: &[(&'static str, Option<&'static [u8]>)]) {
        self.offer(records).await;
        self.caught_up().await;
    }

    /// Waits for the next dead letter.
    async fn letter(&mut self) -> Letter {
        timeout(PATIENCE, self.letters.recv()).await.expect("there is a letter").unwrap()
    }

    /// Hands the worker one batch of records.
    async fn offer(&mut self, records: &[(&'static str, Option<&'static [u8]>)]) {
        let mut builder = BatchBuilder::new(self.next_offset);
        for (key, value) in records {
            let bytes = value.map_or_else(|| order(key), <[u8]>::to_vec);
            builder = builder.record(0, Some(key.as_bytes()), Some(&bytes), &[]);
        }
        self.fetch(vec![builder.build().unwrap()], None).await;
    }

    /// Hands the worker what a fetch has brought.
    async fn fetch(&mut self, bytes: Vec<Bytes>, damaged: Option<DamagedBatch>) {
        let batches: Vec<_> = batches(bytes.concat().into()).collect();
        let next = batches.last().map(RawBatch::next_offset);
        self.next_offset =
            damaged.as_ref().map(DamagedBatch::next_offset).or(next).unwrap_or(self.next_offset);
        let fetched = FetchedBatches {
            batches,
            damaged,
            aborted: vec![],
            next_offset: self.next_offset,
            leader_epoch: None,
            last_stable_offset: self.next_offset,
            high_watermark: self.next_offset,
            log_start_offset: 0,
        };
        self.fetched.send(Fetched::Batches(fetched)).await.unwrap();
    }

    /// Waits until the worker has taken in all that was fetched.
    async fn caught_up(&self) {
        let taken = async {
            while self.status.lock().frontier < self.next_offset {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, taken).await.expect("it catches up");
    }

    /// Asks where the worker stands once it has nothing left to do: the clock moves only while every task waits.
    async fn checkpoint(&mut self) -> PartitionState {
        tokio::time::sleep(Duration::from_millis(1)).await;
        restored(snapshot(&self.requests).await.expect("the worker answers"))
    }

    /// Commits where the worker stands once it has nothing left to do.
    async fn commit(&mut self) -> PartitionState {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let snapshot = snapshot(&self.requests).await.expect("the worker answers");
        self.durable.send_replace(Some(snapshot.revision));
        restored(snapshot)
    }

    async fn drain(mut self, patience: Duration) -> PartitionState {
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + patience;
        self.requests.send(Request::Drain(Drain { deadline, answer })).await.unwrap();
        let state = restored(answered.await.unwrap());
        self.workers.join_next().await.unwrap().unwrap().unwrap();
        state
    }

    /// Releases the partition.
    fn release(&self) {
        self.releases.ends_at(0);
        self.releases.released(0, "the test");
    }

    /// Returns why the process pauses, if it does.
    fn pause(&self) -> Option<String> {
        self.health.report()["work"].clone()
    }

    fn attempts(&self) -> Vec<(i64, u32)> {
        self.script.attempts.lock().unwrap().clone()
    }
}

async fn snapshot(requests: &mpsc::Sender<Request>) -> Option<Snapshot> {
    let (answer, answered) = oneshot::channel();
    requests.send(Request::Checkpoint(answer)).await.ok()?;
    answered.await.ok()
}

/// Hands on what the worker tells, and commits when letters wait for that.
async fn forward(
    mut told: mpsc::Receiver<Notice>,
    forwarded: mpsc::Sender<Notice>,
    session: (mpsc::WeakSender<Request>, watch::Sender<Option<u64>>, watch::Receiver<Commits>),
    published: Arc<Published>,
) {
    let (requests, durable, commits) = session;
    while let Some(notice) = told.recv().await {
        if !matches!(notice, Notice::LettersWait) {
            forwarded.send(notice).await.unwrap();
            continue;
        }
        // A session commits only what is news.
        let is_news = Some(published.revision.load(Atomic::Relaxed)) > *durable.borrow();
        if *commits.borrow() == Commits::Asked || !is_news {
            continue;
        }
        let Some(requests) = requests.upgrade() else { continue };
        if let Some(snapshot) = snapshot(&requests).await {
            durable.send_replace(Some(snapshot.revision));
        }
    }
}

fn restored(snapshot: Snapshot) -> PartitionState {
    let commit = snapshot.commit.expect("it fits");
    let restored =
        PartitionState::restore(&commit.metadata, TOPIC, commit.offset, Capacity::DEFAULT).unwrap();
    assert!(restored.discarded.is_none(), "{:?}", restored.discarded);
    restored.state
}

fn script(answers: impl IntoIterator<Item = (i64, Vec<Answer>)>) -> Arc<Script> {
    let answers = answers.into_iter().map(|(offset, answers)| (offset, answers.into())).collect();
    Arc::new(Script { answers: Mutex::new(answers), ..Script::default() })
}

fn damaged(first_offset: i64, last_offset: i64) -> DamagedBatch {
    let bytes = Bytes::from_static(b"what is left of it");
    DamagedBatch { first_offset, last_offset, bytes, fault: BatchErrorKind::Crc }
}

fn header(letter: &Letter, name: &str) -> Option<String> {
    let (_, value) = letter.record.headers.iter().find(|(header, _)| header == name)?;
    Some(String::from_utf8(value.clone()?.to_vec()).unwrap())
}
