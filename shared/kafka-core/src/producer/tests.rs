mod model;
mod properties;

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::*;
use crate::compression::Compression;
use crate::record_batch::{BatchEncoder, EncodedBatch, Fit, NewRecord, batches};

const TTL: Duration = Duration::from_mins(2);
const PRODUCER: ProducerIdentity = ProducerIdentity { id: 100, epoch: 0 };
const EXPIRED_IN_DOUBT: Delivery =
    Delivery::Expired { written: Written::Unknown, last_error: None };

/// A producer of batches with one record each, and a clock.
struct Table {
    producer: PartitionProducer<usize>,
    now: Instant,
}

mod sending {
    use super::*;

    #[test]
    fn the_first_batch_of_an_epoch_goes_alone_and_five_are_sent_after_it() {
        let mut table = Table::new(9);
        let first = table.one();
        assert!(table.producer.next(table.now).is_none());
        table.append(&first, 40);
        let sent = table.all();
        assert_eq!(table.numbers(&sent), [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]);
    }

    #[test]
    fn the_window_is_counted_from_the_oldest_unresolved_batch() {
        let mut table = Table::warm(9);
        let sent = table.all();
        for attempt in &sent[1..] {
            table.append(attempt, 50);
        }
        assert!(table.all().is_empty());
        table.append(&sent[0], 49);
        assert_eq!(table.all().len(), 4);
    }

    #[test]
    fn nothing_is_sent_without_a_producer_id() {
        let mut table = Table::new(1);
        table.producer.identity = None;
        assert!(table.producer.needs_producer_id());
        assert!(table.all().is_empty());
        table.producer.set_producer_id(ProducerIdentity { id: 3, epoch: 9 });
        table.producer.set_producer_id(PRODUCER);
        let sent = table.all();
        assert_eq!(table.numbers(&sent), [(9, 0)]);
    }

    #[test]
    fn after_a_minute_without_batches_the_next_one_goes_alone() {
        let mut table = Table::warm(2);
        table.now += Duration::from_mins(1);
        assert_eq!(table.all().len(), 1);
        let mut table = Table::warm(2);
        table.now += Duration::from_secs(59);
        assert_eq!(table.all().len(), 2);
    }

    #[test]
    fn numbers_count_records_and_wrap() {
        let mut table = Table::new(0);
        table.producer.next_sequence = i32::MAX - 1;
        table.producer.delivered_to = i32::MAX - 1;
        for number in 0..3 {
            table.producer.push(batch(number, 2), table.now + TTL, number);
        }
        let first = table.one();
        table.append(&first, 0);
        let sent = table.all();
        assert_eq!(table.numbers(&sent), [(0, 0), (0, 2)]);
    }
}

mod answers {
    use super::*;

    #[test]
    fn outcomes_leave_in_order_with_offset_and_time() {
        let mut table = Table::warm(2);
        let sent = table.all();
        table.append(&sent[1], 8);
        assert!(table.producer.pop_outcome().is_none());
        table.producer.on_appended(sent[0].id, 7, 1_234, table.now);
        let delivered = |base_offset, log_append_time_ms| Delivery::Delivered {
            base_offset: Some(base_offset),
            log_append_time_ms,
        };
        assert_eq!(table.outcomes(), [(1, delivered(7, Some(1_234))), (2, delivered(8, None))]);
        assert!(table.producer.is_empty());
    }

    #[test]
    fn a_refused_batch_is_sent_again_before_those_behind_it_unless_it_is_too_large() {
        for (error, attempts) in [
            (ResponseError::TopicAuthorizationFailed, 3),
            (ResponseError::InvalidRecord, 3),
            (ResponseError::MessageTooLarge, 1),
        ] {
            let mut table = Table::warm(2);
            table.producer = std::mem::take(&mut table.producer).with_refusals(2);
            let sent = table.all();
            table.fail(&sent[0], error);
            table.fail(&sent[1], ResponseError::OutOfOrderSequenceNumber);
            for _ in 1..attempts {
                assert!(table.outcomes().is_empty());
                let [again] = &table.all()[..] else { panic!("it goes alone") };
                assert_eq!(again.bytes, sent[0].bytes);
                table.fail(again, error);
            }
            let refused = Delivery::Refused(BrokerError { error, message: None });
            assert_eq!(table.outcomes(), [(1, refused)]);
            let [behind] = &table.all()[..] else { panic!("the next one") };
            assert_eq!(table.numbers(std::slice::from_ref(behind)), [(0, 1)]);
        }
    }

