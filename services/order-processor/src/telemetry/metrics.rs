//! What a processor counts for `/metrics`.
//!
//! No record costs anything for the metrics. Rare events (retries, dead letters, requests, rebalances) are counted here when
//! they happen. A [`scrape`](super::scrape) reads everything else: the numbers of the
//! [`Reporter`](crate::telemetry::report::Reporter), the limiter, the membership, and the
//! [`PartitionStatus`] that each worker updates once a batch.
//!
//! Labels are topics, partitions and words of closed sets, never texts from records. The series of a partition end when it is
//! revoked or lost; its counter continues if it returns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use dead_letter::ErrorType;
use kafka_client::error::ClientError;
use kafka_client::membership::MembershipStatus;
use kafka_client::producer::ProduceError;
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

/// One label with a closed set of values.
type Word = [(&'static str, &'static str); 1];

/// The counters of this process, and the status of each partition.
#[derive(Debug)]
pub(crate) struct Instruments {
    pub(super) group_id: String,
    messaging: Messaging,
    process: Family<MessagingLabels, Durations>,
    retries: Family<Word, Counter>,
    dlq: DlqInstruments,
    /// Generations that the member joined.
    pub(crate) rebalances: Counter,
    commit_failures: Family<Word, Counter>,
    fenced_commits: Counter,
    /// Checkpoints that could not be restored.
    pub(crate) checkpoint_resets: Counter,
    /// Offsets that the log start passed before they were processed.
    pub(crate) skipped_offsets: Counter,
    pub(crate) truncated_offsets: Counter,
    assigned: Gauge,
    /// 1 while the control topic pauses this process.
    pub(super) control_paused: Gauge,
    partitions: Mutex<Partitions>,
    pub(super) membership: OnceLock<watch::Receiver<MembershipStatus>>,
}

/// What is counted about dead letters.
#[derive(Debug, Default)]
struct DlqInstruments {
    letters: Family<Word, Counter>,
    publish_failures: Counter,
    publish_durations: Durations,
    partitions: Mutex<DlqPartitions>,
}

#[derive(Debug, Default)]
struct Partitions {
    own: BTreeMap<TopicPartition, SharedStatus>,
    /// Records that were delivered from partitions that this process gave up: their counters continue if they return.
    delivered: BTreeMap<TopicPartition, u64>,
}

/// The partitions of the dead-letter topic.
#[derive(Debug, Default)]
pub(super) struct DlqPartitions {
    count: i32,
    /// Those that cannot be written.
    closed: BTreeSet<i32>,
}

