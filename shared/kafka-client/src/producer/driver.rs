//! The producer's loop: it gathers requests, sends them to leaders, and applies the answers.

use std::collections::{BTreeMap, BTreeSet};

use kafka_core::producer::{AttemptId, ProducerIdentity};
use kafka_core::{NodeId, TopicPartition};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::broker::{self, Answer, IN_FLIGHT_MAX, Request, RequestId};
use super::identity::new_producer_id;
use super::partition::Partition;
use super::request::{read, request};
use super::{Attempted, BROKER_ERROR, Failures, NO_ANSWER, NOT_SENT, NewBatch, OnAttempt};
use crate::cluster::Cluster;
use crate::error::{ClientError, chain};

/// Bytes of batches after which a request gets no further one.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Answers that wait for the loop.
const ANSWERS_MAX: usize = 64;
/// Failures to get a producer id that wait for the loop; further ones are dropped.
const FAILURES_MAX: usize = 1;

/// A broker that batches were sent to.
struct Broker {
    requests: mpsc::Sender<Request>,
    in_flight: usize,
}

/// A request whose answer is to come.
struct Sent {
    node: NodeId,
    at: Instant,
    attempts: BTreeMap<TopicPartition, AttemptId>,
}

pub(super) struct Driver {
    cluster: Cluster,
    refusals_max: u32,
    on_attempt: Option<OnAttempt>,
    failures: watch::Sender<Failures>,
    partitions: BTreeMap<TopicPartition, Partition>,
    brokers: BTreeMap<NodeId, Broker>,
    sent: BTreeMap<RequestId, Sent>,
    next_id: RequestId,
    identity: Option<ProducerIdentity>,
    /// The request for a producer id.
    identifying: JoinSet<ProducerIdentity>,
    /// The refresh of metadata.
    refreshing: JoinSet<Result<BTreeSet<String>, ClientError>>,
    /// Owns the tasks of the brokers.
    tasks: JoinSet<()>,
}