    #[test]
    fn a_batch_that_may_be_written_is_sent_again_as_it_is() {
        for error in [
            ResponseError::NotLeaderOrFollower,
            ResponseError::UnknownTopicOrPartition,
            ResponseError::NotEnoughReplicasAfterAppend,
            ResponseError::RequestTimedOut,
            ResponseError::Unknown(999),
        ] {
            let mut table = Table::warm(1);
            let first = table.one();
            assert!(table.producer.on_error(first.id, error, None).may_be_written());
            let again = table.one();
            assert_eq!(again.bytes, first.bytes, "{error}");
            assert_ne!(again.id, first.id);
            table.now += TTL;
            table.producer.expire(table.now);
            let [(_, Delivery::Expired { written, last_error: Some(last) })] =
                &table.outcomes()[..]
            else {
                panic!("{error}");
            };
            assert_eq!((*written, last.error), (Written::Unknown, error));
        }
    }

    #[test]
    fn a_duplicate_is_delivered() {
        let mut table = Table::warm(1);
        let sent = table.one();
        table.fail(&sent, ResponseError::DuplicateSequenceNumber);
        assert_eq!(table.outcomes(), [(1, PROVEN)]);
    }

    #[test]
    fn an_answer_to_an_old_attempt_has_no_effect() {
        let mut table = Table::warm(1);
        let first = table.one();
        table.producer.on_unanswered(first.id);
        table.append(&first, 1);
        table.fail(&first, ResponseError::MessageTooLarge);
        assert_eq!(table.outcomes(), []);
        assert_eq!(table.one().bytes, first.bytes);
    }

    #[test]
    fn a_batch_that_was_never_written_expires_as_such() {
        let mut table = Table::warm(2);
        let sent = table.all();
        table.fail(&sent[0], ResponseError::NotEnoughReplicas);
        table.producer.on_unsent(sent[1].id);
        assert_eq!(table.producer.next_deadline(), Some(table.now + TTL));
        table.now += TTL;
        table.producer.expire(table.now);
        for (_, delivery) in table.outcomes() {
            assert!(matches!(delivery, Delivery::Expired { written: Written::No, .. }));
        }
        assert_eq!(table.producer.next_deadline(), None);
    }

    #[test]
    fn a_refusal_does_not_speak_for_an_earlier_attempt() {
        let mut table = Table::warm(1);
        let first = table.one();
        table.producer.on_unanswered(first.id);
        let again = table.one();
        table.fail(&again, ResponseError::TopicAuthorizationFailed);
        assert!(matches!(table.outcomes()[..], [(1, Delivery::InDoubt { .. })]));
    }
}

mod gaps {
    use super::*;

    #[test]
    fn the_number_of_a_refused_batch_goes_to_the_next_one_in_the_same_epoch() {
        let mut table = Table::warm(4);
        let sent = table.all();
        table.fail(&sent[0], ResponseError::MessageTooLarge);
        for attempt in &sent[1..] {
            assert!(table.all().is_empty());
            table.fail(attempt, ResponseError::OutOfOrderSequenceNumber);
        }
        let again = table.one();
        assert_eq!(table.numbers(std::slice::from_ref(&again)), [(0, 1)]);
        table.append(&again, 1);
        let rest = table.all();
        assert_eq!(table.numbers(&rest), [(0, 2), (0, 3)]);
    }

    #[test]
    fn a_refused_batch_costs_an_epoch_when_a_later_one_was_in_doubt() {
        let mut table = Table::warm(2);
        let sent = table.all();
        table.fail(&sent[1], ResponseError::NotLeaderOrFollower);
        table.fail(&sent[0], ResponseError::MessageTooLarge);
        let probe = table.one();
        assert_eq!(probe.bytes, sent[1].bytes);
        table.fail(&probe, ResponseError::OutOfOrderSequenceNumber);
        let again = table.all();
        assert_eq!(table.numbers(&again), [(1, 0)]);
    }