impl Instruments {
    /// Registers the metrics of a member of the group.
    pub(crate) fn new(metrics: &Metrics, group_id: &str) -> Arc<Self> {
        let instruments = Self {
            group_id: group_id.to_owned(),
            messaging: Messaging::new(metrics),
            process: Family::default(),
            retries: Family::default(),
            dlq: DlqInstruments::default(),
            rebalances: Counter::default(),
            commit_failures: Family::default(),
            fenced_commits: Counter::default(),
            checkpoint_resets: Counter::default(),
            skipped_offsets: Counter::default(),
            truncated_offsets: Counter::default(),
            assigned: Gauge::default(),
            control_paused: metrics.control_paused().clone(),
            partitions: Mutex::default(),
            membership: OnceLock::new(),
        };
        // A series that exists before it counts shows its first increase.
        for error_type in ErrorType::ALL {
            drop(instruments.dlq.letters.get_or_create(&word(error_type.as_str())));
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
            "Duration of attempts at orders; an attempt that ends at once counts with the mean of those in its batch, \
             decoding included, or with 0 if it failed",
            self.process.clone(),
        );
        for (name, help, family) in [
            (
                "orders_retries",
                "Attempts that failed transiently and are made again",
                &self.retries,
            ),
            ("orders_dlq_records", "Records that became dead letters", &self.dlq.letters),
            (
                "kafka_consumer_commit_failures",
                "Offset commits that the coordinator refused or did not answer, in whole or in part",
                &self.commit_failures,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        for (name, help, counter) in [
            (
                "orders_dlq_publish_failures",
                "Failed requests to write dead letters; each is made again",
                &self.dlq.publish_failures,
            ),
            (
                "kafka_consumer_rebalances",
                "Generations of the group that this member joined",
                &self.rebalances,
            ),
            (
                "kafka_consumer_fenced_commits",
                "Commits that were refused because this member is fenced",
                &self.fenced_commits,
            ),
            (
                "orders_checkpoint_resets",
                "Partitions whose checkpoint could not be restored",
                &self.checkpoint_resets,
            ),
            (
                "orders_skipped_offsets",
                "Offsets that the log start passed before they were processed",
                &self.skipped_offsets,
            ),
            (
                "orders_truncated_offsets",
                "Processed offsets that the log has lost",
                &self.truncated_offsets,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "orders_dlq_publish_duration_seconds",
            "Time until a batch of dead letters was acknowledged",
            self.dlq.publish_durations.clone(),
        );
        registry.register(
            "kafka_consumer_assigned_partitions",
            "Partitions assigned to this member",
            self.assigned.clone(),
        );
    }

    /// Shows the member's state in its group.
    pub(crate) fn watch_membership(&self, status: watch::Receiver<MembershipStatus>) {
        // There is one membership in a process.
        self.membership.get_or_init(|| status);
    }

    /// Sets the number of assigned partitions.
    pub(crate) fn assigned(&self, partitions: usize) {
        self.assigned.set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    /// Adds a partition to the metrics.
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

    /// Removes a partition from the metrics.
    pub(crate) fn give_up(&self, tp: &TopicPartition) {
        let mut partitions = self.partitions();
        if let Some(status) = partitions.own.remove(tp) {
            let delivered = status.lock().delivered;
            partitions.delivered.insert(tp.clone(), delivered);
        }
    }

    /// Sets the committed offset of a partition.
    pub(crate) fn committed(&self, tp: &TopicPartition, offset: i64) {
        if let Some(status) = self.partitions().own.get(tp) {
            status.lock().committed = Some(offset);
        }
    }

    /// Sets the ends of logs.
    pub(crate) fn log_ends(&self, log_ends: BTreeMap<TopicPartition, i64>) {
        let (partitions, now_ms) = (self.partitions(), now_ms());
        for (tp, log_end) in log_ends {
            if let Some(status) = partitions.own.get(&tp) {
                status.lock().ends_at(log_end, now_ms);
            }
        }
    }

    /// Returns the status of each partition.
    pub(crate) fn statuses(&self) -> Vec<(TopicPartition, PartitionStatus)> {
        let partitions = self.partitions();
        partitions.own.iter().map(|(tp, status)| (tp.clone(), status.lock().clone())).collect()
    }

    /// Counts a transient failure after which the order is tried again.
    pub(crate) fn retry(&self, cause: RetryCause) {
        self.retries.get_or_create(&word(cause.as_str())).inc();
    }

    /// Counts a record that is complete as a dead letter.
    pub(crate) fn dead_letter(&self, error_type: ErrorType) {
        self.dlq.letters.get_or_create(&word(error_type.as_str())).inc();
    }

    /// Returns the durations of attempts at orders of a topic.
    pub(crate) fn attempts(&self, topic: &str, error_type: Option<&'static str>) -> Durations {
        let labels = MessagingLabels::of("process").destination(topic).group(&self.group_id);
        self.process.get_or_create_owned(&labels.error(error_type))
    }

    /// Sets the number of partitions of the dead-letter topic.
    pub(crate) fn dlq_partitions(&self, count: i32) {
        self.boxes().count = count;
    }

    /// Counts a request with dead letters.
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
            self.dlq.publish_failures.inc();
            boxes.closed.insert(target.partition);
        } else {
            boxes.closed.remove(&target.partition);
        }
    }

    /// Times a batch of dead letters until its acknowledgement.
    pub(crate) fn published(&self, took: Duration) {
        self.dlq.publish_durations.observe(took);
    }

    pub(crate) fn polled(&self, took: Duration, error: Option<&ClientError>) {
        let labels = MessagingLabels::of("poll").group(&self.group_id);
        let labels = labels.error(error.map(labels::of_client_error));
        self.messaging.operations.get_or_create(&labels).observe(took);
    }

    /// Times a commit, and counts its failures: `unanswered`, or the coordinator's errors.
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
        self.dlq.partitions.lock().unwrap_or_else(PoisonError::into_inner)
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
