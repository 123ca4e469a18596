//! What a test may do to a running cluster.

use std::time::Duration;

use kafka_core::NodeId;

use crate::broker::port::NodePort;
use crate::broker::{ControlError, EmbeddedKafka, StartError};
use crate::cluster::Cluster;
use crate::state::State;
use crate::topics::partition::Partition;

/// Leaders of partitions.
impl EmbeddedKafka {
    /// Makes a node the leader of a partition, with its log, as a preferred election does.
    ///
    /// The leader epoch grows by one, even when the node leads already. Waiting fetches return.
    ///
    /// # Errors
    /// [`ControlError`] when there is no such partition, or the node has no replica of it that is online.
    pub fn move_leader(
        &self,
        topic: &str,
        partition: i32,
        node: NodeId,
    ) -> Result<(), ControlError> {
        self.change_partition(topic, partition, |partition, cluster| {
            if !partition.is_in_sync(node, cluster) {
                return Err(ControlError::UnavailableNode { node });
            }
            partition.lead(Some(node));
            Ok(())
        })
    }

    /// Makes a node the leader of a partition that misses the records from `end_offset` on, as an unclean election does.
    ///
    /// The log is truncated there; a batch that holds the offset is lost as a whole. The leader epoch grows by one, even
    /// when the node leads already, and the next records get the lost ones' offsets. Fetches with the epoch of lost records
    /// learn of the divergence, others of `OFFSET_OUT_OF_RANGE` if they are beyond the end.
    ///
    /// # Errors
    /// As [`EmbeddedKafka::move_leader`].
    pub fn elect_unclean(
        &self,
        topic: &str,
        partition: i32,
        node: NodeId,
        end_offset: i64,
    ) -> Result<(), ControlError> {
        self.change_partition(topic, partition, |partition, cluster| {
            if !partition.is_in_sync(node, cluster) {
                return Err(ControlError::UnavailableNode { node });
            }
            partition.log.truncate(end_offset);
            partition.lead(Some(node));
            Ok(())
        })
    }

    /// Takes the leader of a partition away until [`EmbeddedKafka::elect_leader`], as if all its replicas were offline.
    ///
    /// Clients can neither read nor write the partition, and waiting fetches return. Committed offsets stay.
    ///
    /// # Errors
    /// [`ControlError`] when there is no such partition.
    pub fn lose_leader(&self, topic: &str, partition: i32) -> Result<(), ControlError> {
        self.change_partition(topic, partition, |partition, cluster| {
            partition.set_offline(true);
            partition.elect(cluster);
            Ok(())
        })
    }

    /// Gives a partition a leader back, with its log: its first replica on a running node.
    ///
    /// # Errors
    /// [`ControlError`] when there is no such partition.
    pub fn elect_leader(&self, topic: &str, partition: i32) -> Result<(), ControlError> {
        self.change_partition(topic, partition, |partition, cluster| {
            partition.set_offline(false);
            partition.elect(cluster);
            Ok(())
        })
    }

    /// Returns the leader of a partition, `None` without one.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<NodeId> {
        self.owner.with_state(|state, _| Some(state.current_leader(topic, partition)?.0))
    }

    fn change_partition(
        &self,
        topic: &str,
        index: i32,
        change: impl FnOnce(&mut Partition, &Cluster) -> Result<(), ControlError>,
    ) -> Result<(), ControlError> {
        self.owner.with_state(|state, _| {
            let (found, cluster) = state.topic_and_cluster(topic);
            let found = found.and_then(|found| found.partition_mut(index).ok());
            let unknown = || ControlError::UnknownPartition { topic: topic.to_owned(), index };
            change(found.ok_or_else(unknown)?, cluster)
        })
    }
}

/// Topics.
impl EmbeddedKafka {
    /// Deletes a topic and creates it again at once, with the same configuration and replicas but another topic id.
    ///
    /// Its records and committed offsets are gone, and its leader epochs begin at 0.
    ///
    /// # Errors
    /// [`ControlError`] when there is no such topic.
    pub fn recreate_topic(&self, topic: &str) -> Result<(), ControlError> {
        let unknown = || ControlError::UnknownTopic { topic: topic.to_owned() };
        let is_created = self.owner.with_state(|state, _| state.recreate_topic(topic));
        if is_created { Ok(()) } else { Err(unknown()) }
    }
}

/// Nodes and their roles.
impl EmbeddedKafka {
    /// Stops a node: its connections close, and its port refuses new ones until [`EmbeddedKafka::start_node`].
    ///
    /// Another replica leads each of its partitions, with one more leader epoch; a partition without another running
    /// replica has no leader. Other nodes become the controller and the coordinator of its groups, whose members keep their
    /// membership and begin new sessions. A node that is stopped already stays so.
    ///
    /// # Errors
    /// [`ControlError`] when there is no such node.
    ///
    /// # Cancel safety
    /// A dropped call may leave the node in Metadata with a closed port.
    pub async fn stop_node(&self, node: NodeId) -> Result<(), ControlError> {
        self.port(node)?.close().await;
        self.owner.with_state(|state, now| state.set_running(node, false, now));
        Ok(())
    }

