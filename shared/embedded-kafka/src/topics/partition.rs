//! One partition: its log, its replicas and its leader.
//!
//! There is no replication: the replicas share one log. A node without the lead refuses all requests, fetches of consumers
//! included, which Kafka's followers serve (KIP-392).

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;

use crate::cluster::Cluster;
use crate::log::PartitionLog;

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) log: PartitionLog,
    replicas: Vec<NodeId>,
    leader: Option<NodeId>,
    leader_epoch: i32,
    /// Whether a test has taken all replicas offline, although their nodes run.
    is_offline: bool,
}

impl Partition {
    /// Creates an empty partition on running nodes, the first of which leads.
    pub(crate) fn new(replicas: Vec<NodeId>) -> Self {
        Self {
            log: PartitionLog::default(),
            leader: replicas.first().copied(),
            replicas,
            leader_epoch: 0,
            is_offline: false,
        }
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Returns the number of changes of the leader so far.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Returns the nodes with a replica, the preferred leader first.
    pub(crate) fn replicas(&self) -> &[NodeId] {
        &self.replicas
    }

    /// Returns whether a node has a replica that is online, and so in sync.
    pub(crate) fn is_in_sync(&self, node: NodeId, cluster: &Cluster) -> bool {
        !self.is_offline && self.replicas.contains(&node) && cluster.is_running(node)
    }

    pub(crate) fn in_sync_count(&self, cluster: &Cluster) -> usize {
        self.replicas.iter().filter(|replica| self.is_in_sync(**replica, cluster)).count()
    }

    /// Checks that `node` leads the partition, and that the client knows of that; epoch −1 means that it does not say.
    ///
    /// # Errors
    /// `NOT_LEADER_OR_FOLLOWER`, `FENCED_LEADER_EPOCH` from a client that is behind, `UNKNOWN_LEADER_EPOCH` from one that
    /// is ahead.
    pub(crate) fn check_leader(
        &self,
        node: NodeId,
        current_leader_epoch: i32,
    ) -> Result<(), ResponseError> {
        if self.leader.is_none() || !self.replicas.contains(&node) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        // As in Kafka, a former leader that is a follower now checks the epoch first.
        if (0 <= current_leader_epoch) && (current_leader_epoch < self.leader_epoch) {
            return Err(ResponseError::FencedLeaderEpoch);
        }
        if self.leader_epoch < current_leader_epoch {
            return Err(ResponseError::UnknownLeaderEpoch);
        }
        if self.leader == Some(node) { Ok(()) } else { Err(ResponseError::NotLeaderOrFollower) }
    }

    /// Takes all replicas offline or brings them back.
    pub(crate) fn set_offline(&mut self, is_offline: bool) {
        self.is_offline = is_offline;
    }

    /// Elects a leader if the present one is gone: the first replica in sync, if any.
    pub(crate) fn elect(&mut self, cluster: &Cluster) {
        if self.leader.is_some_and(|leader| self.is_in_sync(leader, cluster)) {
            return;
        }
        let mut candidates = self.replicas.iter().copied();
        let elected = candidates.find(|replica| self.is_in_sync(*replica, cluster));
        if elected != self.leader {
            self.lead(elected);
        }
    }

    /// Begins a leader epoch, at the end of the log if there is a leader.
    pub(crate) fn lead(&mut self, leader: Option<NodeId>) {
        self.leader = leader;
        self.leader_epoch += 1;
        if leader.is_some() {
            self.log.begin_epoch(self.leader_epoch);
        }
    }
}
