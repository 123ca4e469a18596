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

pub use self::work::{HandlerSettings, Ordering, RetrySettings, SimulationSettings};

mod work;

/// What happens when a batch of the log cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCorruptBatch {
    /// Its bytes are one dead letter.
    DeadLetter,
    /// The process ends.
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
    /// How Kafka and the registry are reached.
    pub connection: ConnectionSettings,
    /// The topic of orders and how topics are created.
    pub topics: TopicSettings,
    /// The group, and where its dead letters go.
    pub group: GroupSettings,
    /// The group's own topics.
    pub group_topics: GroupTopics,
    /// Partitions of the dead-letter topic, if it is created.
    pub dlq_partitions: i32,
    /// How long dead letters are kept; `None` is for ever.
    pub dlq_retention: Option<Duration>,
    /// Membership in the group.
    pub member: MemberSettings,
    /// Committing, and reading committed state back.
    pub commit: CommitSettings,
    /// What is done for every order.
    pub handler: HandlerSettings,
    /// Retries and what is in flight.
    pub retry: RetrySettings,
    /// How many dead letters of one type a partition writes with no order processed between them; 0 is any number.
    pub dlq_guard: u32,
    /// Failures on purpose.
    pub simulation: SimulationSettings,
    /// In which wire formats orders are accepted.
    pub payload_format: PayloadFormat,
    /// Longest value that is taken for an order, in bytes.
    pub value_bytes_max: usize,
    /// Whether repeats of a record by its producer are recognised and counted once.
    pub dedupe: bool,
    /// What happens when a batch of the log cannot be read.
    pub corrupt_batch: OnCorruptBatch,
}

impl ProcessorSettings {
    /// Names the cluster; nothing is connected yet.
    pub fn cluster(&self) -> Cluster {
        let servers = self.connection.bootstrap_servers.clone();
        Cluster::new(BrokerConfig::new(servers, Role::Processor.client_id()))
    }
}

/// Membership in the consumer group.
#[derive(Clone, Debug)]
pub struct MemberSettings {
    /// A static member's identity.
    pub instance_id: Option<String>,
    /// Whether a static member leaves when it stops.
    pub leave_on_stop: bool,
    /// How partitions are shared out.
    pub assignor: Assignor,
    /// After how long without a heartbeat a member counts as dead.
    pub session_timeout: Duration,
    /// Pause between heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a rebalance waits for a member.
    pub rebalance_timeout: Duration,
    /// How long running work may take to end when partitions are given up; a stop ends 5 s later at the latest.
    pub drain_timeout: Duration,
}

/// Committing, and reading committed state back.
#[derive(Clone, Debug)]
pub struct CommitSettings {
    /// How often progress is committed.
    pub interval: Duration,
    /// Where to start without a committed offset.
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
        Self {
            connection,
            group_topics: GroupTopics::new(&topics.orders_topic, &group.group_id, prefix),
            topics,
            group,
            dlq_partitions: s.integer(
                "DLQ_PARTITIONS",
                1,
                1..=10_000,
                "Partitions of the dead-letter topic when it is created.",
            ),
            dlq_retention: s
                .optional_parsed(
                    "DLQ_RETENTION_HOURS",
                    "a whole number of hours from 1 to 1000000; unset keeps them for ever",
                    "How long dead letters are kept when the topic is created.",
                    |text| text.parse::<u64>().ok().filter(|hours| (1..=1_000_000).contains(hours)),
                )
                .map(|hours| Duration::from_secs(hours * 3600)),
            member: read_member(s),
            commit: read_commit(s),
            handler: HandlerSettings::read(s),
            retry: RetrySettings::read(s),
            dlq_guard: s.integer(
                "DLQ_GUARD",
                1_000,
                0..=1_000_000_000,
                "Dead letters of one type, with no order processed between them, after which a \
                 partition stops until it is released; 0 never.",
            ),
            simulation: SimulationSettings::read(s),
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
                "Wire format of orders; auto tells them apart record by record.",
            ),
            value_bytes_max: value_bytes_max(s),
            dedupe: !s
                .choice(
                    "DEDUPE",
                    Toggle::On,
                    &[Toggle::On, Toggle::Off],
                    "Whether a record that its producer sent twice counts once.",
                )
                .is_off(),
            corrupt_batch: s.choice(
                "CORRUPT_BATCH",
                OnCorruptBatch::DeadLetter,
                &[OnCorruptBatch::DeadLetter, OnCorruptBatch::Fail],
                "What to do about a batch that is damaged in the log: dead-letter its bytes, or end with exit code 1.",
            ),
        }
    }
}

/// A setting that is either `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Toggle {
    On,
    Off,
}

impl Toggle {
    fn is_off(self) -> bool {
        self == Self::Off
    }
}

impl fmt::Display for Toggle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_off() { "off" } else { "on" })
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
            "How partitions are shared out; all members of a group must use the same.",
        ),
        session_timeout: s.milliseconds(
            "SESSION_TIMEOUT_MS",
            10_000,
            1_000..=1_800_000,
            "After this long without a heartbeat the group takes a member for dead.",
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
            "How long a rebalance waits for a member to drain and join again.",
        ),
        drain_timeout: s.milliseconds(
            "DRAIN_TIMEOUT_MS",
            5_000,
            0..=3_600_000,
            "How long running work may take to end when partitions are given up; a stop ends 5 s later at the latest.",
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
            "How often progress is committed, at most, while there is any; a stop and a rebalance commit at once.",
        ),
        offset_reset: s.choice(
            "AUTO_OFFSET_RESET",
            OffsetReset::Earliest,
            &[OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::None],
            "Where a group that is new to the topic starts; partitions that are added later are read from their beginning.",
        ),
        metadata_chars: s.optional_parsed(
            "OFFSET_METADATA_MAX_BYTES",
            "a whole number from 2012 to 65536; unset asks the group's coordinator",
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
            "What a checkpoint does that is unreadable or of another topic: stop its partition, reset its \
             numbers, or fail: end the process.",
        ),
    }
}
