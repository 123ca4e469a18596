//! The processor's settings, each declared where it is read: name, default, what is allowed, what it means.

use std::fmt;
use std::time::Duration;

use control_topic::record::Role;
use dead_letter::GroupTopics;
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_core::assignor::Assignor;
use order_avro::PayloadFormat;
use order_ledger::checkpoint::{METADATA_CHARS_MAX, METADATA_CHARS_MIN};
use order_ledger::resume::{OffsetReset, OnMismatch};
use service_runtime::settings::{
    ConnectionSettings, FromSettings, GroupSettings, Settings, TopicSettings, value_bytes_max,
};

use self::work::read_simulation;
pub use self::work::{HandlerSettings, Ordering, RetrySettings};
use crate::handler::simulation::Simulation;

mod work;

/// What to do about a batch of the log that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCorruptBatch {
    /// Write its bytes as one dead letter.
    DeadLetter,
    /// End the process with exit code 1.
    Fail,
}

impl fmt::Display for OnCorruptBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeadLetter => "dead-letter",
            Self::Fail => "fail",
        })
    }
}

/// All settings of `order-processor run`.
#[derive(Clone, Debug)]
pub struct ProcessorSettings {
    /// The addresses of Kafka and the registry.
    pub connection: ConnectionSettings,
    /// The topic of orders and how topics are created.
    pub topics: TopicSettings,
    /// The group and its dead-letter topic.
    pub group: GroupSettings,
    /// The names of the group's own topics.
    pub group_topics: GroupTopics,
    /// The dead-letter topic, and the dead-letter limit.
    pub dlq: DlqSettings,
    /// Membership in the consumer group.
    pub member: MemberSettings,
    /// Commits, and resuming from them.
    pub commit: CommitSettings,
    /// The handler, and the bounds of its attempts.
    pub handler: HandlerSettings,
    /// Retries, and the bounds of incomplete records.
    pub retry: RetrySettings,
    /// Simulated failures, for demonstrations and tests.
    pub simulation: Simulation,
    /// The wire formats of orders that are accepted.
    pub payload_format: PayloadFormat,
    /// The longest value of an order, in bytes.
    pub value_bytes_max: usize,
    /// What to do about a batch of the log that cannot be read.
    pub corrupt_batch: OnCorruptBatch,
}

impl ProcessorSettings {
    /// Names the cluster; nothing is connected yet.
    pub fn cluster(&self) -> Cluster {
        let servers = self.connection.bootstrap_servers.clone();
        Cluster::new(BrokerConfig::new(servers, Role::Processor.client_id()))
    }
}

/// The dead-letter topic, and the dead-letter limit.
#[derive(Clone, Debug)]
pub struct DlqSettings {
    /// Partitions of the dead-letter topic, if it is created.
    pub partitions: i32,
    /// How long the dead-letter topic keeps letters; `None` is forever.
    pub retention: Option<Duration>,
    /// How many dead letters of one type, with no order processed between them, pause a partition; 0 is any number.
    pub guard: u32,
}

/// Membership in the consumer group.
#[derive(Clone, Debug)]
pub struct MemberSettings {
    /// The identity of a static member; `None` for a dynamic one.
    pub instance_id: Option<String>,
    /// Whether a static member leaves when it stops.
    pub leave_on_stop: bool,
    /// How partitions are shared out.
    pub assignor: Assignor,
    /// After how long without a heartbeat a member counts as dead.
    pub session_timeout: Duration,
    /// The pause between two heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a rebalance waits for a member.
    pub rebalance_timeout: Duration,
    /// How long running work may take to end when partitions are given up; a stop ends 5 s later at the latest.
    pub drain_timeout: Duration,
}

/// Commits, and resuming from them.
#[derive(Clone, Debug)]
pub struct CommitSettings {
    /// The least time between two commits.
    pub interval: Duration,
    /// Where a partition without a committed offset begins.
    pub offset_reset: OffsetReset,
    /// How many characters the brokers store beside a committed offset; `None` asks the group's coordinator.
    pub metadata_chars: Option<usize>,
    /// What to do about a checkpoint that cannot be read.
    pub on_mismatch: OnMismatch,
}

impl FromSettings for ProcessorSettings {
    fn read(s: &mut Settings) -> Self {
        let connection = ConnectionSettings::read(s);
        let topics = TopicSettings::read(s);
        let group = GroupSettings::read(s, &topics);
        let prefix = group.topics_prefix.as_deref();
        let (dlq, member, commit) = (read_dlq(s), read_member(s), read_commit(s));
        let (handler, retry) = (HandlerSettings::read(s), RetrySettings::read(s));
        Self {
            connection,
            group_topics: GroupTopics::new(&topics.orders_topic, &group.group_id, prefix),
            topics,
            group,
            dlq,
            member,
            commit,
            handler,
            simulation: read_simulation(s, retry.retries_max),
            retry,
            payload_format: s.choice(
                "PAYLOAD_FORMAT",
                PayloadFormat::Auto,
                &[
                    PayloadFormat::Auto,
                    PayloadFormat::Confluent,
                    PayloadFormat::SingleObject,
                    PayloadFormat::Container,
                    PayloadFormat::Bare,
                ],
                "Wire format of orders; auto recognises it record by record.",
            ),
            value_bytes_max: value_bytes_max(s),
            corrupt_batch: s.choice(
                "CORRUPT_BATCH",
                OnCorruptBatch::DeadLetter,
                &[OnCorruptBatch::DeadLetter, OnCorruptBatch::Fail],
                "What to do about a damaged batch in the log: dead-letter its bytes, or end with exit code 1.",
            ),
        }
    }
}

