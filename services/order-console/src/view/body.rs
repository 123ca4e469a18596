//! What is shown, in the words and forms of the HTTP API: its `OpenAPI` file describes these types.
//!
//! Times are RFC 3339 in UTC; sums of money are decimal texts, exact.

use serde::Serialize;

use crate::group_snapshot::Unavailable;

/// Everything that is known at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) stats: Stats,
    pub(crate) history: History,
    pub(crate) orders: Orders,
    pub(crate) group: Group,
    pub(crate) control: Control,
}

/// The group's numbers.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Stats {
    /// When the cluster was read; `None` before it ever was.
    pub(crate) at: Option<String>,
    pub(crate) uptime_seconds: u64,
    pub(crate) version: &'static str,
    pub(crate) connections: Connections,
    /// The orders' topic.
    pub(crate) topic: String,
    pub(crate) group: String,
    /// Where replays of dead letters go.
    pub(crate) replay_topic: String,
    pub(crate) produced: Flow,
    pub(crate) consumed: Flow,
    #[serde(flatten)]
    pub(crate) numbers: Numbers,
    /// Records that wait for a retry, or behind one.
    pub(crate) waiting: u64,
    /// `None` while that of one partition is unknown.
    pub(crate) lag: Option<i64>,
    pub(crate) lag_seconds: Option<f64>,
    pub(crate) complete: bool,
    pub(crate) partitions: Vec<Partition>,
    /// Why something is unknown.
    pub(crate) unavailable: Vec<Unavailable>,
}

impl Stats {
    /// Returns when the cluster was read; nothing before it ever was.
    pub(crate) fn at(&self) -> &str {
        self.at.as_deref().unwrap_or_default()
    }
}

/// Whether what the services stand on can be reached.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Connections {
    pub(crate) broker: Connection,
    pub(crate) registry: Connection,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Connection {
    pub(crate) state: ConnectionState,
    pub(crate) since: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) address: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ConnectionState {
    /// It tells everything that is asked for.
    Connected,
    /// It answers, but not with everything that is asked for.
    Failing,
    Unreachable,
    #[default]
    Unknown,
}

/// A count that grows, and how fast it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Flow {
    pub(crate) total: u64,
    pub(crate) per_second: f64,
}

/// What an aggregate shows.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Numbers {
    pub(crate) orders: u64,
    pub(crate) revenue: String,
    pub(crate) average: Option<f64>,
    pub(crate) recent_average: Option<f64>,
    pub(crate) min: Option<f32>,
    pub(crate) max: Option<f32>,
    pub(crate) retries: u64,
    pub(crate) dead_letters: u64,
    pub(crate) duplicates: u64,
    pub(crate) replayed: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(crate) struct Partition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) orders: u64,
    pub(crate) average: Option<f64>,
    pub(crate) retries: u64,
    pub(crate) dead_letters: u64,
    pub(crate) waiting: u64,
    pub(crate) lag: Option<i64>,
    pub(crate) lag_seconds: Option<f64>,
    pub(crate) committed_offset: Option<i64>,
    pub(crate) log_end: Option<i64>,
    pub(crate) since: Option<i64>,
    pub(crate) complete: bool,
    /// The member id of who has it.
    pub(crate) member: Option<String>,
}

/// How the numbers have moved while this process watched.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct History {
    pub(crate) interval_ms: u64,
    /// Oldest first.
    pub(crate) points: Vec<Point>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Point {
    pub(crate) at: String,
    pub(crate) average: Option<f64>,
    pub(crate) recent_average: Option<f64>,
    pub(crate) orders: u64,
    pub(crate) produced_per_second: f64,
    pub(crate) consumed_per_second: f64,
    pub(crate) lag: Option<i64>,
}

/// The latest orders.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Orders {
    /// Newest first.
    pub(crate) orders: Vec<RecentOrder>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct RecentOrder {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) produced_at: String,
    pub(crate) order_id: Option<String>,
    pub(crate) product: Option<String>,
    pub(crate) price: Option<f32>,
    pub(crate) key: Option<String>,
    pub(crate) status: Status,
    pub(crate) attempts: Option<u32>,
    pub(crate) error_type: Option<String>,
    /// Why it cannot be decoded.
    pub(crate) note: Option<String>,
}

/// What has become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// Nothing was committed about it yet.
    Waiting,
    /// It has failed, and is tried again.
    Retrying,
    Processed,
    DeadLettered,
    /// It was a dead letter, and was sent again.
    Replayed,
}

impl Status {
    /// Returns the word for it.
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

/// The consumer group.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(crate) struct Group {
    pub(crate) group: String,
    /// The coordinator's word; [`Group::UNKNOWN`] before it was ever asked.
    pub(crate) state: String,
    pub(crate) assignor: Option<String>,
    pub(crate) coordinator: Option<String>,
    pub(crate) members: Vec<Member>,
}

impl Group {
    /// The state of a group that nobody has described yet.
    pub(crate) const UNKNOWN: &str = "Unknown";
}

#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(crate) struct Member {
    pub(crate) member_id: String,
    pub(crate) client_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) host: String,
    pub(crate) partitions: Vec<TopicPartitionBody>,
    /// `None` while that of one partition is unknown.
    pub(crate) lag: Option<i64>,
    pub(crate) state: MemberState,
    pub(crate) since: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TopicPartitionBody {
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemberState {
    Running,
    Paused,
    /// It has said nothing about itself: another kind of client, perhaps.
    Unknown,
}

/// Who is to work, and who does.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Control {
    pub(crate) read_only: bool,
    pub(crate) generator: Role,
    pub(crate) processor: Role,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Role {
    pub(crate) desired: &'static str,
    pub(crate) by: Option<String>,
    pub(crate) at: Option<String>,
    pub(crate) instances: Vec<Instance>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) since: Option<String>,
    pub(crate) member_id: Option<String>,
}
