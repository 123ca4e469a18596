//! A broker for tests: it answers by a script, and keeps its requests and its log.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_client::writer::{OutgoingRecord, ProduceError};
use kafka_core::TopicPartition;
use kafka_protocol::ResponseError;
use tokio::time::{Instant, sleep, sleep_until};

use crate::senders::delivery::Transport;

/// The latency of every response.
pub(crate) const LATENCY: Duration = Duration::from_millis(5);

/// The outcome of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Written,
    /// The broker refuses the request with this error.
    Refused(ResponseError),
    NotSent,
    /// The request is lost.
    Lost,
    /// The broker writes the records, but its acknowledgement is lost.
    WrittenUnheard,
    /// No response before the deadline; the broker writes the records when the next request arrives, before or after that one.
    Late(Order),
    /// No response before the deadline; the broker does not write the records.
    Silence,
}

/// When a late request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    BeforeTheNext,
    AfterTheNext,
}

/// A received request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    pub(crate) target: TopicPartition,
    pub(crate) deadline: Instant,
    pub(crate) records: Vec<OutgoingRecord>,
}

/// The broker; clones share its state.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeBroker {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Answer>,
    /// The most records of a request; 0 is unlimited.
    records_max: usize,
    /// Partitions with a request in flight.
    in_flight: BTreeSet<TopicPartition>,
    requests: Vec<Request>,
    log: Vec<OutgoingRecord>,
    late: Vec<(Order, Vec<OutgoingRecord>)>,
}

impl FakeBroker {
    /// Returns a broker that answers the first requests by `script`, and acknowledges all others.
    pub(crate) fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        let broker = Self::default();
        broker.state.lock().unwrap().script = script.into_iter().collect();
        broker
    }

    /// Returns a broker that refuses larger requests.
    pub(crate) fn with_records_max(records_max: usize) -> Self {
        let broker = Self::default();
        broker.state.lock().unwrap().records_max = records_max;
        broker
    }

    /// Returns all received requests.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Returns the sequences of each request's records.
    pub(crate) fn request_sequences(&self) -> Vec<Vec<u64>> {
        let sequences = |request: &Request| request.records.iter().map(sequence).collect();
        self.requests().iter().map(sequences).collect()
    }

    /// Returns the sequences of the records in the log, after all late requests.
    pub(crate) fn log_sequences(&self) -> Vec<u64> {
        let mut state = self.state.lock().unwrap();
        let late = std::mem::take(&mut state.late);
        state.log.extend(late.into_iter().flat_map(|(_, records)| records));
        state.log.iter().map(sequence).collect()
    }
}

impl Transport for FakeBroker {
    async fn produce(
        &self,
        target: &TopicPartition,
        records: &[OutgoingRecord],
        deadline: Instant,
    ) -> Result<i64, ProduceError> {
        let answer = self.state.lock().unwrap().arrive(target, records, deadline);
        let target = target.clone();
        if matches!(answer, Answer::Late(_) | Answer::Silence) {
            sleep_until(deadline).await;
        } else {
            sleep(LATENCY).await;
        }
        let mut state = self.state.lock().unwrap();
        state.in_flight.remove(&target);
        match answer {
            Answer::Written => Ok(state.write(records)),
            Answer::WrittenUnheard => {
                state.write(records);
                Err(ProduceError::Unknown { target, cause: "connection lost".to_owned() })
            }
            Answer::Refused(error) => {
                Err(ProduceError::Refused { target, error, message: String::new() })
            }
            Answer::NotSent => {
                Err(ProduceError::NotSent { target, cause: "connection refused".to_owned() })
            }
            Answer::Lost => {
                Err(ProduceError::Unknown { target, cause: "connection lost".to_owned() })
            }
            Answer::Late(_) | Answer::Silence => {
                Err(ProduceError::Unknown { target, cause: "no answer in time".to_owned() })
            }
        }
    }
}

impl State {
    fn arrive(
        &mut self,
        target: &TopicPartition,
        records: &[OutgoingRecord],
        deadline: Instant,
    ) -> Answer {
        assert!(self.in_flight.insert(target.clone()), "one request in flight to {target}");
        let (at, target) = (Instant::now(), target.clone());
        self.requests.push(Request { at, target, deadline, records: records.to_vec() });
        let answer = self.script.pop_front().unwrap_or(Answer::Written);
        if self.records_max > 0 && records.len() > self.records_max {
            return Answer::Refused(ResponseError::MessageTooLarge);
        }
        self.write_late(Order::BeforeTheNext);
        if let Answer::Late(order) = answer {
            self.late.push((order, records.to_vec()));
        }
        answer
    }

    fn write(&mut self, records: &[OutgoingRecord]) -> i64 {
        let base_offset = i64::try_from(self.log.len()).unwrap();
        self.log.extend_from_slice(records);
        self.write_late(Order::AfterTheNext);
        base_offset
    }

    fn write_late(&mut self, order: Order) {
        for (_, records) in self.late.extract_if(.., |(when, _)| *when == order) {
            self.log.extend(records);
        }
    }
}

fn sequence(record: &OutgoingRecord) -> u64 {
    let mut headers = record.headers.iter();
    let (_, value) = headers.find(|(name, _)| name == "sequence").unwrap();
    String::from_utf8(value.to_vec()).unwrap().parse().unwrap()
}