    #[test]
    fn an_expired_batch_in_doubt_costs_an_epoch_unless_a_later_one_is_appended() {
        for is_written in [true, false] {
            let mut table = Table::warm(1);
            table.producer.push(batch(2, 1), table.now + 2 * TTL, 2);
            let sent = table.all();
            table.now += TTL;
            table.producer.expire(table.now);
            assert_eq!(table.outcomes(), [(1, EXPIRED_IN_DOUBT)]);
            table.producer.push(batch(3, 1), table.now + TTL, 3);
            assert!(table.all().is_empty());
            if is_written {
                table.append(&sent[1], 8);
            } else {
                table.fail(&sent[1], ResponseError::OutOfOrderSequenceNumber);
                let probe = table.one();
                table.append(&probe, 8);
            }
            let next = table.all();
            let expected = if is_written { (0, 3) } else { (1, 1) };
            assert_eq!(table.numbers(&next), [expected]);
        }
    }

    #[test]
    fn a_broker_that_remembers_only_the_last_batch_proves_those_before_it() {
        let mut table = Table::warm(3);
        for attempt in table.all() {
            table.producer.on_unanswered(attempt.id);
        }
        for _ in 1..3 {
            let probe = table.one();
            table.fail(&probe, ResponseError::OutOfOrderSequenceNumber);
        }
        let last = table.one();
        assert_eq!(table.numbers(std::slice::from_ref(&last)), [(0, 3)]);
        table.append(&last, 70);
        let outcomes = table.outcomes();
        assert_eq!(outcomes[..2], [(1, PROVEN), (2, PROVEN)]);
        assert_eq!(outcomes.len(), 3);
        assert_eq!(table.producer.identity(), Some(PRODUCER));
    }

    #[test]
    fn lost_state_costs_an_epoch_and_batches_of_which_a_copy_may_exist() {
        let mut table = Table::warm(3);
        let sent = table.all();
        table.fail(&sent[0], ResponseError::OutOfOrderSequenceNumber);
        table.producer.on_unanswered(sent[1].id);
        table.fail(&sent[2], ResponseError::OutOfOrderSequenceNumber);
        let probe = table.one();
        assert_eq!(probe.bytes, sent[1].bytes);
        table.fail(&probe, ResponseError::OutOfOrderSequenceNumber);
        let again = table.one();
        assert_eq!(table.numbers(std::slice::from_ref(&again)), [(1, 0)]);
        table.append(&again, 9);
        assert!(matches!(table.outcomes()[..], [(1, _), (2, Delivery::InDoubt { .. })]));
        let rest = table.all();
        assert_eq!(table.numbers(&rest), [(1, 1)]);
    }

    /// Both batches are in the log, and the broker recognises only the second one, which it refuses to look at.
    #[test]
    fn a_batch_that_only_an_abandoned_one_could_prove_is_in_doubt() {
        let mut table = Table::warm(2);
        for attempt in table.all() {
            table.fail(&attempt, ResponseError::NotLeaderOrFollower);
        }
        let first = table.one();
        table.fail(&first, ResponseError::OutOfOrderSequenceNumber);
        let probe = table.one();
        table.fail(&probe, ResponseError::TopicAuthorizationFailed);
        let outcomes = table.outcomes();
        let [(1, Delivery::InDoubt { .. }), (2, Delivery::InDoubt { .. })] = outcomes[..] else {
            panic!("{outcomes:?}");
        };
    }

    #[test]
    fn a_broker_without_state_says_nothing_of_a_batch_that_may_be_written() {
        for is_in_doubt in [false, true] {
            let mut table = Table::warm(1);
            let mut sent = table.one();
            if is_in_doubt {
                table.fail(&sent, ResponseError::RequestTimedOut);
                sent = table.one();
            }
            table.fail(&sent, ResponseError::UnknownProducerId);
            let again = table.all();
            if is_in_doubt {
                assert!(matches!(table.outcomes()[..], [(1, Delivery::InDoubt { .. })]));
            } else {
                assert_eq!(table.numbers(&again), [(1, 0)]);
            }
        }
    }