    /// Starts a stopped node on its port. It leads only partitions that have no leader otherwise.
    ///
    /// # Errors
    /// [`ControlError`] when there is no such node, or another program has its port.
    ///
    /// # Cancel safety
    /// Cancel safe: the node runs or is stopped.
    pub async fn start_node(&self, node: NodeId) -> Result<(), ControlError> {
        let port = self.port(node)?;
        let failed = |source| StartError::Listen { address: port.address, source };
        // The state comes first: whoever connects finds a node that knows of itself.
        self.owner.with_state(|state, now| state.set_running(node, true, now));
        if let Err(error) = port.reopen(&self.owner).await {
            self.owner.with_state(|state, now| state.set_running(node, false, now));
            return Err(ControlError::Start(failed(error)));
        }
        Ok(())
    }

    /// Makes a node the coordinator of a group, whose members keep their membership and begin new sessions.
    ///
    /// Waiting `JoinGroup` and `SyncGroup` requests get `NOT_COORDINATOR`, and an unfinished rebalance is lost.
    ///
    /// # Errors
    /// [`ControlError`] when the node does not run.
    pub fn move_coordinator(&self, group_id: &str, node: NodeId) -> Result<(), ControlError> {
        self.with_running(node, |state, now| state.move_coordinator(group_id, node, now))
    }

    /// Returns the coordinator of a group.
    pub fn coordinator(&self, group_id: &str) -> Option<NodeId> {
        self.owner.with_state(|state, _| state.cluster.coordinator(group_id).map(|node| node.id))
    }

    /// Makes a node the controller, which alone creates, grows and deletes topics. It is the first node before.
    ///
    /// # Errors
    /// [`ControlError`] when the node does not run.
    pub fn move_controller(&self, node: NodeId) -> Result<(), ControlError> {
        self.with_running(node, |state, _| state.cluster.move_controller(node))
    }

    fn with_running(
        &self,
        node: NodeId,
        change: impl FnOnce(&mut State, Duration),
    ) -> Result<(), ControlError> {
        self.owner.with_state(|state, now| {
            if !state.cluster.is_running(node) {
                return Err(ControlError::UnavailableNode { node });
            }
            change(state, now);
            Ok(())
        })
    }

    fn port(&self, node: NodeId) -> Result<&NodePort, ControlError> {
        let found = self.ports.iter().find(|port| port.node == node);
        found.ok_or(ControlError::UnavailableNode { node })
    }
}

/// Limits.
impl EmbeddedKafka {
    /// Sets `offset.metadata.max.bytes`, in UTF-16 units, for all later commits.
    pub fn limit_offset_metadata(&self, chars_max: usize) {
        self.owner.with_state(|state, _| state.groups.metadata_chars_max = chars_max);
    }

    /// Sets how many fetch sessions there may be on all nodes together, 1000 before. The least recently used one makes room
    /// for a new one; its client gets `FETCH_SESSION_ID_NOT_FOUND`. With 0 there are no sessions, and all clients get session
    /// id 0.
    pub fn limit_fetch_sessions(&self, sessions_max: usize) {
        self.owner.with_state(|state, _| state.fetch_sessions.set_limit(sessions_max));
    }

    /// Sets `producer_byte_rate`, the quota of every client id on every node, in bytes of Produce requests a second; `None`
    /// is unlimited.
    ///
    /// Ten seconds' bytes pass at once. Then the broker answers a request and names the throttle in it, and reads the
    /// connection's next request when that is over.
    pub fn limit_produce_rate(&self, bytes_per_second: Option<u64>) {
        self.owner.with_state(|state, _| state.produce_quota.set(bytes_per_second));
    }

    /// Sets `consumer_byte_rate`, the quota of every client id on every node, in bytes of fetched records a second; `None`
    /// is unlimited.
    ///
    /// Ten seconds' bytes pass at once, and are the most that an answer holds. Then the broker answers a fetch with the
    /// throttle and without partitions, and reads the connection's next request when that is over. As with Kafka, a batch
    /// larger than ten seconds' bytes never passes.
    pub fn limit_fetch_rate(&self, bytes_per_second: Option<u64>) {
        self.owner.with_state(|state, _| state.fetch_quota.set(bytes_per_second));
    }

    /// Sets `fetch.max.bytes`, 55 MiB before: where an answer ends, inside a batch. Only an answer's first batch is whole
    /// even if it is larger.
    pub fn limit_fetch_bytes(&self, bytes_max: usize) {
        self.owner.with_state(|state, _| state.settings.fetch_bytes_max = bytes_max);
    }

    /// Sets `min.insync.replicas` of topics that do not set it, 1 before. Writes with acks=all get `NOT_ENOUGH_REPLICAS` while
    /// fewer replicas run; with more than there are nodes, always.
    pub fn require_in_sync(&self, replicas: usize) {
        self.owner.with_state(|state, _| state.settings.min_insync_replicas = replicas);
    }

    /// Sets `connections.max.idle.ms`, which applies to a connection from its next request on.
    pub fn limit_idle(&self, idle_max: Duration) {
        self.owner.with_state(|state, _| state.settings.idle_max = Some(idle_max));
    }
}
