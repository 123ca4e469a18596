//! The bodies of the HTTP API. The API's description is generated from these types.
//!
//! Sums of money are decimal texts, exact.

use serde::Serialize;
use utoipa::ToSchema;

use crate::control::{DesiredState, Instance};
use crate::group_snapshot::Unavailable;
use crate::stats::Numbers;
use crate::time::Time;

/// Everything that is known at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) stats: Stats,
    pub(crate) history: History,
    pub(crate) orders: Orders,
    pub(crate) group: Group,
    pub(crate) control: Control,
}

/// The group's numbers, from what it has committed.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Stats {
    /// When the cluster was read; null before the first time.
    pub(crate) at: Option<Time>,
    /// Of this dashboard.
    pub(crate) uptime_seconds: u64,
    pub(crate) version: &'static str,
    pub(crate) connections: Connections,
    #[serde(flatten)]
    pub(crate) source: Source,
    /// Records of the orders' topic, or fewer while the end of one of its logs is unknown.
    pub(crate) produced: Flow,
    /// Orders and dead letters of both topics.
    pub(crate) consumed: Flow,
    #[serde(flatten)]
    pub(crate) numbers: Numbers,
    /// The exact sum of the prices.
    #[schema(pattern = r"^-?\d+(\.\d+)?$")]
    pub(crate) revenue: String,
    /// Records that wait for a retry, or behind one.
    pub(crate) waiting: u64,
    /// Null while that of one partition is unknown.
    #[schema(minimum = 0)]
    pub(crate) lag: Option<i64>,
    /// The largest of the partitions; 0 where there is no lag.
    #[schema(minimum = 0)]
    pub(crate) lag_seconds: Option<f64>,
    /// Whether the numbers cover everything that the logs still hold.
    pub(crate) complete: bool,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) unavailable: Vec<Unavailable>,
}

/// The group and its topics.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Source {
    /// The orders' topic.
    pub(crate) topic: String,
    pub(crate) group: String,
    /// The topic that replays of dead letters go to.
    pub(crate) replay_topic: String,
}

/// The connections of the dashboard.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Connections {
    pub(crate) broker: Connection,
    pub(crate) registry: Connection,
}

/// A connection of the dashboard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Connection {
    #[schema(inline)]
    pub(crate) state: ConnectionState,
    /// Since when it has been in that state.
    pub(crate) since: Option<Time>,
    /// What is wrong.
    pub(crate) detail: Option<String>,
    pub(crate) address: String,
}

/// failing: it answers, but not everything; detail says why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ConnectionState {
    Connected,
    /// It answers, but not everything.
    Failing,
    Unreachable,
    #[default]
    Unknown,
}

/// A count that grows, and its rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Flow {
    pub(crate) total: u64,
    #[schema(minimum = 0)]
    pub(crate) per_second: f64,
}

/// The numbers of a partition, and how far the group is in it.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(crate) struct Partition {
    pub(crate) topic: String,
    #[schema(minimum = 0)]
    pub(crate) partition: i32,
    pub(crate) orders: u64,
    pub(crate) average: Option<f64>,
    pub(crate) retries: u64,
    pub(crate) dead_letters: u64,
    pub(crate) waiting: u64,
    /// Null while it is unknown.
    #[schema(minimum = 0)]
    pub(crate) lag: Option<i64>,
    /// Age of the oldest record that was not processed; 0 where there is none.
    #[schema(minimum = 0)]
    pub(crate) lag_seconds: Option<f64>,
    #[schema(minimum = 0)]
    pub(crate) committed_offset: Option<i64>,
    /// Null while it is unknown.
    #[schema(minimum = 0)]
    pub(crate) log_end: Option<i64>,
    /// The first offset that it counts.
    #[schema(minimum = 0)]
    pub(crate) since: Option<i64>,
    /// How many offsets the log has lost after they were counted.
    pub(crate) truncated: u64,
    /// Whether it counts from the beginning of the log, and nothing that the log has lost.
    pub(crate) complete: bool,
    /// The id of the member that has it.
    pub(crate) member: Option<String>,
}

