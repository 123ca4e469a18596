//! What `/metrics` shows of a processor.
//!
//! Nothing is counted record by record for it. What only happens now and then (retries, letters, requests, rebalances) is
//! counted here when it does. Everything else is read when it is asked for ([`scrape`](super::scrape)): the numbers of the
//! [`Reporter`](crate::telemetry::report::Reporter), the limiter, the membership, and how each partition stands, which its worker notes
//! once a batch ([`PartitionStatus`]).
//!
//! No label is taken from a record: topics, partitions, and words of closed sets. The series of a partition go with it
//! when it is revoked or lost; its counter goes on where it was if it comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use dead_letter::ErrorType;
use kafka_client::error::ClientError;
use kafka_client::membership::MembershipStatus;
use kafka_client::writer::ProduceError;
use kafka_core::TopicPartition;
use kafka_protocol::ResponseError;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use service_runtime::{Durations, Messaging, MessagingLabels, Metrics};
use tokio::sync::watch;

use service_runtime::now_ms;

use super::labels::{self, RetryCause};
use super::partition_status::{PartitionStatus, SharedStatus};

/// One label whose values are words of a closed set.
type Word = [(&'static str, &'static str); 1];

/// What is counted when it happens, and how each partition stands.
#[derive(Debug)]
pub(crate) struct Instruments {
    pub(super) group_id: String,
    messaging: Messaging,
    process: Family<MessagingLabels, Durations>,
    retries: Family<Word, Counter>,
    dead_letters: Family<Word, Counter>,
    publish_failures: Counter,
    publish_durations: Durations,
    rebalances: Counter,
    commit_failures: Family<Word, Counter>,
    fenced_commits: Counter,
    checkpoint_resets: Counter,
    skipped_offsets: Counter,
    assigned: Gauge,
    /// 1 while the control topic keeps this process stopped.
    pub(super) control_paused: Gauge,
    partitions: Mutex<Partitions>,
    dlq_partitions: Mutex<DlqPartitions>,
    pub(super) membership: OnceLock<watch::Receiver<MembershipStatus>>,
}

#[derive(Debug, Default)]
struct Partitions {
    own: BTreeMap<TopicPartition, SharedStatus>,
    /// What was delivered of partitions that are no longer this process's: their counters go on if they come back.
    delivered: BTreeMap<TopicPartition, u64>,
}

/// The partitions of the dead-letter topic.
#[derive(Debug, Default)]
pub(super) struct DlqPartitions {
    count: i32,
    /// Those that cannot be written at the moment.
    closed: BTreeSet<i32>,
}

