//! The nodes of the cluster: their addresses, which of them run, the controller, and the coordinators of groups.

use std::collections::{BTreeMap, BTreeSet};

use kafka_core::NodeId;

/// The id of the first node; the others follow.
const FIRST_NODE: NodeId = 1;

/// A broker of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// The host in Metadata and `FindCoordinator` responses.
    pub(crate) host: String,
    pub(crate) port: u16,
    is_running: bool,
}

/// All nodes. They share topics and groups; a role decides which of them answers.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    controller: NodeId,
    /// The coordinator of every group that a client has named.
    coordinators: BTreeMap<String, NodeId>,
}

impl Cluster {
    /// Creates a cluster of running nodes at these hosts and ports.
    pub(crate) fn new(addresses: impl IntoIterator<Item = (String, u16)>) -> Self {
        let node = |(id, (host, port))| Node { id, host, port, is_running: true };
        Self {
            nodes: (FIRST_NODE..).zip(addresses).map(node).collect(),
            controller: FIRST_NODE,
            coordinators: BTreeMap::new(),
        }
    }

    /// Returns a node, whether it runs or not.
    pub(crate) fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Returns the nodes that run, in the order of their ids.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_running)
    }

    /// Returns the nodes that do not run.
    pub(crate) fn stopped(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|node| !node.is_running).map(|node| node.id).collect()
    }

    /// Returns the running nodes with one of these ids, each once.
    pub(crate) fn named(&self, ids: impl Iterator<Item = NodeId>) -> impl Iterator<Item = &Node> {
        let ids: BTreeSet<NodeId> = ids.collect();
        self.running().filter(move |node| ids.contains(&node.id))
    }

    pub(crate) fn is_running(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| node.is_running)
    }

    /// Returns the replicas of the partition with an index: `factor` of the running nodes, the preferred leader first.
    pub(crate) fn place(&self, index: usize, factor: usize) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.running().map(|node| node.id).collect();
        let first = index.checked_rem(nodes.len()).unwrap_or(0);
        nodes.rotate_left(first);
        nodes.truncate(factor);
        nodes
    }

    pub(crate) fn controller(&self) -> NodeId {
        self.controller
    }

    /// Makes a running node the controller.
    pub(crate) fn move_controller(&mut self, id: NodeId) {
        self.controller = id;
    }

    /// Returns the coordinator of a group, which stays until its node stops.
    pub(crate) fn coordinator(&mut self, group_id: &str) -> Option<&Node> {
        if let Some(id) = self.coordinators.get(group_id) {
            return self.get(*id);
        }
        let id = self.choose_coordinator(group_id)?;
        self.coordinators.insert(group_id.to_owned(), id);
        self.get(id)
    }

    /// Makes a running node the coordinator of a group.
    pub(crate) fn move_coordinator(&mut self, group_id: &str, id: NodeId) {
        self.coordinators.insert(group_id.to_owned(), id);
    }

    /// Marks a node as running or stopped, elects a controller, and returns the groups that get another coordinator.
    pub(crate) fn set_running(&mut self, id: NodeId, is_running: bool) -> Vec<String> {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.id == id) {
            node.is_running = is_running;
        }
        let successor = self.running().next().map(|node| node.id);
        if !self.is_running(self.controller) {
            self.controller = successor.unwrap_or(self.controller);
        }
        let is_lost = |(_, coordinator): &(&String, &NodeId)| !self.is_running(**coordinator);
        let lost = self.coordinators.iter().filter(is_lost).map(|(group_id, _)| group_id.clone());
        let lost: Vec<String> = lost.collect();
        for group_id in &lost {
            if let Some(chosen) = self.choose_coordinator(group_id) {
                self.coordinators.insert(group_id.clone(), chosen);
            }
        }
        lost
    }

    /// Chooses by the group's name, so that groups spread over the nodes.
    fn choose_coordinator(&self, group_id: &str) -> Option<NodeId> {
        let hash = group_id
            .bytes()
            .fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let place = hash.checked_rem(self.running().count())?;
        self.running().nth(place).map(|node| node.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        Cluster::new((1..=3).map(|port| ("localhost".to_owned(), port)))
    }

    #[test]
    fn partitions_spread_over_the_running_nodes() {
        let mut cluster = cluster();
        let places: Vec<_> = (0..4).map(|index| cluster.place(index, 2)).collect();
        assert_eq!(places, [[1, 2], [2, 3], [3, 1], [1, 2]]);
        cluster.set_running(2, false);
        assert_eq!(cluster.place(1, 3), [3, 1]);
    }

    #[test]
    fn roles_of_a_stopped_node_move_and_stay_when_it_is_back() {
        let mut cluster = cluster();
        let before = cluster.coordinator("group").unwrap().id;
        cluster.move_controller(before);
        assert_eq!(cluster.set_running(before, false), ["group"]);
        let after = cluster.coordinator("group").unwrap().id;
        assert!(cluster.is_running(after) && cluster.is_running(cluster.controller()));
        assert_eq!(cluster.set_running(before, true), Vec::<String>::new());
        assert_eq!(cluster.coordinator("group").unwrap().id, after);
    }

    #[test]
    fn a_cluster_without_nodes_has_no_roles_until_one_starts() {
        let mut cluster = cluster();
        cluster.move_coordinator("group", 3);
        for id in 1..=3 {
            cluster.set_running(id, false);
        }
        assert!(cluster.coordinator("other").is_none());
        assert_eq!(cluster.set_running(2, true), ["group"]);
        assert_eq!((cluster.controller(), cluster.coordinator("group").unwrap().id), (2, 2));
    }
}