    #[test]
    fn a_batch_that_was_overtaken_takes_a_new_epoch_and_proves_itself() {
        let mut table = Table::warm(2);
        let sent = table.all();
        table.fail(&sent[0], ResponseError::NotEnoughReplicas);
        table.append(&sent[1], 0);
        let again = table.one();
        table.fail(&again, ResponseError::OutOfOrderSequenceNumber);
        let anew = table.one();
        assert_eq!(table.numbers(std::slice::from_ref(&anew)), [(1, 0)]);
        table.producer.on_unanswered(anew.id);
        assert_eq!(table.outcomes(), []);
        assert_eq!(table.one().bytes, anew.bytes);
    }

    #[test]
    fn a_producer_id_without_epochs_left_or_refused_by_the_broker_is_replaced_when_all_is_answered()
    {
        let cases = [
            (i16::MAX, ResponseError::UnknownProducerId),
            (4, ResponseError::InvalidProducerEpoch),
            (4, ResponseError::InvalidProducerIdMapping),
        ];
        for (epoch, error) in cases {
            let mut table = Table::warm(2);
            table.producer.identity = Some(ProducerIdentity { epoch, ..PRODUCER });
            let sent = table.all();
            table.fail(&sent[0], error);
            assert!(!table.producer.needs_producer_id());
            table.fail(&sent[1], error);
            assert!(table.producer.needs_producer_id());
            table.producer.set_producer_id(ProducerIdentity { id: 101, epoch: 0 });
            let again = table.one();
            assert_eq!(table.numbers(std::slice::from_ref(&again)), [(0, 0)]);
        }
    }
}

const PROVEN: Delivery = Delivery::Delivered { base_offset: None, log_append_time_ms: None };

impl Table {
    fn new(batches: usize) -> Self {
        let mut table = Self { producer: PartitionProducer::new(), now: origin() };
        table.producer.set_producer_id(PRODUCER);
        for number in 0..batches {
            table.producer.push(batch(number, 1), table.now + TTL, number);
        }
        table
    }

    /// As `new`, after a batch with the number 0 was acknowledged.
    fn warm(batches: usize) -> Self {
        let mut table = Self::new(batches + 1);
        let first = table.one();
        table.append(&first, 0);
        assert_eq!(table.outcomes().len(), 1);
        table
    }

    fn one(&mut self) -> Attempt {
        self.producer.next(self.now).unwrap()
    }

    fn all(&mut self) -> Vec<Attempt> {
        std::iter::from_fn(|| self.producer.next(self.now)).collect()
    }

    /// Returns epoch and base sequence of each attempt.
    fn numbers(&self, attempts: &[Attempt]) -> Vec<(i16, i32)> {
        assert!(attempts.len() <= self.producer.on_their_way());
        attempts.iter().map(|attempt| numbers(&attempt.bytes)).collect()
    }

    fn append(&mut self, attempt: &Attempt, base_offset: i64) {
        self.producer.on_appended(attempt.id, base_offset, -1, self.now);
    }

    fn fail(&mut self, attempt: &Attempt, error: ResponseError) {
        self.producer.on_error(attempt.id, error, None);
    }

    fn outcomes(&mut self) -> Vec<(usize, Delivery)> {
        std::iter::from_fn(|| self.producer.pop_outcome())
            .map(|outcome| (outcome.token, outcome.delivery))
            .collect()
    }
}

fn numbers(batch: &Bytes) -> (i16, i32) {
    let raw = batches(batch.clone()).next().unwrap();
    (raw.header().producer_epoch, raw.header().base_sequence)
}

/// Encodes a batch whose records all have the batch's number as their value.
fn batch(number: usize, records: usize) -> EncodedBatch {
    let value = number.to_be_bytes();
    let mut encoder = BatchEncoder::new(1 << 16);
    for _ in 0..records {
        let record = NewRecord { timestamp_ms: 0, key: None, value: Some(&value), headers: &[] };
        assert_eq!(encoder.append(&record), Fit::Appended);
    }
    encoder.finish(Compression::None).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "an origin for a clock that only the test moves")]
fn origin() -> Instant {
    Instant::now()
}
