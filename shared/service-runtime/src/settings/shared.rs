//! The settings that several of the binaries have.

use super::names::is_part_of_topic;
use super::reading::{FromSettings, Settings};
use super::secret_url::SecretUrl;
use crate::telemetry::{LogFormat, targets};

/// The most partitions that a topic is created with.
const PARTITIONS_MAX: i32 = 10_000;

/// The longest beginning of topics' names: 249 characters less those of the longest end.
const TOPICS_PREFIX_LENGTH_MAX: usize = 237;

/// Where Kafka and the schema registry are.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// Bootstrap brokers, as `host:port`.
    pub bootstrap_servers: Vec<String>,
    /// The registry's address.
    pub schema_registry_url: SecretUrl,
}

impl FromSettings for ConnectionSettings {
    fn read(settings: &mut Settings) -> Self {
        Self {
            bootstrap_servers: settings.servers(
                "BOOTSTRAP_SERVERS",
                "localhost:9092",
                "Kafka brokers to connect to first.",
            ),
            schema_registry_url: settings.url(
                "SCHEMA_REGISTRY_URL",
                "http://localhost:8081",
                "The schema registry.",
            ),
        }
    }
}

/// The orders' topic, and how topics are created when they are missing.
#[derive(Debug, Clone)]
pub struct TopicSettings {
    /// The topic that orders are published to.
    pub orders_topic: String,
    /// Partitions of the orders' topic when it is created.
    pub topic_partitions: i32,
    /// Replicas of each partition of a topic that is created; −1 leaves it to the broker.
    pub replication_factor: i16,
    /// The topic through which operators pause and resume services.
    pub control_topic: String,
}

impl FromSettings for TopicSettings {
    fn read(settings: &mut Settings) -> Self {
        let topics = Self {
            orders_topic: settings.topic("ORDERS_TOPIC", "orders", "The topic of the orders."),
            topic_partitions: settings.integer(
                "TOPIC_PARTITIONS",
                3,
                1..=PARTITIONS_MAX,
                "Partitions of the orders' topic when it is created because it is missing.",
            ),
            replication_factor: settings.integer(
                "REPLICATION_FACTOR",
                -1,
                -1..=i16::MAX,
                "Replicas of topics that are created; -1 is the broker's default.",
            ),
            control_topic: settings.topic(
                "CONTROL_TOPIC",
                "orders-control",
                "The topic that services are paused and resumed through.",
            ),
        };
        settings.rule(
            &["REPLICATION_FACTOR"],
            topics.replication_factor != 0,
            "must be -1 or at least 1",
        );
        settings.rule(
            &["CONTROL_TOPIC", "ORDERS_TOPIC"],
            topics.control_topic != topics.orders_topic,
            "must be two topics",
        );
        topics
    }
}

/// The consumer group that processes orders, and where its dead letters are.
#[derive(Debug, Clone)]
pub struct GroupSettings {
    /// The group's id.
    pub group_id: String,
    /// The topic of dead letters.
    pub dlq_topic: String,
    /// What the names of the group's own topics begin with, where the operator has chosen it.
    pub topics_prefix: Option<String>,
}

impl GroupSettings {
    /// Declares the settings of the group that processes the orders of `topics`.
    pub fn read(settings: &mut Settings, topics: &TopicSettings) -> Self {
        let group = Self {
            group_id: settings.text(
                "CONSUMER_GROUP_ID",
                "order-processor-group",
                "Consumer group that processes the orders.",
            ),
            dlq_topic: settings.topic("ORDERS_DLQ_TOPIC", "orders-dlq", "The topic of dead letters."),
            topics_prefix: settings.optional_parsed(
                "GROUP_TOPICS_PREFIX",
                "1 to 237 letters, digits, dots, underscores and hyphens; unset is made of ORDERS_TOPIC and \
                 CONSUMER_GROUP_ID",
                "What the names of the group's own topics begin with, those of replays and of operators' actions.",
                |text| is_part_of_topic(text, TOPICS_PREFIX_LENGTH_MAX).then(|| text.to_owned()),
            ),
        };
        settings.rule(
            &["ORDERS_TOPIC", "ORDERS_DLQ_TOPIC"],
            topics.orders_topic != group.dlq_topic,
            "orders and dead letters must be different topics",
        );
        group
    }
}

/// Declares how long a value may be that is taken for an order, in bytes.
pub fn value_bytes_max(settings: &mut Settings) -> usize {
    settings.integer(
        "MAX_VALUE_BYTES",
        65_536,
        1..=1_073_741_824,
        "Longest value that is taken for an order, packed or unpacked; a longer one is oversize and dead-lettered.",
    )
}

/// What the runtime itself needs.
#[derive(Debug, Clone)]
pub struct RuntimeSettings {
    /// Where health and metrics are served, as `host:port`; `None` serves nothing.
    pub http_addr: Option<String>,
    /// Which log lines are written, in the syntax of `tracing_subscriber::filter::Targets`.
    pub log_filter: String,
    /// How log lines are written.
    pub log_format: LogFormat,
}

impl RuntimeSettings {
    /// The default of `RUST_LOG`.
    pub(crate) const LOG_FILTER_DEFAULT: &str = "info,rskafka=warn";
}

impl FromSettings for RuntimeSettings {
    fn read(settings: &mut Settings) -> Self {
        Self {
            http_addr: settings.listen_address(
                "HTTP_ADDR",
                "127.0.0.1:8080",
                "Where /healthz, /readyz and /metrics are served.",
            ),
            log_filter: settings.parsed(
                "RUST_LOG",
                Self::LOG_FILTER_DEFAULT.to_owned(),
                "levels such as info or info,rskafka=warn",
                "Which log lines are written: error, warn, info, debug, trace, also by module.",
                |text| targets(text).map(|_targets| text.to_owned()),
            ),
            log_format: settings.choice(
                "LOG_FORMAT",
                LogFormat::Text,
                &[LogFormat::Text, LogFormat::Json],
                "Log lines for people, or one JSON object a line.",
            ),
        }
    }
}
