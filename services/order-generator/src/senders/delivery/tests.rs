//! Deliveries to a scripted broker, on a paused clock.

use kafka_protocol::ResponseError;
use service_runtime::Health;

use super::*;
use crate::orders::{Cents, DrawnOrder, OrderId};
use crate::senders::batch::{Encoder, PendingOrder};
use crate::senders::fake_broker::{Answer, FakeBroker, LATENCY};
use crate::senders::trace_sample::TraceSample;

const POLICY: DeliveryPolicy = DeliveryPolicy { retries_max: 2, timeout: Duration::from_mins(2) };

const TOO_LARGE: Answer = Answer::Refused(ResponseError::MessageTooLarge);
const NOT_AUTHORISED: Answer = Answer::Refused(ResponseError::TopicAuthorizationFailed);

#[tokio::test(start_paused = true)]
async fn an_acknowledged_batch_is_sent_once() {
    let broker = FakeBroker::new([]);

    assert_eq!(deliver_to(&broker, 2).await, (Outcome::Acknowledged { base_offset: 0 }, 1));
    assert_eq!(broker.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_an_acknowledgement_is_repeated_unchanged() {
    let broker = FakeBroker::new([Answer::Lost, Answer::NotSent, Answer::WrittenUnheard]);

    let (outcome, attempts) = deliver_to(&broker, 3).await;

    assert_eq!((outcome, attempts), (Outcome::Acknowledged { base_offset: 3 }, 4));
    let requests = broker.requests();
    assert!(requests.iter().all(|request| request.records == requests[0].records));
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_double_up_to_a_second() {
    let broker = FakeBroker::new([Answer::Lost; 8]);

    deliver_to(&broker, 1).await;

    let requests = broker.requests();
    let pauses: Vec<_> =
        requests.windows(2).map(|pair| (pair[1].at - (pair[0].at + LATENCY)).as_millis()).collect();
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_has_failed_after_its_retries() {
    let broker = FakeBroker::new([NOT_AUTHORISED; 9]);

    let (outcome, attempts) = deliver_to(&broker, 2).await;

    assert!(matches!(outcome, Outcome::Failed(ProduceError::Refused { .. })), "{outcome:?}");
    assert_eq!((attempts, broker.requests().len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_temporary_refusal_is_no_failure() {
    let broker = FakeBroker::new([NOT_AUTHORISED; 2]);

    assert_eq!(deliver_to(&broker, 1).await, (Outcome::Acknowledged { base_offset: 0 }, 3));
}

#[tokio::test(start_paused = true)]
async fn refusals_and_lost_requests_are_counted_separately() {
    let script = [Answer::NotSent, NOT_AUTHORISED, Answer::NotSent, NOT_AUTHORISED];
    let broker = FakeBroker::new(script);

    assert_eq!(deliver_to(&broker, 1).await, (Outcome::Acknowledged { base_offset: 0 }, 5));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_may_have_been_written_is_unknown_even_if_it_is_refused_afterwards() {
    let script = [Answer::WrittenUnheard, NOT_AUTHORISED, NOT_AUTHORISED, NOT_AUTHORISED];
    let broker = FakeBroker::new(script);

    let (outcome, _) = deliver_to(&broker, 1).await;

    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_unknown_after_the_delivery_timeout() {
    let broker = FakeBroker::new([Answer::Lost; 1000]);
    let begun = Instant::now();

    let (outcome, _) = deliver_to(&broker, 1).await;

    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    let took = begun.elapsed();
    assert!(took <= POLICY.timeout && took + BACKOFF_MAX >= POLICY.timeout, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_never_reached_a_broker_has_failed() {
    let broker = FakeBroker::new([Answer::NotSent; 1000]);

    let (outcome, _) = deliver_to(&broker, 1).await;

    assert!(matches!(outcome, Outcome::Failed(ProduceError::NotSent { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_retried_after_the_request_timeout_within_the_delivery_timeout() {
    let broker = FakeBroker::new([Answer::Silence; 1000]);
    let begun = Instant::now();

    let (outcome, attempts) = deliver_to(&broker, 1).await;

    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    assert_eq!((attempts, begun.elapsed()), (4, POLICY.timeout));
    assert_eq!(broker.requests()[0].deadline, begun + REQUEST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_is_not_retried_as_a_whole() {
    let together = FakeBroker::new([TOO_LARGE; 9]);
    let alone = FakeBroker::new([TOO_LARGE; 9]);

    assert!(matches!(deliver_to(&together, 2).await, (Outcome::Failed(_), 1)));
    assert!(matches!(deliver_to(&alone, 1).await, (Outcome::Failed(_), 3)));
}

#[tokio::test(start_paused = true)]
async fn readiness_shows_the_outage_until_an_acknowledgement() {
    let health = Health::default();
    let outage = Outage::new(health.check("kafka"));
    let target = TopicPartition::new("orders", 0);
    let broker = FakeBroker::new([Answer::NotSent]);

    deliver(&broker, &target, &records(1), POLICY, &outage).await;
    let waiting = health.report()["kafka"].clone();
    outage.acknowledged(&target);

    assert_eq!(
        waiting.as_deref(),
        Some("waiting for Kafka: no broker for orders-0: connection refused")
    );
    assert_eq!(health.report()["kafka"], None);
}

async fn deliver_to(broker: &FakeBroker, count: u64) -> (Outcome, u32) {
    let outage = Outage::new(Health::default().check("kafka"));
    let target = TopicPartition::new("orders", 0);
    deliver(broker, &target, &records(count), POLICY, &outage).await
}

fn records(count: u64) -> Vec<OutgoingRecord> {
    let order = |n| DrawnOrder {
        id: OrderId::Number(n),
        product: "Yoga Mat",
        price: Cents(1999),
        fault: None,
    };
    let pending: Vec<_> =
        (0..count).map(|n| PendingOrder { order: order(n), timestamp_ms: 0 }).collect();
    Encoder::new(1, 1, TraceSample::new(0.0, 0)).encode(&pending).records
}