fn read_dlq(s: &mut Settings) -> DlqSettings {
    DlqSettings {
        partitions: s.integer(
            "DLQ_PARTITIONS",
            1,
            1..=10_000,
            "Partitions of the dead-letter topic when it is created.",
        ),
        retention: s
            .optional_parsed(
                "DLQ_RETENTION_HOURS",
                "a whole number of hours from 1 to 1000000; unset keeps them forever",
                "Retention of the dead-letter topic when it is created.",
                |text| text.parse::<u64>().ok().filter(|hours| (1..=1_000_000).contains(hours)),
            )
            .map(|hours| Duration::from_secs(hours * 3600)),
        guard: s.integer(
            "DLQ_GUARD",
            1_000,
            0..=1_000_000_000,
            "Dead letters of one type, with no order processed between them, after which a \
             partition pauses until an operator releases it; 0 never.",
        ),
    }
}

fn read_member(s: &mut Settings) -> MemberSettings {
    let member = MemberSettings {
        instance_id: s.optional(
            "GROUP_INSTANCE_ID",
            "a text, different for every member",
            "Makes the member static: a restart within the session timeout moves no partition.",
        ),
        leave_on_stop: s.flag(
            "GROUP_LEAVE_ON_STOP",
            false,
            "Whether a static member leaves the group when it stops; dynamic ones always do.",
        ),
        assignor: s.choice(
            "ASSIGNOR",
            Assignor::CooperativeSticky,
            &[Assignor::CooperativeSticky, Assignor::Range],
            "Strategy that assigns partitions; all members of a group must use the same.",
        ),
        session_timeout: s.milliseconds(
            "SESSION_TIMEOUT_MS",
            10_000,
            1_000..=1_800_000,
            "Time without a heartbeat after which the group removes a member.",
        ),
        heartbeat_interval: s.milliseconds(
            "HEARTBEAT_INTERVAL_MS",
            1_000,
            100..=600_000,
            "Pause between heartbeats.",
        ),
        rebalance_timeout: s.milliseconds(
            "REBALANCE_TIMEOUT_MS",
            30_000,
            1_000..=3_600_000,
            "How long a rebalance waits for a member to drain and rejoin.",
        ),
        drain_timeout: s.milliseconds(
            "DRAIN_TIMEOUT_MS",
            5_000,
            0..=3_600_000,
            "How long work in flight may take to end when partitions are given up; a stop ends at most 5 s later.",
        ),
    };
    s.rule(
        &["HEARTBEAT_INTERVAL_MS", "SESSION_TIMEOUT_MS"],
        member.heartbeat_interval * 3 <= member.session_timeout,
        "HEARTBEAT_INTERVAL_MS must be at most a third of SESSION_TIMEOUT_MS",
    );
    s.rule(
        &["DRAIN_TIMEOUT_MS", "REBALANCE_TIMEOUT_MS"],
        member.drain_timeout < member.rebalance_timeout,
        "DRAIN_TIMEOUT_MS must be less than REBALANCE_TIMEOUT_MS",
    );
    member
}

fn read_commit(s: &mut Settings) -> CommitSettings {
    CommitSettings {
        interval: s.milliseconds(
            "COMMIT_INTERVAL_MS",
            500,
            10..=60_000,
            "Time between two commits; a waiting dead letter, a stop and a rebalance commit sooner.",
        ),
        offset_reset: s.choice(
            "AUTO_OFFSET_RESET",
            OffsetReset::Earliest,
            &[OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::None],
            "Where a group that is new to the topic begins; partitions that are added later are read from their beginning.",
        ),
        metadata_chars: s.optional_parsed(
            "OFFSET_METADATA_MAX_BYTES",
            "a whole number from 1600 to 65536; unset asks the group's coordinator",
            "The brokers' offset.metadata.max.bytes; less of it means fewer records in flight.",
            |text| {
                let allowed = METADATA_CHARS_MIN..=METADATA_CHARS_MAX;
                text.parse().ok().filter(|chars| allowed.contains(chars))
            },
        ),
        on_mismatch: s.choice(
            "CHECKPOINT_ON_MISMATCH",
            OnMismatch::Stop,
            &[OnMismatch::Stop, OnMismatch::Reset, OnMismatch::Fail],
            "What to do about a checkpoint that is unreadable or of another topic: stop its partition, reset its \
             numbers, or fail (end the process). After a truncation of the log, fail ends the process too.",
        ),
    }
}
