//! The state of the cluster: nodes, topics with their logs, groups, producer ids.
//!
//! [`crate::broker`] owns it; the functions in [`crate::api`] change it, one request at a time.

use std::time::Duration;

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::fetch_sessions::FetchSessions;
use crate::groups::{GroupSettings, Groups};
use crate::quotas::Quota;
use crate::refusal::Refusal;
use crate::topics::config::TopicConfig;
use crate::topics::{Topic, Topics};

/// The id of the cluster.
pub(crate) const CLUSTER_ID: &str = "embedded-kafka";

/// The default of `fetch.max.bytes`.
pub(crate) const FETCH_BYTES_MAX: usize = 55 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Whether a Metadata request creates the topics that it names.
    pub(crate) auto_create_topics: bool,
    /// How many partitions a topic gets when its creator sets none.
    pub(crate) default_partitions: i32,
    /// `retention.bytes` of topics that do not set it.
    pub(crate) retention_bytes: Option<usize>,
    /// `connections.max.idle.ms`; `None` is unlimited.
    pub(crate) idle_max: Option<Duration>,
    /// `fetch.max.bytes`.
    pub(crate) fetch_bytes_max: usize,
    /// `min.insync.replicas` of topics that do not set it.
    pub(crate) min_insync_replicas: usize,
    pub(crate) groups: GroupSettings,
}

/// The state of the cluster, which all nodes share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) cluster: Cluster,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) produce_quota: Quota,
    pub(crate) fetch_quota: Quota,
    next_producer_id: i64,
    log_changes: u64,
}

impl State {
    /// Creates the state of a new cluster.
    pub(crate) fn new(settings: Settings, cluster: Cluster) -> Self {
        let groups = Groups::new(settings.groups);
        Self {
            settings,
            cluster,
            topics: Topics::default(),
            groups,
            fetch_sessions: FetchSessions::default(),
            produce_quota: Quota::default(),
            fetch_quota: Quota::default(),
            next_producer_id: 0,
            log_changes: 0,
        }
    }

    /// Returns the state after a restart of all nodes at `now`.
    pub(crate) fn restarted(self, now: Duration) -> Self {
        let mut restarted = Self { groups: self.groups.restarted(now), ..self };
        restarted.fetch_sessions.forget_all();
        restarted.produce_quota.forget();
        restarted.fetch_quota.forget();
        for node in restarted.cluster.stopped() {
            restarted.set_running(node, true, now);
        }
        restarted
    }

    /// Marks a node as running or stopped: leaders, coordinators and the controller move as elections move them.
    pub(crate) fn set_running(&mut self, node: NodeId, is_running: bool, now: Duration) {
        self.log_changes += 1;
        self.fetch_sessions.forget_node(node);
        for group_id in self.cluster.set_running(node, is_running) {
            self.groups.reload(now, &group_id);
        }
        for partition in self.topics.partitions_mut() {
            partition.elect(&self.cluster);
        }
    }

    /// Returns the leader of a partition with its epoch, `None` without a leader.
    pub(crate) fn current_leader(&self, topic: &str, index: i32) -> Option<(NodeId, i32)> {
        let partition = self.topics.get(topic)?.partition(index).ok()?;
        Some((partition.leader()?, partition.leader_epoch()))
    }

    /// Makes a running node the coordinator of a group.
    pub(crate) fn move_coordinator(&mut self, group_id: &str, node: NodeId, now: Duration) {
        self.cluster.move_coordinator(group_id, node);
        self.groups.reload(now, group_id);
    }

    /// Checks that `node` coordinates a group.
    ///
    /// # Errors
    /// `NOT_COORDINATOR`.
    pub(crate) fn check_coordinator(
        &mut self,
        node: NodeId,
        group_id: &str,
    ) -> Result<(), ResponseError> {
        match self.cluster.coordinator(group_id) {
            Some(coordinator) if coordinator.id == node => Ok(()),
            Some(_) | None => Err(ResponseError::NotCoordinator),
        }
    }

    /// Checks that `node` is the controller.
    ///
    /// # Errors
    /// `NOT_CONTROLLER`.
    pub(crate) fn check_controller(&self, node: NodeId) -> Result<(), Refusal> {
        if self.cluster.controller() == node {
            return Ok(());
        }
        let error = ResponseError::NotController;
        Err(Refusal::new(error, "This is not the correct controller for this cluster."))
    }

    /// Creates a topic, with a replica of each partition on every running node.
    ///
    /// # Errors
    /// As [`Topics::check_new`].
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partition_count: i32,
        config: TopicConfig,
    ) -> Result<(), Refusal> {
        let count = self.topics.check_new(name, partition_count)?;
        let replicas = (0..count).map(|index| self.cluster.place(index, usize::MAX));
        self.topics.create(name, Uuid::new_v4(), replicas, config);
        Ok(())
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

    /// Returns a topic for changes of its logs, which wake waiting fetches, and the nodes.
    pub(crate) fn topic_and_cluster(&mut self, name: &str) -> (Option<&mut Topic>, &Cluster) {
        self.log_changes += 1;
        (self.topics.get_mut(name), &self.cluster)
    }

    /// Deletes a topic and creates it again, and returns whether it existed.
    pub(crate) fn recreate_topic(&mut self, name: &str) -> bool {
        let Some(before) = self.topics.get(name) else { return false };
        let config = before.config.clone();
        let partitions = before.partitions().iter();
        let replicas: Vec<_> = partitions.map(|found| found.replicas().to_vec()).collect();
        self.delete_topic(name);
        self.topics.create(name, Uuid::new_v4(), replicas, config);
        for partition in self.topics.partitions_mut() {
            partition.elect(&self.cluster);
        }
        true
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
