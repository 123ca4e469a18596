//! The console's settings, each declared where it is read: name, default, what is allowed, what it means.

use dead_letter::GroupTopics;
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use service_runtime::settings::{
    ConnectionSettings, FromSettings, GroupSettings, Settings, TopicSettings, value_bytes_max,
};

pub use self::dashboard::DashboardSettings;

pub(crate) mod dashboard;

/// All settings of `order-console`.
#[derive(Clone, Debug)]
pub struct ConsoleSettings {
    /// How Kafka and the registry are reached.
    pub connection: ConnectionSettings,
    /// The topic of orders and how topics are created.
    pub topics: TopicSettings,
    /// The group, and where its dead letters are.
    pub group: GroupSettings,
    /// The group's own topics.
    pub group_topics: GroupTopics,
    /// Longest value that is taken for an order, in bytes.
    pub value_bytes_max: usize,
    /// Where the dashboard is, and who may see it.
    pub dashboard: DashboardSettings,
}

impl ConsoleSettings {
    /// Names the cluster; nothing is connected yet.
    pub fn cluster(&self) -> Cluster {
        let servers = self.connection.bootstrap_servers.clone();
        Cluster::new(BrokerConfig::new(servers, env!("CARGO_PKG_NAME")))
    }
}

impl FromSettings for ConsoleSettings {
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
            value_bytes_max: value_bytes_max(s),
            dashboard: DashboardSettings::read(s),
        }
    }
}