/// How the numbers have moved while this process watched.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct History {
    #[schema(minimum = 1)]
    pub(crate) interval_ms: u64,
    /// The oldest first.
    #[schema(max_items = 600)]
    pub(crate) points: Vec<Point>,
}

/// The numbers at one moment.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Point {
    pub(crate) at: Time,
    pub(crate) average: Option<f64>,
    pub(crate) recent_average: Option<f64>,
    pub(crate) orders: u64,
    #[schema(minimum = 0)]
    pub(crate) produced_per_second: f64,
    #[schema(minimum = 0)]
    pub(crate) consumed_per_second: f64,
    #[schema(minimum = 0)]
    pub(crate) lag: Option<i64>,
}

/// The latest orders.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Orders {
    /// The newest first.
    #[schema(max_items = 100)]
    pub(crate) orders: Vec<RecentOrder>,
}

/// A record of the orders' topic or of the replay topic.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Order)]
pub(crate) struct RecentOrder {
    pub(crate) topic: String,
    #[schema(minimum = 0)]
    pub(crate) partition: i32,
    #[schema(minimum = 0)]
    pub(crate) offset: i64,
    pub(crate) produced_at: Time,
    pub(crate) order_id: Option<String>,
    pub(crate) product: Option<String>,
    pub(crate) price: Option<f32>,
    pub(crate) key: Option<String>,
    #[schema(inline)]
    pub(crate) status: Status,
    pub(crate) attempts: Option<u32>,
    pub(crate) error_type: Option<String>,
    /// Why it cannot be decoded.
    pub(crate) note: Option<String>,
}

/// What has become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// Nothing was committed about it yet.
    Waiting,
    /// It has failed, and will be tried again.
    Retrying,
    Processed,
    DeadLettered,
    /// It was a dead letter, and was sent again.
    Replayed,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Processed => "processed",
            Self::DeadLettered => "dead-lettered",
            Self::Replayed => "replayed",
        }
    }
}

/// The consumer group as its coordinator describes it.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(crate) struct Group {
    pub(crate) group: String,
    /// Kafka's word: `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty`, `Dead`; or `Unknown` before the first answer.
    pub(crate) state: String,
    pub(crate) assignor: Option<String>,
    /// host:port
    pub(crate) coordinator: Option<String>,
    pub(crate) members: Vec<Member>,
}

impl Group {
    /// The state of a group before the coordinator has answered.
    pub(crate) const UNKNOWN: &str = "Unknown";
}

/// A member of the consumer group.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(crate) struct Member {
    pub(crate) member_id: String,
    pub(crate) client_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) host: String,
    pub(crate) partitions: Vec<TopicPartitionBody>,
    /// Null while that of one partition is unknown.
    #[schema(minimum = 0)]
    pub(crate) lag: Option<i64>,
    #[schema(inline)]
    pub(crate) state: MemberState,
    pub(crate) since: Option<Time>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TopicPartition)]
pub(crate) struct TopicPartitionBody {
    pub(crate) topic: String,
    #[schema(minimum = 0)]
    pub(crate) partition: i32,
}

/// Whether a member works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemberState {
    Running,
    Paused,
    /// It has not reported: another kind of client, perhaps.
    Unknown,
}

/// The last command to each role, and the state of each instance.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Control {
    /// Whether this visitor may change nothing.
    pub(crate) read_only: bool,
    pub(crate) generator: Role,
    pub(crate) processor: Role,
}

impl Control {
    /// Returns the same for a visitor who may or may not change something.
    pub(crate) fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }
}

/// The last command to a role, and its instances that are alive.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Role {
    #[serde(flatten)]
    pub(crate) command: DesiredState,
    pub(crate) instances: Vec<Instance>,
}
