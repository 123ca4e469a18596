//! The state of the broker: topics with their logs, groups, producer ids.
//!
//! [`crate::broker`] owns it; the functions in [`crate::api`] change it, one request at a time.

use std::time::Duration;

use uuid::Uuid;

use crate::groups::{GroupSettings, Groups};
use crate::refusal::Refusal;
use crate::topics::config::TopicConfig;
use crate::topics::{Topic, Topics};

/// The id of the only broker.
pub(crate) const NODE_ID: i32 = 1;
/// The id of the cluster.
pub(crate) const CLUSTER_ID: &str = "embedded-kafka";

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The host and port in Metadata and `FindCoordinator` responses.
    pub(crate) advertised: (String, u16),
    /// Whether a Metadata request creates the topics that it names.
    pub(crate) auto_create_topics: bool,
    /// How many partitions a topic gets when its creator sets none.
    pub(crate) default_partitions: i32,
    /// `retention.bytes` of topics that do not set it.
    pub(crate) retention_bytes: Option<usize>,
    /// `connections.max.idle.ms`; `None` is unlimited.
    pub(crate) idle_max: Option<Duration>,
    pub(crate) groups: GroupSettings,
}

/// The state of the broker.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    next_producer_id: i64,
    log_changes: u64,
}

impl State {
    /// Creates the state of a new broker.
    pub(crate) fn new(settings: Settings) -> Self {
        let groups = Groups::new(settings.groups);
        Self { settings, topics: Topics::default(), groups, next_producer_id: 0, log_changes: 0 }
    }

    /// Returns the state after a restart of the broker at `now`.
    pub(crate) fn restarted(self, now: Duration) -> Self {
        Self { groups: self.groups.restarted(now), ..self }
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// As [`Topics::check_new`].
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partition_count: i32,
        config: TopicConfig,
    ) -> Result<(), Refusal> {
        self.topics.create(name, Uuid::new_v4(), partition_count, config)
    }

    /// Returns the configuration of a topic that sets nothing.
    pub(crate) fn default_config(&self) -> TopicConfig {
        TopicConfig::with_retention_default(self.settings.retention_bytes)
    }

    /// Returns a topic for changes of its logs, which wake waiting fetches.
    pub(crate) fn topic_to_change(&mut self, name: &str) -> Option<&mut Topic> {
        self.log_changes += 1;
        self.topics.get_mut(name)
    }

    /// Deletes a topic and its committed offsets, and returns whether it existed.
    pub(crate) fn delete_topic(&mut self, name: &str) -> bool {
        self.log_changes += 1;
        self.groups.delete_topic(name);
        self.topics.delete(name)
    }

    /// Returns a number that grows whenever a waiting fetch should read again.
    pub(crate) fn log_changes(&self) -> u64 {
        self.log_changes
    }

    /// Returns an unused producer id.
    pub(crate) fn new_producer_id(&mut self) -> i64 {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }
}
