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
use service_runtime::{Health, Metrics, Spans, now_ms};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::*;
use crate::dlq_writer::{DlqWriter, Letter, LetterError};
use crate::flow::limiter::Limiter;
use crate::flow::pause_reasons::PauseReasons;
use crate::flow::pause_switch::PauseSwitch;
use crate::flow::releases::Releases;
use crate::handler::{Attempt, Handler, Outcome};
use crate::settings::{OnCorruptBatch, Ordering, ProcessorSettings, RetrySettings};
use crate::telemetry::metrics::Instruments;
use crate::telemetry::partition_status::SharedStatus;
use crate::telemetry::report::Reporter;

mod blocked;
mod doomed;
mod outages;
mod paused;
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
        releases: Releases::default(),
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
    releases: Releases,
    pause_switch: Arc<PauseSwitch>,
    idle: Arc<AtomicU64>,
    revision: Arc<AtomicU64>,
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
        let (pause_switch, releases, idle) =
            (Arc::clone(&shared.pause_switch), shared.releases.clone(), Arc::default());
        let mut keeper = JoinSet::new();
        keeper.spawn(Arc::clone(&shared.limiter).keep());
        let (fetched, fetched_rx) = mpsc::channel(1);
        let (requests, requests_rx) = mpsc::channel(4);
        let (notices, told) = mpsc::channel(16);
        let revision = Arc::new(AtomicU64::new(state.revision()));
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
            revision: Arc::clone(&revision),
            idle: Arc::clone(&idle),
            durability: Durability { doomed: Arc::default(), durable: durable_rx },
            status: status.clone(),
        };
        let (forwarded, notices) = mpsc::channel(16);
        let session = (requests.downgrade(), durable.clone(), commits_rx);
        keeper.spawn(forward(told, forwarded, session, Arc::clone(&revision)));
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
            idle,
            revision,
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
        self.requests.send(Request::Drain { deadline, answer }).await.unwrap();
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
    revision: Arc<AtomicU64>,
) {
    let (requests, durable, commits) = session;
    while let Some(notice) = told.recv().await {
        if !matches!(notice, Notice::LettersWait) {
            forwarded.send(notice).await.unwrap();
            continue;
        }
        // A session commits only what is news.
        let is_news = Some(revision.load(Atomic::Relaxed)) > *durable.borrow();
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

#[tokio::test(start_paused = true)]
async fn orders_that_are_done_at_once_are_counted_and_committable() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("a", None), ("b", None), ("a", None)]).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (3, 3));
    assert_eq!(state.aggregate().sum().to_string(), "7.5");
    assert_eq!(bench.attempts(), [(0, 1), (1, 1), (2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_record_holds_back_the_commit_and_its_key_but_nothing_else() {
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Key);
    bench.read(&[("a", None), ("b", None), ("a", None)]).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (0, 1));
    assert_eq!(bench.attempts(), [(0, 1), (1, 1)]);

    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (3, 3));
    assert_eq!(state.aggregate().retries(), 1);
    assert_eq!(bench.attempts(), [(0, 1), (1, 1), (0, 2), (2, 1)], "the key stays in order");
}

