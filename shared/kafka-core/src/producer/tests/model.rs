//! A model of the broker and of the connections to it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::super::{Attempt, AttemptId};
use crate::record_batch::batches;

const REMEMBERED: usize = 5;

/// A partition of a broker, as its clients see it.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) log: Vec<Appended>,
    states: BTreeMap<i64, ProducerState>,
    /// Brokers before 2.5 answer `UNKNOWN_PRODUCER_ID` when they have no state; later ones accept any number.
    is_old: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    /// The number of the batch, in the order of the pushes.
    pub(super) batch: usize,
    pub(super) producer: (i64, i16),
    first: i32,
    last: i32,
    pub(super) is_committed: bool,
}

#[derive(Debug)]
struct ProducerState {
    epoch: i16,
    /// The last batches: their numbers and offset.
    batches: VecDeque<(i32, i32, usize)>,
}

/// What happens to a request that reaches the broker.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It is appended and replicated.
    Replicated,
    /// It is appended, and then answered with this error.
    AfterAppend(ResponseError),
    /// It is answered with this error before the append.
    BeforeAppend(ResponseError),
}

pub(super) type Answer = Result<i64, ResponseError>;

impl Broker {
    pub(super) fn new(is_old: bool) -> Self {
        Self { log: Vec::new(), states: BTreeMap::new(), is_old }
    }

    pub(super) fn handle(&mut self, request: &Bytes, verdict: Verdict) -> Answer {
        match verdict {
            Verdict::BeforeAppend(error) => Err(error),
            Verdict::AfterAppend(error) => self.append(request).and(Err(error)),
            Verdict::Replicated => {
                let offset = self.append(request)?;
                for appended in &mut self.log[..=offset] {
                    appended.is_committed = true;
                }
                Ok(i64::try_from(offset).unwrap())
            }
        }
    }

    fn append(&mut self, request: &Bytes) -> Result<usize, ResponseError> {
        let raw = batches(request.clone()).next().unwrap();
        let header = *raw.header();
        let opened = raw.open(1 << 16).unwrap();
        let value = opened.records().next().unwrap().unwrap().value.unwrap();
        let batch = usize::from_be_bytes(value.try_into().unwrap());
        let (epoch, first) = (header.producer_epoch, header.base_sequence);
        let last = later(first, header.record_count - 1);
        self.check(header.producer_id, epoch, first, last)?.map_or_else(
            || {
                let producer = (header.producer_id, epoch);
                self.log.push(Appended { batch, producer, first, last, is_committed: false });
                self.remember(self.log.len() - 1, REMEMBERED);
                Ok(self.log.len() - 1)
            },
            Ok,
        )
    }

    /// Returns the offset of a batch that is known, or whether a new one is in sequence.
    fn check(
        &self,
        id: i64,
        epoch: i16,
        first: i32,
        last: i32,
    ) -> Result<Option<usize>, ResponseError> {
        let Some(state) = self.states.get(&id) else {
            let is_refused = self.is_old && (first != 0);
            return if is_refused { Err(ResponseError::UnknownProducerId) } else { Ok(None) };
        };
        if epoch < state.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let expected = if epoch == state.epoch {
            let known = state.batches.iter().find(|known| (known.0, known.1) == (first, last));
            if let Some((_, _, offset)) = known {
                return Ok(Some(*offset));
            }
            later(state.batches.back().unwrap().1, 1)
        } else {
            0
        };
        if first == expected { Ok(None) } else { Err(ResponseError::OutOfOrderSequenceNumber) }
    }

    fn remember(&mut self, offset: usize, remembered: usize) {
        let Appended { producer: (id, epoch), first, last, .. } = self.log[offset];
        let state = self.states.entry(id).or_insert(ProducerState { epoch, batches: [].into() });
        if state.epoch != epoch {
            state.epoch = epoch;
            state.batches.clear();
        }
        state.batches.push_back((first, last, offset));
        if remembered < state.batches.len() {
            state.batches.pop_front();
        }
    }

    /// Loads the producers' state from the log, with so many batches of each.
    pub(super) fn reload(&mut self, remembered: usize) {
        self.states.clear();
        for offset in 0..self.log.len() {
            self.remember(offset, remembered);
        }
    }

    /// Another replica leads that lacks up to `count` batches which were not replicated everywhere.
    pub(super) fn truncate(&mut self, count: usize) {
        for _ in 0..count {
            self.log.pop_if(|appended| !appended.is_committed);
        }
    }

    /// Another replica leads that lacks any batches.
    pub(super) fn truncate_uncleanly(&mut self, count: usize) {
        self.log.truncate(self.log.len().saturating_sub(count));
    }

    pub(super) fn forget(&mut self) {
        self.states.clear();
    }

    pub(super) fn copies(&self, batch: usize) -> usize {
        self.log.iter().filter(|appended| appended.batch == batch).count()
    }
}

/// Returns the sequence number `records` after `sequence`, as Kafka's `DefaultRecordBatch` computes it.
fn later(sequence: i32, records: i32) -> i32 {
    if i32::MAX - records < sequence {
        records - (i32::MAX - sequence) - 1
    } else {
        sequence + records
    }
}

/// A connection: requests that the broker has yet to read, and answers that the client has yet to read.
#[derive(Debug, Default)]
pub(super) struct Connection {
    requests: VecDeque<(AttemptId, Bytes)>,
    answers: VecDeque<(AttemptId, Answer)>,
}

impl Connection {
    pub(super) fn send(&mut self, attempt: Attempt) {
        self.requests.push_back((attempt.id, attempt.bytes));
    }

    /// Lets the broker handle the next request.
    pub(super) fn serve(&mut self, broker: &mut Broker, verdict: Verdict) -> bool {
        let Some((attempt, request)) = self.requests.pop_front() else {
            return false;
        };
        self.answers.push_back((attempt, broker.handle(&request, verdict)));
        true
    }

    pub(super) fn answer(&mut self) -> Option<(AttemptId, Answer)> {
        self.answers.pop_front()
    }

    /// Takes back the last request, which the broker never gets.
    pub(super) fn unsend(&mut self) -> Option<AttemptId> {
        self.requests.pop_back().map(|(attempt, _)| attempt)
    }

    /// Returns the attempts that have no answer when the connection breaks. All but the last `lost` requests still arrive.
    pub(super) fn close(&mut self, lost: usize) -> Vec<AttemptId> {
        let answered = self.answers.drain(..).map(|(attempt, _)| attempt);
        let unanswered: Vec<_> = answered.chain(self.requests.iter().map(|r| r.0)).collect();
        self.requests.truncate(self.requests.len().saturating_sub(lost));
        unanswered
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.requests.is_empty() && self.answers.is_empty()
    }
}
