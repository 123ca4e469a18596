//! A broker for tests: it gives batches outcomes by a script, and keeps its requests and its log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_client::producer::{Appended, ProduceError, Produced};
use kafka_core::TopicPartition;
use kafka_core::record_batch::{EncodedBatch, batches};
use kafka_protocol::ResponseError;
use tokio::time::{Instant, sleep_until};

use crate::senders::delivery::{Delivery, Queued, Transport};

/// The latency of every response.
pub(crate) const LATENCY: Duration = Duration::from_millis(5);

/// The outcome of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Written,
    /// Written, but only a later answer says so.
    WrittenWithoutOffset,
    /// The broker refuses the batch with this error.
    Refused(ResponseError),
    /// No broker takes the batch before its deadline.
    NotSent,
    /// No acknowledgement before the deadline; the broker writes the batch.
    WrittenUnheard,
    /// No acknowledgement before the deadline; the broker does not write the batch.
    Silence,
}

/// A record as the broker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// A received batch.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) target: TopicPartition,
    pub(crate) records: Vec<Received>,
}

/// The broker; clones share its state.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeBroker {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Answer>,
    /// The most records of a batch; 0 is unlimited.
    records_max: usize,
    in_flight: usize,
    requests: Vec<Request>,
    log: Vec<Received>,
}

impl FakeBroker {
    /// Returns a broker that answers the first batches by `script`, and acknowledges all others.
    pub(crate) fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        let broker = Self::default();
        broker.state.lock().unwrap().script = script.into_iter().collect();
        broker
    }

    /// Returns a broker that refuses larger batches.
    pub(crate) fn with_records_max(records_max: usize) -> Self {
        let broker = Self::default();
        broker.state.lock().unwrap().records_max = records_max;
        broker
    }

    /// Returns all received batches.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Returns the timestamps of each batch's records.
    pub(crate) fn request_times(&self) -> Vec<Vec<i64>> {
        self.requests().iter().map(|request| times(&request.records)).collect()
    }

    /// Returns the timestamps of the records in the log.
    pub(crate) fn log_times(&self) -> Vec<i64> {
        times(&self.state.lock().unwrap().log)
    }
}

impl Transport for FakeBroker {
    fn in_flight_max(&self) -> usize {
        5
    }

    fn enqueue(
        &self,
        target: TopicPartition,
        batch: EncodedBatch,
        deadline: Instant,
    ) -> Queued<'_> {
        let records = received(batch);
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.in_flight += 1;
            assert!(state.in_flight <= 5, "{} batches in flight", state.in_flight);
            state.arrive(&target, &records)
        };
        let (broker, answered) = (self.clone(), Instant::now() + LATENCY);
        let delivery = Delivery::new(async move {
            let ends = match answer.1 {
                Answer::Silence | Answer::WrittenUnheard | Answer::NotSent => deadline,
                Answer::Written | Answer::WrittenWithoutOffset | Answer::Refused(_) => answered,
            };
            sleep_until(ends).await;
            broker.state.lock().unwrap().in_flight -= 1;
            outcome(target, answer)
        });
        Box::pin(async { delivery })
    }
}

fn outcome(target: TopicPartition, (base_offset, answer): (i64, Answer)) -> Produced {
    match answer {
        Answer::Written => Ok(Appended { base_offset: Some(base_offset) }),
        Answer::WrittenWithoutOffset => Ok(Appended { base_offset: None }),
        Answer::Refused(error) => {
            Err(ProduceError::Refused { target, error, message: String::new() })
        }
        Answer::NotSent => {
            Err(ProduceError::NotSent { target, cause: "connection refused".to_owned() })
        }
        Answer::WrittenUnheard | Answer::Silence => {
            Err(ProduceError::Unknown { target, cause: "no answer in time".to_owned() })
        }
    }
}

impl State {
    fn arrive(&mut self, target: &TopicPartition, records: &[Received]) -> (i64, Answer) {
        self.requests.push(Request { target: target.clone(), records: records.to_vec() });
        let mut answer = self.script.pop_front().unwrap_or(Answer::Written);
        if self.records_max > 0 && records.len() > self.records_max {
            answer = Answer::Refused(ResponseError::MessageTooLarge);
        }
        let base_offset = i64::try_from(self.log.len()).unwrap();
        match answer {
            Answer::Written | Answer::WrittenWithoutOffset | Answer::WrittenUnheard => {
                self.log.extend_from_slice(records);
            }
            Answer::Refused(_) | Answer::NotSent | Answer::Silence => {}
        }
        (base_offset, answer)
    }
}

/// Reads the records of a batch.
pub(crate) fn received(mut batch: EncodedBatch) -> Vec<Received> {
    let bytes_max = batch.uncompressed_bytes();
    let mut records = Vec::new();
    for raw in batches(batch.stamped(1, 0, 0)) {
        for record in raw.open(bytes_max).unwrap().records() {
            let record = record.unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let headers = record.headers.iter();
            records.push(Received {
                timestamp_ms: record.timestamp_ms,
                key: record.key.unwrap().to_vec(),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers.map(|h| (text(h.name), h.value.unwrap().to_vec())).collect(),
            });
        }
    }
    records
}

fn times(records: &[Received]) -> Vec<i64> {
    records.iter().map(|record| record.timestamp_ms).collect()
}
