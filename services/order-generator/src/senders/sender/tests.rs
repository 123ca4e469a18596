//! The sender of a partition with a scripted broker, on a paused clock.

use std::time::Duration;

use kafka_protocol::ResponseError;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use service_runtime::{Health, Metrics};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::orders::faults::Fault;
use crate::orders::{Cents, DrawnOrder, OrderId};
use crate::report::Shortfall;
use crate::senders::fake_broker::{Answer, FakeBroker, LATENCY, Order};
use crate::senders::trace_sample::TraceSample;

#[tokio::test(start_paused = true)]
async fn a_batch_has_the_orders_queued_during_the_delivery_before_it() {
    let running = Running::start(&FakeBroker::new([]));

    running.queue(1).await;
    sleep(LATENCY / 2).await;
    running.queue(5).await;
    let Ended { broker, acknowledged, .. } = running.close().await;

    assert_eq!(broker.request_sequences(), [vec![1], vec![2, 3, 4, 5, 6]]);
    assert_eq!(acknowledged, 6);
}

#[tokio::test(start_paused = true)]
async fn queued_orders_are_delivered_after_the_queue_is_closed() {
    let running = Running::start(&FakeBroker::new([Answer::Lost, Answer::Lost]));

    running.queue(3000).await;
    let Ended { broker, acknowledged, shortfall, .. } = running.close().await;

    assert_eq!((acknowledged, shortfall), (3000, Shortfall { failed: 0, unknown: 0 }));
    assert_eq!(broker.log_sequences(), (1..=3000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn newer_orders_wait_for_the_acknowledgement_of_a_batch() {
    let running = Running::start(&FakeBroker::new([Answer::Lost, Answer::WrittenUnheard]));

    running.queue(2).await;
    sleep(LATENCY / 2).await;
    running.queue(1).await;
    let Ended { broker, .. } = running.close().await;

    assert_eq!(broker.request_sequences(), [vec![1, 2], vec![1, 2], vec![1, 2], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_no_orders_are_sent() {
    let running = Running::start(&FakeBroker::new([Answer::Lost; 1000]));

    running.queue(2).await;
    sleep(LATENCY / 2).await;
    running.queue(5).await;
    let Ended { broker, acknowledged, shortfall, is_stopped } = running.close().await;

    assert!(broker.request_sequences().iter().all(|sequences| sequences == &[1, 2]));
    assert_eq!((acknowledged, shortfall), (0, Shortfall { failed: 5, unknown: 2 }));
    assert!(is_stopped);
}

#[tokio::test(start_paused = true)]
async fn refused_orders_have_failed_and_queued_orders_are_delivered() {
    let refused = Answer::Refused(ResponseError::InvalidRecord);
    let running = Running::start(&FakeBroker::new([refused; 3]));

    running.queue(2).await;
    sleep(LATENCY / 2).await;
    running.queue(5).await;
    let Ended { broker, acknowledged, shortfall, is_stopped } = running.close().await;

    assert_eq!(broker.log_sequences(), [3, 4, 5, 6, 7]);
    assert_eq!((acknowledged, shortfall), (5, Shortfall { failed: 2, unknown: 0 }));
    assert!(is_stopped);
}

#[tokio::test(start_paused = true)]
async fn a_sender_whose_every_batch_is_refused_gives_up() {
    let refused = Answer::Refused(ResponseError::TopicAuthorizationFailed);
    let running = Running::start(&FakeBroker::new([refused; 1000]));

    running.queue(700).await;
    let Ended { broker, shortfall, .. } = running.close().await;

    assert_eq!(shortfall, Shortfall { failed: 700, unknown: 0 });
    assert_eq!(broker.requests().len(), 3 * 10);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_is_split_and_later_batches_stay_small() {
    let running = Running::start(&FakeBroker::with_records_max(10));

    running.queue(60).await;
    let Ended { broker, acknowledged, .. } = running.close().await;

    assert_eq!(broker.log_sequences(), (1..=60).collect::<Vec<_>>());
    assert_eq!(acknowledged, 60);
    let sizes: Vec<_> = broker.requests().iter().map(|request| request.records.len()).collect();
    assert_eq!(sizes, [39, 20, 10, 10, 19, 10, 9, 10, 10, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_oversize_record_ends_its_batch() {
    let running = Running::start(&FakeBroker::new([Answer::Lost]));

    for fault in [None, None, Some(Fault::Oversize), Some(Fault::Oversize), None] {
        running.queue_with(fault).await;
    }
    let Ended { broker, acknowledged, .. } = running.close().await;

    assert_eq!(broker.request_sequences(), [vec![1, 2, 3], vec![1, 2, 3], vec![4], vec![5]]);
    assert_eq!(acknowledged, 3);
}

#[tokio::test(start_paused = true)]
async fn abandoned_orders_in_flight_are_unknown_and_queued_ones_have_failed() {
    let running = Running::start(&FakeBroker::new([Answer::Silence; 9]));

    running.queue(1).await;
    sleep(Duration::from_secs(1)).await;
    running.queue(4).await;
    running.abandon.cancel();
    let Ended { acknowledged, shortfall, .. } = running.close().await;

    assert_eq!((acknowledged, shortfall), (0, Shortfall { failed: 4, unknown: 1 }));
}

/// A reader drops each record whose sequence is not above the producer's last one. Whatever requests are lost, delayed or
/// repeated, it gets every acknowledged order once and in sequence.
#[tokio::test(start_paused = true)]
async fn a_reader_that_drops_repeats_sees_every_order_once_and_in_order() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let answers = [
            Answer::Written,
            Answer::Lost,
            Answer::NotSent,
            Answer::WrittenUnheard,
            Answer::Late(Order::BeforeTheNext),
            Answer::Late(Order::AfterTheNext),
            Answer::Refused(ResponseError::TopicAuthorizationFailed),
        ];
        let script: Vec<_> = (0..30).map(|_| answers[rng.random_range(0..answers.len())]).collect();
        let running = Running::start(&FakeBroker::new(script));

        for _ in 0..20 {
            running.queue(rng.random_range(0..60)).await;
            sleep(Duration::from_millis(rng.random_range(0..200))).await;
        }
        let Ended { broker, acknowledged, shortfall, .. } = running.close().await;

        let mut seen: Vec<u64> = Vec::new();
        for sequence in broker.log_sequences() {
            if seen.last().is_none_or(|last| sequence > *last) {
                seen.push(sequence);
            }
        }
        let seen = u64::try_from(seen.len()).unwrap();
        assert!(acknowledged <= seen, "seed {seed}: {acknowledged} acknowledged, {seen} seen");
        assert!(seen <= acknowledged + shortfall.unknown, "seed {seed}: failed ones were written");
    }
}

struct Running {
    into_queue: mpsc::Sender<PendingOrder>,
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
        let sender = Sender::new(
            broker.clone(),
            TopicPartition::new("orders", 0),
            Encoder::new(1, 1, TraceSample::new(0.0, 0)),
            DeliveryPolicy { retries_max: 2, timeout: Duration::from_mins(2) },
            Arc::new(Outage::new(Health::default().check("kafka"))),
            Arc::clone(&report),
        );
        let mut task = JoinSet::new();
        task.spawn(sender.run(queue, abandon.clone()));
        let broker = broker.clone();
        Self { into_queue, broker, report, is_stopped, abandon, task }
    }

    async fn queue(&self, count: u64) {
        for _ in 0..count {
            self.queue_with(None).await;
        }
    }

    async fn queue_with(&self, fault: Option<Fault>) {
        let id = OrderId::Number(1001);
        let order = DrawnOrder { id, product: "Yoga Mat", price: Cents(1999), fault };
        let pending = PendingOrder { order, timestamp_ms: 0 };
        // A sender that has given up accepts no orders.
        self.into_queue.send(pending).await.unwrap_or_default();
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
