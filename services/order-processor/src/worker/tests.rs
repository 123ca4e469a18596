//! One worker between a reader's channel and a session's, with a handler that does what the test says.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use kafka_group::record_batch::{BatchBuilder, batches};
use order_avro::encode_bare;
use schema_registry::RegistryConfig;
use service_runtime::Health;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::checkpoint::Capacity;
use crate::handler::Attempt;
use crate::letters::Letter;
use crate::retry::Jitter;

mod outages;

const TOPIC: Uuid = Uuid::from_u128(1);
const BACKOFF: Duration = Duration::from_secs(10);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(100);
const CONCURRENCY: usize = 4;
const DOWN_AFTER: usize = 4;
const DLQ_GUARD: u32 = 5;

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

fn transient() -> Outcome {
    Outcome::transient("not now")
}

/// A running worker and both ends of everything it is connected to.
struct Bench {
    script: Arc<Script>,
    fetched: mpsc::Sender<Fetched>,
    requests: mpsc::Sender<Request>,
    notices: mpsc::Receiver<Notice>,
    letters: mpsc::Receiver<Letter>,
    workers: JoinSet<anyhow::Result<()>>,
    _keeper: JoinSet<()>,
    health: Health,
    release: Arc<Notify>,
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
        let (letters, letters_rx) = Letters::captured();
        let (health, release) = (Health::default(), Arc::default());
        let pauses = Pauses::new(health.check("work"));
        let gate = Gate::new(CONCURRENCY, DOWN_AFTER, pauses.clone());
        let mut shared = Shared {
            handler: Arc::clone(&script),
            attempt_timeout: ATTEMPT_TIMEOUT,
            gate,
            watch: Arc::default(),
            pauses,
            dlq_guard: DLQ_GUARD,
            releases: Releases::Told(Arc::clone(&release)),
            group_id: "group".to_owned(),
            orders_topic: "orders".to_owned(),
            replay_topic: "replay".to_owned(),
            retry: RetryPolicy {
                retries_max: 2,
                backoff: BACKOFF,
                multiplier: 1.0,
                backoff_max: BACKOFF,
                jitter: Jitter::Off,
                elapsed_max: None,
            },
            ordering,
            payload_format: PayloadFormat::Auto,
            dedupe: true,
            schemas: SchemaRegistry::new(RegistryConfig::new("http://127.0.0.1:1")).unwrap(),
            letters,
            reporter: Reporter::new(),
            held_bytes: AtomicUsize::new(0),
            held_bytes_max: usize::MAX,
        };
        change(&mut shared);
        let mut keeper = JoinSet::new();
        keeper.spawn(Arc::clone(&shared.gate).keep());
        let (fetched, fetched_rx) = mpsc::channel(1);
        let (requests, requests_rx) = mpsc::channel(4);
        let (notices_tx, notices) = mpsc::channel(16);
        let next_offset = state.committable();
        let assignment = Assignment {
            tp: TopicPartition::new("orders", 0),
            epoch: 1,
            topic_id: TOPIC,
            is_replay: false,
            state,
            fetched: fetched_rx,
            requests: requests_rx,
            notices: notices_tx,
            revision: Arc::default(),
        };
        let mut workers = JoinSet::new();
        workers.spawn(run(Arc::new(shared), assignment));
        Self {
            script,
            fetched,
            requests,
            notices,
            letters: letters_rx,
            workers,
            _keeper: keeper,
            health,
            release,
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
        let notice = self.notices.recv().await;
        assert!(matches!(notice, Some(Notice::CaughtUp)), "{notice:?}");
    }

    /// Hands the worker one batch of records.
    async fn offer(&mut self, records: &[(&'static str, Option<&'static [u8]>)]) {
        let mut builder = BatchBuilder::new(self.next_offset);
        for (key, value) in records {
            let order =
                Order { order_id: (*key).to_owned(), product: "tea".to_owned(), price: 2.5 };
            let mut bytes = Vec::new();
            match value {
                Some(value) => bytes.extend_from_slice(value),
                None => encode_bare(&order, &mut bytes),
            }
            builder = builder.record(0, Some(key.as_bytes()), Some(&bytes), &[]);
        }
        let batch: Vec<_> = batches(builder.build().unwrap()).collect();
        self.next_offset = batch[0].next_offset();
        let fetched = FetchedBatches {
            batches: batch,
            aborted: vec![],
            next_offset: self.next_offset,
            last_stable_offset: self.next_offset,
            high_watermark: self.next_offset,
            log_start_offset: 0,
        };
        self.fetched.send(Fetched::Batches(fetched)).await.unwrap();
    }

    /// Asks where the worker stands once it has nothing left to do: the clock moves only while everybody waits.
    async fn checkpoint(&mut self) -> PartitionState {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Checkpoint(answer)).await.unwrap();
        restored(answered.await.unwrap())
    }

    async fn drain(mut self, patience: Duration) -> PartitionState {
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + patience;
        self.requests.send(Request::Drain { deadline, answer }).await.unwrap();
        let state = restored(answered.await.unwrap());
        self.workers.join_next().await.unwrap().unwrap().unwrap();
        state
    }

    /// Returns why the process pauses, if it does.
    fn pause(&self) -> Option<String> {
        self.health.report()["work"].clone()
    }

    fn attempts(&self) -> Vec<(i64, u32)> {
        self.script.attempts.lock().unwrap().clone()
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
    let letter = bench.letters.recv().await.unwrap();
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
        let letter = bench.letters.recv().await.unwrap();
        let header = |name: &str| {
            let value = letter.record.headers.iter().find(|(header, _)| header == name);
            String::from_utf8(value.expect("the header is there").1.to_vec()).unwrap()
        };
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
    assert_eq!(state.admit(1, None), crate::checkpoint::Admission::Process { attempts: 1 });
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
    let state = bench.checkpoint().await;
    assert_eq!(bench.attempts(), [(0, 2), (2, 1)]);
    assert_eq!((state.committable(), state.aggregate().orders()), (3, 3));
    assert_eq!(state.aggregate().retries(), 1, "attempts before the restart count");
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_session_is_gone_ends() {
    let mut bench = Bench::fresh(script([]), Ordering::Key);
    drop(bench.requests);
    bench.workers.join_next().await.unwrap().unwrap().unwrap();
}