#[tokio::test(start_paused = true)]
async fn the_partition_is_kept_in_order_when_the_settings_say_so() {
    let mut bench =
        Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Partition);
    bench.read(&[("a", None), ("b", None)]).await;
    assert_eq!(bench.attempts(), [(0, 1), (0, 2), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_another_record_when_order_does_not_matter() {
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::None);
    bench.read(&[("a", None), ("a", None)]).await;
    assert_eq!(bench.attempts(), [(0, 1), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_complete_only_when_its_dead_letter_is_written() {
    let rejected = Outcome::Permanent { reason: "no such product".into() };
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(rejected)])]), Ordering::Key);
    bench.read(&[("a", None), ("b", None)]).await;
    let letter = bench.letter().await;
    assert_eq!(letter.record.key, Some(Bytes::from_static(b"a")));
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (0, 0));

    letter.answer.send(Ok(())).unwrap();
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_failure_ends_in_a_letter_that_names_it() {
    let exhausted =
        vec![Answer::Now(transient()), Answer::Now(transient()), Answer::Now(transient())];
    let mut bench = Bench::fresh(script([(1, exhausted), (2, vec![Answer::Panic])]), Ordering::Key);
    let poison: &[u8] = b"\xff\xff\xff";
    bench.read(&[("a", Some(poison)), ("b", None), ("c", None)]).await;
    let mut types = BTreeMap::new();
    for _ in 0..3 {
        let letter = bench.letter().await;
        let header = |name| header(&letter, name).expect("the header is there");
        types.insert(header("original_offset"), header("dlq.error.type"));
        letter.answer.send(Ok(())).unwrap();
    }
    let state = bench.checkpoint().await;
    assert_eq!(types["1"], "retries-exhausted");
    assert_eq!(types["2"], "panic");
    assert!(types.contains_key("0"), "{types:?}");
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (3, 3));
    assert_eq!(state.aggregate().retries(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_value_over_the_bound_is_oversize_whatever_it_is() {
    const AT_THE_BOUND: &[u8] = &[0xff; VALUE_BYTES_MAX];
    const OVER_THE_BOUND: &[u8] = &[0xff; VALUE_BYTES_MAX + 1];
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("a", Some(AT_THE_BOUND)), ("b", Some(OVER_THE_BOUND))]).await;

    for (expected, value) in [("unknown-format", AT_THE_BOUND), ("oversize", OVER_THE_BOUND)] {
        let letter = bench.letter().await;
        assert_eq!(header(&letter, "dlq.error.type").as_deref(), Some(expected));
        assert_eq!(letter.record.value.as_deref(), Some(value));
        letter.answer.send(Ok(())).unwrap();
    }
    assert_eq!(bench.checkpoint().await.committable(), 2);
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_running_work_and_gives_up_waiting_records_with_their_attempts() {
    let (answer, later) = oneshot::channel();
    let mut bench = Bench::fresh(
        script([(0, vec![Answer::Later(later)]), (1, vec![Answer::Now(transient())])]),
        Ordering::Key,
    );
    bench.read(&[("a", None), ("b", None)]).await;
    answer.send(Outcome::Done).unwrap();
    let mut state = bench.drain(BACKOFF).await;
    assert_eq!((state.committable(), state.aggregate().orders()), (1, 1));
    assert_eq!(state.admit(1, None), order_ledger::checkpoint::Admission::Process { attempts: 1 });
}

#[tokio::test(start_paused = true)]
async fn draining_gives_up_work_that_does_not_end_in_time() {
    let (_answer, never) = oneshot::channel();
    let mut bench = Bench::fresh(script([(0, vec![Answer::Later(never)])]), Ordering::Key);
    bench.read(&[("a", None), ("b", None)]).await;
    let state = bench.drain(Duration::from_secs(1)).await;
    assert_eq!((state.committable(), state.aggregate().orders()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_checkpoint_calls_complete_is_not_done_again() {
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Key);
    bench.read(&[("a", None), ("b", None)]).await;
    let state = bench.drain(BACKOFF).await;
    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.read(&[("a", None), ("b", None), ("c", None)]).await;
    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!(bench.attempts(), [(2, 1), (0, 2)]);
    assert_eq!((state.committable(), state.aggregate().orders()), (3, 3));
    assert_eq!(state.aggregate().retries(), 1, "attempts before the restart count");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_has_failed_waits_its_delay_anew_after_each_restart() {
    let fails = || script([(0, vec![Answer::Now(transient())])]);
    let mut bench = Bench::fresh(fails(), Ordering::Key);
    bench.read(&[("a", None), ("a", None), ("b", None)]).await;
    let mut state = bench.drain(BACKOFF).await;
    for _ in 0..3 {
        let mut bench = Bench::start(fails(), Ordering::Key, state);
        bench.read(&[("a", None), ("a", None), ("b", None)]).await;
        tokio::time::sleep(BACKOFF.mul_f64(0.9)).await;
        assert_eq!(bench.attempts(), [], "the last one was made before the restart");
        state = bench.drain(BACKOFF).await;
    }
    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.read(&[("a", None), ("a", None), ("b", None)]).await;
    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!(bench.attempts(), [(0, 2), (1, 1)], "its key waits behind it");
    assert_eq!((state.committable(), state.aggregate().retries()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_has_failed_takes_no_probe_while_it_waits_after_a_restart() {
    let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Key);
    bench.read(&[("a", None)]).await;
    let state = bench.drain(BACKOFF).await;
    let down = Answer::Now(Outcome::dependency_down("nobody is there"));
    let mut bench = Bench::start(script([(1, vec![down])]), Ordering::Key, state);
    bench.read(&[("a", None), ("b", None)]).await;
    assert_eq!(bench.attempts(), [(1, 1)]);
    tokio::time::sleep(BACKOFF * 2).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn orders_stamped_far_ahead_count_as_of_their_arrival() {
    // In the year 2100, by its producer's clock or by the broker's.
    const AHEAD_MS: i64 = 4_102_444_800_000;
    let waits = script([(0, vec![Answer::Now(transient())])]);
    let mut bench = Bench::fresh(waits, Ordering::None);
    let batch = |base, timestamp_ms, price| {
        let mut value = Vec::new();
        let order = Order { order_id: "1".to_owned(), product: "tea".to_owned(), price };
        encode_bare(&order, &mut value);
        let records = std::iter::repeat_n(value, 100);
        records.fold(BatchBuilder::new(base), |batch, value| {
            batch.record(timestamp_ms, None, Some(&value), &[])
        })
    };
    bench.fetch(vec![batch(0, AHEAD_MS, 1.0).build().unwrap()], None).await;
    bench.caught_up().await;
    let soon = now_ms() + 60_000;
    bench.fetch(vec![batch(100, soon, 2.0).build().unwrap()], None).await;
    bench.caught_up().await;
    let recent = |state: &PartitionState| state.aggregate().recent_average().unwrap().to_string();
    assert_eq!(recent(&bench.checkpoint().await), "2", "a minute ahead is no trouble");
    tokio::time::sleep(BACKOFF).await;
    let state = bench.checkpoint().await;
    assert_eq!(
        (recent(&state), state.aggregate().orders()),
        ("2".to_owned(), 200),
        "nor is a retry"
    );

    let appended = batch(200, soon, 3.0).log_append_time(AHEAD_MS);
    bench.fetch(vec![appended.build().unwrap()], None).await;
    bench.caught_up().await;
    assert_eq!(recent(&bench.checkpoint().await), "3", "the broker's clock is believed");
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_session_is_gone_ends() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    drop(bench.requests);
    bench.workers.join_next().await.unwrap().unwrap().unwrap();
}

fn damaged(first_offset: i64, last_offset: i64) -> DamagedBatch {
    let bytes = Bytes::from_static(b"what is left of it");
    DamagedBatch { first_offset, last_offset, bytes, fault: BatchErrorKind::Crc }
}

fn header(letter: &Letter, name: &str) -> Option<String> {
    let (_, value) = letter.record.headers.iter().find(|(header, _)| header == name)?;
    Some(String::from_utf8(value.clone()?.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_one_letter_with_its_bytes_and_counts_as_one_record() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("a", None)]).await;
    bench.fetch(vec![], Some(damaged(1, 9))).await;
    bench.offer(&[("b", None)]).await;

    let letter = bench.letter().await;
    let record = &letter.record;
    assert_eq!((&record.key, record.value.as_deref()), (&None, Some(&b"what is left of it"[..])));
    for (name, value) in [
        ("dlq.error.type", "corrupt-batch"),
        ("dlq.error.class", "poison"),
        ("__dlq.errors.offset", "1"),
        ("dlq.batch.base-offset", "1"),
        ("dlq.batch.last-offset", "9"),
        ("error_reason", "the batch of offsets 1 to 9 cannot be read: wrong checksum"),
    ] {
        assert_eq!(header(&letter, name).as_deref(), Some(value), "{name}");
    }
    let state = bench.checkpoint().await;
    assert_eq!(
        (state.committable(), state.aggregate().records()),
        (1, 1),
        "what is behind it waits"
    );

    letter.answer.send(Ok(())).unwrap();
    bench.caught_up().await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().records()), (11, 3));
    assert_eq!(state.aggregate().dead_letters(), 1);
    assert!(bench.letters.try_recv().is_err(), "one letter");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_dead_lettered_again_after_a_restart_only_if_its_letter_was_not_written()
{
    for is_written in [false, true] {
        let mut bench = Bench::fresh(script([(0, vec![Answer::Now(transient())])]), Ordering::Key);
        bench.read(&[("a", None)]).await;
        bench.fetch(vec![], Some(damaged(1, 9))).await;
        let letter = bench.letter().await;
        if is_written {
            letter.answer.send(Ok(())).unwrap();
        }
        let state = bench.checkpoint().await;
        assert_eq!(state.committable(), 0, "the first record waits");

        let mut bench = Bench::start(script([]), Ordering::Key, state);
        bench.read(&[("a", None)]).await;
        bench.fetch(vec![], Some(damaged(1, 9))).await;
        if !is_written {
            let letter = bench.letter().await;
            assert_eq!(header(&letter, "__dlq.errors.offset").as_deref(), Some("1"));
            letter.answer.send(Ok(())).unwrap();
        }
        bench.caught_up().await;
        tokio::time::sleep(BACKOFF).await;
        let state = bench.checkpoint().await;
        assert!(bench.letters.try_recv().is_err());
        assert_eq!((state.committable(), state.aggregate().dead_letters()), (10, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_that_can_be_read_after_a_restart_counts_with_all_its_records() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.fetch(vec![], Some(damaged(0, 2))).await;
    let _unwritten = bench.letter().await;
    let behind = BatchBuilder::new(3).record(0, Some(b"d"), Some(&order("d")), &[]);
    bench.fetch(vec![behind.build().unwrap()], None).await;
    let state = bench.checkpoint().await;

    // The broker that leads by now has it whole.
    let mut bench = Bench::start(script([]), Ordering::Key, state);
    bench.read(&[("a", None), ("b", None), ("c", None), ("d", None)]).await;
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().orders()), (4, 4));
    assert!(bench.letters.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_whole_batch_that_cannot_be_unpacked_is_a_damaged_one_unless_it_was_aborted() {
    let packed = |base: i64| {
        let batch = BatchBuilder::new(base).transaction(7, 0, 0);
        let mut bytes = batch.record(0, None, Some(b"v"), &[]).build().unwrap().to_vec();
        bytes[22] |= 6;
        let checksum = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
        Bytes::from(bytes)
    };
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.fetch(vec![packed(0)], None).await;
    bench.caught_up().await;
    let letter = bench.letter().await;
    assert_eq!(header(&letter, "dlq.error.type").as_deref(), Some("corrupt-batch"));
    let reason = header(&letter, "error_reason").unwrap();
    assert!(reason.ends_with("unknown compression 6"), "{reason}");
    assert_eq!(letter.record.value, Some(packed(0)));
    letter.answer.send(Ok(())).unwrap();

    let fetched = FetchedBatches {
        batches: batches(packed(1)).collect(),
        damaged: None,
        aborted: vec![(7, 1)],
        next_offset: 2,
        last_stable_offset: 2,
        high_watermark: 2,
        log_start_offset: 0,
    };
    bench.fetched.send(Fetched::Batches(fetched)).await.unwrap();
    bench.caught_up().await;
    assert!(bench.letters.try_recv().is_err(), "nobody was to read it");
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().records()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn damage_ends_the_worker_where_the_settings_say_so() {
    let state = PartitionState::empty(TOPIC, 0, Capacity::DEFAULT);
    let fail = |shared: &mut Shared<_>| shared.settings.corrupt_batch = OnCorruptBatch::Fail;
    let mut bench = Bench::start_with(script([]), Ordering::Key, state, fail);
    bench.fetch(vec![], Some(damaged(0, 3))).await;
    let error = bench.workers.join_next().await.unwrap().unwrap().unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("CORRUPT_BATCH=fail") && error.contains("offsets 0 to 3"), "{error}");
    assert!(bench.letters.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn records_that_cannot_be_read_are_letters_and_the_others_of_their_batch_go_on() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    let batch = BatchBuilder::new(0)
        .record(0, None, Some(&order("a")), &[])
        .raw_record(b"no record")
        .record(0, None, Some(&order("b")), &[])
        .raw_bytes(b"\xfe\xff")
        .skip_offsets(2)
        // More than there are, and more together than a counter of 32 bits holds.
        .declare_records(i32::MAX);
    let more = BatchBuilder::new(5).record(0, None, Some(&order("c")), &[]);
    bench.fetch(vec![batch.build().unwrap(), more.build().unwrap()], None).await;
    let mut letters = Vec::new();
    for _ in 0..2 {
        let letter = bench.letter().await;
        assert_eq!(header(&letter, "dlq.error.type").as_deref(), Some("undecodable-record"));
        let offset = header(&letter, "__dlq.errors.offset").unwrap();
        letters.push((offset, header(&letter, "dlq.batch.last-offset")));
        letter.answer.send(Ok(())).unwrap();
    }
    assert_eq!(letters, [("1".to_owned(), None), ("3".to_owned(), Some("4".to_owned()))]);
    bench.caught_up().await;
    let state = bench.checkpoint().await;
    let numbers = (state.aggregate().orders(), state.aggregate().dead_letters());
    assert_eq!((state.committable(), numbers), (6, (3, 2)));
}

#[tokio::test(start_paused = true)]
async fn a_letter_is_made_smaller_until_the_topic_takes_it() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    bench.read(&[("key", Some(b"\xff\xff\xff"))]).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let letter = bench.letter().await;
        let has = |name: &str| header(&letter, name).is_some();
        seen.push((letter.record.value.is_some(), letter.record.key.is_some(), has("dlq.value")));
        assert_eq!(header(&letter, "original_offset").as_deref(), Some("0"));
        let is_last = seen.len() == 4;
        letter.answer.send(if is_last { Ok(()) } else { Err(LetterError::TooLarge) }).unwrap();
    }
    let smallest = (false, false, true);
    assert_eq!(seen, [(true, true, false), (false, true, true), smallest, smallest]);
    let state = bench.checkpoint().await;
    assert_eq!((state.committable(), state.aggregate().dead_letters()), (1, 1));
}