impl Driver {
    pub(super) fn new(
        cluster: Cluster,
        refusals_max: u32,
        on_attempt: Option<OnAttempt>,
        failures: watch::Sender<Failures>,
    ) -> Self {
        Self {
            cluster,
            refusals_max,
            on_attempt,
            failures,
            partitions: BTreeMap::new(),
            brokers: BTreeMap::new(),
            sent: BTreeMap::new(),
            next_id: 0,
            identity: None,
            identifying: JoinSet::new(),
            refreshing: JoinSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Runs until the last handle of the producer is dropped.
    pub(super) async fn run(mut self, mut batches: mpsc::Receiver<NewBatch>) {
        let (answers_tx, mut answers) = mpsc::channel(ANSWERS_MAX);
        let (no_identity_tx, mut no_identity) = mpsc::channel(FAILURES_MAX);
        let mut known = self.cluster.watch();
        loop {
            let due = self.advance(&answers_tx, &no_identity_tx);
            tokio::select! {
                new = batches.recv() => match new {
                    Some(new) => self.partition(&new.target.clone()).push(new),
                    None => return,
                },
                Some((id, answer)) = answers.recv() => self.on_answer(id, answer),
                Some(Ok(identity)) = self.identifying.join_next() => self.identity = Some(identity),
                Some(failure) = no_identity.recv() => self.note_failure(|_partition| true, &failure),
                Some(Ok(refreshed)) = self.refreshing.join_next() => self.on_refreshed(refreshed),
                // The sender lives in the cluster's handle.
                _changed = known.changed() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn partition(&mut self, tp: &TopicPartition) -> &mut Partition {
        let refusals_max = self.refusals_max;
        self.partitions.entry(tp.clone()).or_insert_with(|| Partition::new(refusals_max))
    }

    /// Reports outcomes and sends what can be sent; returns when to do so again without an event.
    fn advance(
        &mut self,
        answers: &mpsc::Sender<(RequestId, Answer)>,
        no_identity: &mpsc::Sender<String>,
    ) -> Option<Instant> {
        let now = Instant::now();
        let known = self.cluster.known();
        let mut by_leader: BTreeMap<NodeId, Vec<TopicPartition>> = BTreeMap::new();
        let (mut needs_id, mut leaderless) = (false, BTreeSet::new());
        let (mut due, mut failures) = (None, Failures::new());
        for (tp, partition) in &mut self.partitions {
            partition.settle(tp, now);
            if !partition.has_work() {
                continue;
            }
            if let Some(failure) = partition.last_failure() {
                failures.insert(tp.clone(), failure.to_owned());
            }
            needs_id |= partition.needs_another_id(self.identity);
            if let Some(leader) = partition.leader(tp, &known, now) {
                by_leader.entry(leader).or_default().push(tp.clone());
            }
            if partition.needs_leader {
                leaderless.insert(tp.topic.to_string());
            }
            due = due.into_iter().chain(partition.due(now)).min();
        }
        for (leader, partitions) in by_leader {
            self.send(leader, &partitions, answers, now);
        }
        self.failures.send_if_modified(|published| {
            let has_changed = *published != failures;
            *published = failures;
            has_changed
        });
        if needs_id && self.identifying.is_empty() {
            let failures = no_identity.clone();
            let on_failure = move |failure: String| {
                // A full channel has the failure before this one.
                drop(failures.try_send(failure));
            };
            self.identifying.spawn(new_producer_id(self.cluster.clone(), on_failure));
        }
        if !leaderless.is_empty() && self.refreshing.is_empty() {
            let cluster = self.cluster.clone();
            self.refreshing.spawn(async move {
                let names: Vec<&str> = leaderless.iter().map(String::as_str).collect();
                cluster.refresh(&names).await.map(|()| leaderless)
            });
        }
        due
    }

    /// Sends requests with the next batch of each of these partitions, while the broker may get one.
    fn send(
        &mut self,
        node: NodeId,
        partitions: &[TopicPartition],
        answers: &mpsc::Sender<(RequestId, Answer)>,
        now: Instant,
    ) {
        let broker = self.brokers.entry(node).or_insert_with(|| {
            let (requests, queue) = mpsc::channel(IN_FLIGHT_MAX);
            self.tasks.spawn(broker::run(self.cluster.clone(), node, queue, answers.clone()));
            Broker { requests, in_flight: 0 }
        });
        while broker.in_flight < IN_FLIGHT_MAX {
            let (mut bytes, mut deadline) = (0, now + self.cluster.config().request_timeout);
            let mut attempts = BTreeMap::new();
            let mut batches = BTreeMap::new();
            for tp in partitions {
                if bytes >= REQUEST_BYTES_MAX {
                    break;
                }
                let Some(partition) = self.partitions.get_mut(tp) else { continue };
                if let Some(attempt) = partition.next(now) {
                    bytes += attempt.bytes.len();
                    deadline = deadline.min(Instant::from_std(attempt.deadline));
                    attempts.insert(tp.clone(), attempt.id);
                    batches.insert(tp, attempt.bytes);
                }
            }
            if attempts.is_empty() {
                return;
            }
            // A request ends with the first of its batches. The connection is closed then, so no copy is sent any more.
            let timeout = deadline.saturating_duration_since(now);
            let message = request(batches.into_iter(), timeout);
            let id = self.next_id;
            self.next_id += 1;
            broker.in_flight += 1;
            self.sent.insert(id, Sent { node, at: now, attempts });
            // The channel has room for as many requests as may be in flight, unless its task has panicked.
            if broker.requests.try_send(Request { id, message, timeout }).is_err() {
                self.on_answer(id, Answer::Unsent("the task of the broker has ended".to_owned()));
                self.brokers.remove(&node);
                return;
            }
        }
    }

    fn on_answer(&mut self, id: RequestId, answer: Answer) {
        let Some(Sent { node, at, mut attempts }) = self.sent.remove(&id) else { return };
        if let Some(broker) = self.brokers.get_mut(&node) {
            broker.in_flight -= 1;
        }
        let now = Instant::now();
        let (is_sent, failure) = match answer {
            Answer::Response(response) => {
                for (tp, response) in read(&self.cluster, &response) {
                    let Some(attempt) = attempts.remove(&tp) else { continue };
                    let Some(partition) = self.partitions.get_mut(&tp) else { continue };
                    let failure = partition.on_response(attempt, response, now);
                    let error_type = failure.is_some().then_some(BROKER_ERROR);
                    self.observe(&tp, at, error_type);
                }
                (true, "the answer leaves the partition out".to_owned())
            }
            Answer::Unsent(failure) => (false, failure),
            Answer::Unanswered(failure) => (true, failure),
        };
        for (tp, attempt) in attempts {
            let Some(partition) = self.partitions.get_mut(&tp) else { continue };
            partition.on_failure(attempt, is_sent, &failure, now);
            self.observe(&tp, at, Some(if is_sent { NO_ANSWER } else { NOT_SENT }));
        }
    }

    fn on_refreshed(&mut self, refreshed: Result<BTreeSet<String>, ClientError>) {
        let refreshed = match refreshed {
            Ok(refreshed) => refreshed,
            Err(error) => {
                let failure = chain(&error);
                self.note_failure(|partition| partition.needs_leader, &failure);
                return;
            }
        };
        let known = self.cluster.known();
        for (tp, partition) in &mut self.partitions {
            if refreshed.contains(tp.topic.as_ref()) {
                partition.needs_leader = known.leader(tp).is_none();
                if partition.needs_leader && partition.has_work() {
                    let failure = match known.topic(&tp.topic) {
                        Some(_) => "the partition has no leader",
                        None => "the topic does not exist",
                    };
                    partition.note_failure(failure);
                }
            }
        }
    }

    /// Notes a failure of the cluster for the partitions that it concerns.
    fn note_failure(&mut self, is_concerned: impl Fn(&Partition) -> bool, failure: &str) {
        for partition in self.partitions.values_mut() {
            if partition.has_work() && is_concerned(partition) {
                partition.note_failure(failure);
            }
        }
    }

    fn observe(&self, tp: &TopicPartition, sent_at: Instant, error_type: Option<&'static str>) {
        if let Some(on_attempt) = &self.on_attempt {
            on_attempt.observe(tp, Attempted { duration: sent_at.elapsed(), error_type });
        }
    }
}