impl Instruments {
    /// Returns the instruments of a member of the group that has done nothing yet, among the process's metrics.
    pub(crate) fn new(metrics: &Metrics, group_id: &str) -> Arc<Self> {
        let instruments = Self {
            group_id: group_id.to_owned(),
            messaging: Messaging::new(metrics),
            process: Family::default(),
            retries: Family::default(),
            dead_letters: Family::default(),
            publish_failures: Counter::default(),
            publish_durations: Durations::default(),
            rebalances: Counter::default(),
            commit_failures: Family::default(),
            fenced_commits: Counter::default(),
            checkpoint_resets: Counter::default(),
            skipped_offsets: Counter::default(),
            assigned: Gauge::default(),
            control_paused: metrics.control_paused().clone(),
            partitions: Mutex::default(),
            dlq_partitions: Mutex::default(),
            membership: OnceLock::new(),
        };
        // A counter that is there before it counts shows its first increase.
        for error_type in ErrorType::ALL {
            drop(instruments.dead_letters.get_or_create(&word(error_type.as_str())));
        }
        for cause in RetryCause::ALL {
            drop(instruments.retries.get_or_create(&word(cause.as_str())));
        }
        for failure in labels::commit_failures() {
            drop(instruments.commit_failures.get_or_create(&word(failure)));
        }
        metrics.register(|registry| instruments.register(registry));
        Arc::new(instruments)
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "messaging_process_duration_seconds",
            "How long attempts at orders took; one that ends at once counts with the mean of those done at once in its \
             batch, decoding included, or with 0 if it failed",
            self.process.clone(),
        );
        for (name, help, family) in [
            (
                "orders_retries",
                "Attempts that failed for a time, each to be made again",
                &self.retries,
            ),
            ("orders_dlq_records", "Records that became dead letters", &self.dead_letters),
            (
                "kafka_consumer_commit_failures",
                "Commits of offsets that the coordinator did not take, in whole or in part",
                &self.commit_failures,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        for (name, help, counter) in [
            (
                "orders_dlq_publish_failures",
                "Requests to write dead letters that failed; they are made again",
                &self.publish_failures,
            ),
            (
                "kafka_consumer_rebalances",
                "Generations of the group that were joined",
                &self.rebalances,
            ),
            (
                "kafka_consumer_fenced_commits",
                "Commits that were refused because the group has gone on without this member",
                &self.fenced_commits,
            ),
            (
                "orders_checkpoint_resets",
                "Partitions whose committed numbers could not be gone on with",
                &self.checkpoint_resets,
            ),
            (
                "orders_skipped_offsets",
                "Offsets that were gone from the log before they were processed",
                &self.skipped_offsets,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "orders_dlq_publish_duration_seconds",
            "How long it took until dead letters were acknowledged, batch by batch",
            self.publish_durations.clone(),
        );
        registry.register(
            "kafka_consumer_assigned_partitions",
            "Partitions that are this member's",
            self.assigned.clone(),
        );
    }

    /// Shows how the member stands with its group.
    pub(crate) fn watch_membership(&self, status: watch::Receiver<MembershipStatus>) {
        // There is one membership in a process.
        self.membership.get_or_init(|| status);
    }

    /// Takes note that another generation was joined.
    pub(crate) fn joined(&self) {
        self.rebalances.inc();
    }

    /// Takes note of how many partitions are assigned.
    pub(crate) fn assigned(&self, partitions: usize) {
        self.assigned.set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    /// Shows a partition from here on.
    pub(crate) fn take_over(
        &self,
        tp: &TopicPartition,
        mut status: PartitionStatus,
    ) -> SharedStatus {
        let mut partitions = self.partitions();
        status.delivered = partitions.delivered.remove(tp).unwrap_or_default();
        let status = SharedStatus::new(status);
        partitions.own.insert(tp.clone(), status.clone());
        status
    }

    /// Shows nothing more of a partition.
    pub(crate) fn give_up(&self, tp: &TopicPartition) {
        let mut partitions = self.partitions();
        if let Some(status) = partitions.own.remove(tp) {
            let delivered = status.lock().delivered;
            partitions.delivered.insert(tp.clone(), delivered);
        }
    }

    /// Takes note of an offset that was committed.
    pub(crate) fn committed(&self, tp: &TopicPartition, offset: i64) {
        if let Some(status) = self.partitions().own.get(tp) {
            status.lock().committed = Some(offset);
        }
    }

    /// Takes note of where logs end.
    pub(crate) fn log_ends(&self, log_ends: BTreeMap<TopicPartition, i64>) {
        let (partitions, now_ms) = (self.partitions(), now_ms());
        for (tp, log_end) in log_ends {
            if let Some(status) = partitions.own.get(&tp) {
                status.lock().ends_at(log_end, now_ms);
            }
        }
    }

    /// Returns how each partition stands.
    pub(crate) fn statuses(&self) -> Vec<(TopicPartition, PartitionStatus)> {
        let partitions = self.partitions();
        partitions.own.iter().map(|(tp, status)| (tp.clone(), status.lock().clone())).collect()
    }

    /// Takes note of a failure for a time, after which the order is tried again.
    pub(crate) fn retry(&self, cause: RetryCause) {
        self.retries.get_or_create(&word(cause.as_str())).inc();
    }

    /// Takes note of a record that is complete as a dead letter.
    pub(crate) fn dead_letter(&self, error_type: ErrorType) {
        self.dead_letters.get_or_create(&word(error_type.as_str())).inc();
    }

    /// Takes note of numbers that could not be gone on with.
    pub(crate) fn checkpoint_reset(&self) {
        self.checkpoint_resets.inc();
    }

    /// Takes note of offsets that were gone before they were processed.
    pub(crate) fn skipped(&self, offsets: u64) {
        self.skipped_offsets.inc_by(offsets);
    }

    /// Returns the durations of attempts at orders of a topic.
    pub(crate) fn attempts(&self, topic: &str, error_type: Option<&'static str>) -> Durations {
        let labels = MessagingLabels::of("process").destination(topic).group(&self.group_id);
        self.process.get_or_create_owned(&labels.error(error_type))
    }

    /// Takes note of how many partitions the dead-letter topic has.
    pub(crate) fn dlq_partitions(&self, count: i32) {
        self.boxes().count = count;
    }

    /// Takes note of one request with dead letters.
    pub(crate) fn wrote(
        &self,
        target: &TopicPartition,
        letters: usize,
        took: Duration,
        error: Option<&ProduceError>,
    ) {
        let labels = MessagingLabels::of("send").destination(&target.topic);
        let labels = labels.error(error.map(ProduceError::kind));
        self.messaging.operations.get_or_create(&labels).observe(took);
        let letters = u64::try_from(letters).unwrap_or(u64::MAX);
        let labels = labels.partition(target.partition);
        self.messaging.sent.get_or_create(&labels).inc_by(letters);
        let mut boxes = self.boxes();
        if error.is_some_and(|error| !error.is_too_large()) {
            self.publish_failures.inc();
            boxes.closed.insert(target.partition);
        } else {
            boxes.closed.remove(&target.partition);
        }
    }

    /// Takes note of a batch of dead letters that was acknowledged at last.
    pub(crate) fn published(&self, took: Duration) {
        self.publish_durations.observe(took);
    }

    /// Takes note of a fetch.
    pub(crate) fn polled(&self, took: Duration, error: Option<&ClientError>) {
        let labels = MessagingLabels::of("poll").group(&self.group_id);
        let labels = labels.error(error.map(labels::of_client_error));
        self.messaging.operations.get_or_create(&labels).observe(took);
    }

    /// Takes note of a commit and of all that was wrong with it: `unanswered`, or the coordinator's errors.
    pub(crate) fn commit(&self, took: Duration, unanswered: bool, errors: &[ResponseError]) {
        let errors: BTreeSet<_> =
            errors.iter().map(|error| labels::of_commit_error(*error)).collect();
        let unanswered = unanswered.then_some(labels::UNREACHABLE);
        let failures: BTreeSet<_> = errors.into_iter().chain(unanswered).collect();
        for failure in &failures {
            self.commit_failures.get_or_create(&word(failure)).inc();
        }
        if failures.iter().any(|failure| labels::FENCED.contains(failure)) {
            self.fenced_commits.inc();
        }
        let labels = MessagingLabels::of("commit").group(&self.group_id);
        let labels = labels.error(failures.first().copied());
        self.messaging.operations.get_or_create(&labels).observe(took);
    }

    fn partitions(&self) -> MutexGuard<'_, Partitions> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn boxes(&self) -> MutexGuard<'_, DlqPartitions> {
        self.dlq_partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DlqPartitions {
    /// Returns whether the letters about a partition's records cannot be written.
    pub(super) fn is_closed_for(&self, source_partition: i32) -> bool {
        self.closed.contains(&(source_partition.checked_rem(self.count).unwrap_or(0)))
    }
}

fn word(word: &'static str) -> Word {
    [("error_type", word)]
}
