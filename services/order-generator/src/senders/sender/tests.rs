//! The sender of a partition with a scripted broker, on a paused clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka_core::compression::Compression;
use kafka_protocol::ResponseError;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use service_runtime::Metrics;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::metrics::Measures;
use crate::orders::{Cents, DrawnOrder, OrderId};
use crate::report::Shortfall;
use crate::senders::batch::BatchLimits;
use crate::senders::fake_broker::{Answer, FakeBroker, LATENCY};
use crate::senders::trace_sample::TraceSample;

#[tokio::test(start_paused = true)]
async fn a_batch_has_the_orders_queued_while_five_batches_are_in_flight() {
    let running = Running::start(&FakeBroker::new([]));
    running.queue(1).await;
    sleep(LATENCY * 2).await;

    for _ in 0..5 {
        running.queue(1).await;
        sleep(LATENCY / 10).await;
    }
    running.queue(5).await;
    let Ended { broker, acknowledged, .. } = running.close().await;

    let expected = [vec![1], vec![2], vec![3], vec![4], vec![5], vec![6], vec![7, 8, 9, 10, 11]];
    assert_eq!(broker.request_times(), expected);
    assert_eq!(acknowledged, 11);
}

#[tokio::test(start_paused = true)]
async fn queued_orders_are_delivered_after_the_queue_is_closed() {
    let running = Running::start(&FakeBroker::new([Answer::WrittenWithoutOffset]));

    running.queue(3000).await;
    let Ended { broker, acknowledged, shortfall, .. } = running.close().await;

    assert_eq!((acknowledged, shortfall), (3000, Shortfall { failed: 0, unknown: 0 }));
    assert_eq!(broker.log_times(), (1..=3000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_no_orders_are_sent() {
    for answer in [Answer::Silence, Answer::WrittenUnheard, Answer::NotSent] {
        let running = Running::start(&FakeBroker::new([Answer::Written, answer]));

        running.queue(1).await;
        sleep(LATENCY * 2).await;
        running.queue(1).await;
        sleep(LATENCY * 2).await;
        for _ in 0..4 {
            running.queue(1).await;
            sleep(LATENCY * 2).await;
        }
        running.queue(5).await;
        let Ended { broker, acknowledged, shortfall, is_stopped } = running.close().await;

        // Those in flight have outcomes of their own.
        assert_eq!(broker.requests().len(), 6);
        let is_failed = answer == Answer::NotSent;
        let (failed, unknown) = if is_failed { (6, 0) } else { (5, 1) };
        let expected = Shortfall { failed, unknown };
        assert_eq!((acknowledged, shortfall), (5, expected));
        assert!(is_stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn refused_orders_have_failed_and_queued_orders_are_delivered() {
    let refused = Answer::Refused(ResponseError::InvalidRecord);
    let running = Running::start(&FakeBroker::new([refused]));

    running.queue(2).await;
    sleep(LATENCY / 2).await;
    running.queue(5).await;
    let Ended { broker, acknowledged, shortfall, is_stopped } = running.close().await;

    assert_eq!(broker.log_times(), [3, 4, 5, 6, 7]);
    assert_eq!((acknowledged, shortfall), (5, Shortfall { failed: 2, unknown: 0 }));
    assert!(is_stopped);
}

#[tokio::test(start_paused = true)]
async fn a_sender_whose_every_batch_is_refused_gives_up() {
    let refused = Answer::Refused(ResponseError::TopicAuthorizationFailed);
    let running = Running::start(&FakeBroker::new([refused; 1000]));

    for _ in 0..700 {
        running.queue(1).await;
        sleep(LATENCY / 50).await;
    }
    let queued = running.queued();
    let Ended { broker, shortfall, .. } = running.close().await;

    assert_eq!(shortfall, Shortfall { failed: queued, unknown: 0 });
    let requests = broker.requests().len();
    assert!((10..15).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_is_split_and_later_batches_stay_small() {
    let running = Running::start(&FakeBroker::with_records_max(10));

    running.queue(60).await;
    let Ended { broker, acknowledged, .. } = running.close().await;

    assert_eq!(broker.log_times(), (1..=60).collect::<Vec<_>>());
    assert_eq!(acknowledged, 60);
    let sizes: Vec<_> = broker.requests().iter().map(|request| request.records.len()).collect();
    assert_eq!(sizes, [60, 30, 15, 8, 8, 8, 8, 8, 8, 8, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_all_before_goes_alone_while_the_limit_is_unknown() {
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let running = Running::start(&FakeBroker::with_records_max(rng.random_range(1..30)));

        for _ in 0..50 {
            running.queue(rng.random_range(0..60)).await;
            sleep(LATENCY / rng.random_range(1..20)).await;
        }
        let Ended { broker, acknowledged, shortfall, .. } = running.close().await;

        let log = broker.log_times();
        assert!(log.is_sorted_by(|earlier, later| earlier < later), "seed {seed}");
        assert_eq!(u64::try_from(log.len()).unwrap(), acknowledged);
        assert_eq!(shortfall, Shortfall { failed: 0, unknown: 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn abandoned_orders_in_flight_are_unknown_and_queued_ones_have_failed() {
    let mut script = vec![Answer::Written];
    script.extend([Answer::Silence; 9]);
    let running = Running::start(&FakeBroker::new(script));

    for _ in 0..6 {
        running.queue(1).await;
        sleep(LATENCY * 2).await;
    }
    running.queue(4).await;
    running.abandon.cancel();
    let Ended { acknowledged, shortfall, .. } = running.close().await;

    assert_eq!((acknowledged, shortfall), (1, Shortfall { failed: 4, unknown: 5 }));
}

/// Whatever becomes of batches, every acknowledged order is in the log once and in order.
#[tokio::test(start_paused = true)]
async fn every_acknowledged_order_is_in_the_log_once_and_in_order() {
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let answers = [
            Answer::Written,
            Answer::Written,
            Answer::Written,
            Answer::WrittenWithoutOffset,
            Answer::NotSent,
            Answer::WrittenUnheard,
            Answer::Silence,
            Answer::Refused(ResponseError::TopicAuthorizationFailed),
        ];
        let script: Vec<_> = (0..30).map(|_| answers[rng.random_range(0..answers.len())]).collect();
        let running = Running::start(&FakeBroker::new(script));

        for _ in 0..20 {
            running.queue(rng.random_range(0..60)).await;
            sleep(Duration::from_millis(rng.random_range(0..200))).await;
        }
        let queued = running.queued();
        let Ended { broker, acknowledged, shortfall, .. } = running.close().await;

        let log = broker.log_times();
        assert!(log.is_sorted_by(|earlier, later| earlier < later), "seed {seed}");
        let written = u64::try_from(log.len()).unwrap();
        assert!(
            acknowledged <= written,
            "seed {seed}: {acknowledged} acknowledged, {written} written"
        );
        assert!(
            written <= acknowledged + shortfall.unknown,
            "seed {seed}: failed ones are written"
        );
        assert_eq!(acknowledged + shortfall.failed + shortfall.unknown, queued, "seed {seed}");
    }
}

struct Running {
    into_queue: mpsc::Sender<PendingOrder>,
    /// Orders that the sender has accepted.
    queued: AtomicU64,
    broker: FakeBroker,
    report: Arc<Report>,
    is_stopped: CancellationToken,
    abandon: CancellationToken,
    task: JoinSet<()>,
}

/// The results of an ended sender.
struct Ended {
    broker: FakeBroker,
    acknowledged: u64,
    shortfall: Shortfall,
    is_stopped: bool,
}

impl Running {
    fn start(broker: &FakeBroker) -> Self {
        let is_stopped = CancellationToken::new();
        let abandon = CancellationToken::new();
        let report = Arc::new(Report::new(&Metrics::default(), is_stopped.clone()));
        let (into_queue, queue) = mpsc::channel(8192);
        let limits = BatchLimits::new(None, Compression::None);
        let sender = Sender {
            transport: Arc::new(broker.clone()),
            target: TopicPartition::new("orders", 0),
            encoder: Encoder::new(1, limits, TraceSample::new(0.0, 0)),
            is_limit_known: limits.is_known,
            delivery_timeout: Duration::from_mins(2),
            measures: Measures::default(),
            report: Arc::clone(&report),
            abandon: abandon.clone(),
        };
        let mut task = JoinSet::new();
        task.spawn(sender.run(queue));
        let (broker, queued) = (broker.clone(), AtomicU64::new(0));
        Self { into_queue, queued, broker, report, is_stopped, abandon, task }
    }

    /// Queues orders; the timestamps count all orders from 1.
    async fn queue(&self, count: u64) {
        for _ in 0..count {
            let id = OrderId::Number(1001);
            let order = DrawnOrder { id, product: "Yoga Mat", price: Cents(1999), fault: None };
            let timestamp_ms = i64::try_from(self.queued() + 1).unwrap();
            let pending = PendingOrder { order, timestamp_ms };
            // A sender that has given up accepts no orders.
            if self.into_queue.send(pending).await.is_ok() {
                self.queued.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    async fn close(mut self) -> Ended {
        drop(self.into_queue);
        self.task.join_next().await.unwrap().unwrap();
        Ended {
            broker: self.broker,
            acknowledged: self.report.acknowledged_orders(),
            shortfall: self.report.conclude(Duration::from_secs(1)),
            is_stopped: self.is_stopped.is_cancelled(),
        }
    }
}
