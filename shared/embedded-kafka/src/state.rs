//! Everything the broker knows, in one place: topics with their logs, groups, producer ids.
//!
//! One owner holds it ([`crate::broker`]); the functions in [`crate::api`] change it, one request at a time.

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

/// What the operator chose.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The host and port clients are told to connect to.
    pub(crate) advertised: (String, u16),
    /// Whether asking for the metadata of a topic creates it.
    pub(crate) auto_create_topics: bool,
    /// How many partitions a topic gets when its creator does not say.
    pub(crate) default_partitions: i32,
    /// `retention.bytes` of topics that do not set it.
    pub(crate) retention_bytes: Option<usize>,
    /// How long a connection may send nothing; `None` is for ever.
    pub(crate) idle_max: Option<Duration>,
    /// The limits of groups.
    pub(crate) groups: GroupSettings,
}

/// The state of the broker.
#[derive(Debug)]
pub(crate) struct State {
    /// What the operator chose.
    pub(crate) settings: Settings,
    /// The topics.
    pub(crate) topics: Topics,
    /// The groups.
    pub(crate) groups: Groups,
    next_producer_id: i64,
    log_changes: u64,
}

impl State {
    /// Creates the state of a broker that has never run.
    pub(crate) fn new(settings: Settings) -> Self {
        let groups = Groups::new(settings.groups);
        Self { settings, topics: Topics::default(), groups, next_producer_id: 0, log_changes: 0 }
    }

    /// Returns the state as the broker finds it when it starts again at `now`.
    pub(crate) fn restarted(self, now: Duration) -> Self {
        Self { groups: self.groups.restarted(now), ..self }
    }

    /// Creates a topic whose configuration sets nothing.
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

    /// Returns the configuration of a topic for which nothing is set.
    pub(crate) fn default_config(&self) -> TopicConfig {
        TopicConfig::with_retention_default(self.settings.retention_bytes)
    }

    /// Returns a topic for changing its logs, which wakes the fetches that wait.
    pub(crate) fn topic_to_change(&mut self, name: &str) -> Option<&mut Topic> {
        self.log_changes += 1;
        self.topics.get_mut(name)
    }

    /// Deletes a topic and the offsets groups committed for it, and returns whether there was one.
    pub(crate) fn delete_topic(&mut self, name: &str) -> bool {
        self.log_changes += 1;
        self.groups.delete_topic(name);
        self.topics.delete(name)
    }

    /// Returns a number that grows whenever a waiting fetch should look again.
    pub(crate) fn log_changes(&self) -> u64 {
        self.log_changes
    }

    /// Returns a producer id that no producer has.
    pub(crate) fn new_producer_id(&mut self) -> i64 {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }
}
