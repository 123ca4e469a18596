//! The sequence numbers of the idempotent producers of a partition (KIP-98).
//!
//! A producer repeats a batch unchanged after a lost response. The broker answers a repeated batch with its first offset.
//! It keeps the last five batches, as many as a producer may have in flight.

use std::collections::{BTreeMap, VecDeque};

use kafka_core::record_batch::BatchHeader;
use kafka_protocol::error::ResponseError;

use crate::refusal::Refusal;

/// How many batches of a producer the broker keeps to recognise repeats.
const BATCHES_REMEMBERED: usize = 5;
/// How many producers a partition keeps; the producer with the oldest batch goes first.
const PRODUCERS_MAX: usize = 10_000;

/// The idempotent producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    entries: BTreeMap<i64, Producer>,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Written>,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
}

impl Producers {
    /// Returns the offset of a repeated batch, `None` for the next batch of its producer.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` for an old epoch, `OUT_OF_ORDER_SEQUENCE_NUMBER` for a gap.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Option<i64>, Refusal> {
        let Some(producer) = self.entries.get(&header.producer_id) else {
            return Ok(None);
        };
        if header.producer_epoch < producer.epoch {
            return Err(Refusal::new(
                ResponseError::InvalidProducerEpoch,
                format!(
                    "producer {} sent epoch {}, its last was {}",
                    header.producer_id, header.producer_epoch, producer.epoch
                ),
            ));
        }
        if producer.epoch < header.producer_epoch {
            return if header.base_sequence == 0 {
                Ok(None)
            } else {
                Err(out_of_order(header, -1))
            };
        }
        if let Some(repeat) = producer.batches.iter().find(|written| written.is_repeated_by(header))
        {
            return Ok(Some(repeat.base_offset));
        }
        let last = producer.batches.back().map_or(-1, |written| written.last_sequence);
        let expected = if last == i32::MAX { 0 } else { last + 1 };
        if header.base_sequence == expected { Ok(None) } else { Err(out_of_order(header, last)) }
    }

    /// Keeps a batch that [`Producers::check`] accepted, with its offset.
    pub(crate) fn record(&mut self, header: &BatchHeader, base_offset: i64) {
        let producer = self
            .entries
            .entry(header.producer_id)
            .or_insert_with(|| Producer { epoch: header.producer_epoch, batches: VecDeque::new() });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Written {
            first_sequence: header.base_sequence,
            last_sequence: last_sequence(header),
            base_offset,
        });
        if PRODUCERS_MAX < self.entries.len() {
            self.forget_most_silent();
        }
    }

    fn forget_most_silent(&mut self) {
        let most_silent = self
            .entries
            .iter()
            .min_by_key(|(_, producer)| {
                producer.batches.back().map_or(-1, |written| written.base_offset)
            })
            .map(|(id, _)| *id);
        if let Some(id) = most_silent {
            self.entries.remove(&id);
        }
    }
}

impl Written {
    fn is_repeated_by(&self, header: &BatchHeader) -> bool {
        (self.first_sequence == header.base_sequence)
            && (self.last_sequence == last_sequence(header))
    }
}

fn out_of_order(header: &BatchHeader, last: i32) -> Refusal {
    Refusal::new(
        ResponseError::OutOfOrderSequenceNumber,
        format!(
            "producer {} sent sequence number {} after {last}",
            header.producer_id, header.base_sequence
        ),
    )
}

/// Returns the sequence number of a batch's last record; sequence numbers wrap to 0 after `i32::MAX`.
fn last_sequence(header: &BatchHeader) -> i32 {
    let after_first = header.record_count - 1;
    let to_wrap = i32::MAX - header.base_sequence;
    if after_first <= to_wrap {
        header.base_sequence + after_first
    } else {
        after_first - to_wrap - 1
    }
}
