//! What the cluster has told about its brokers and topics.
//!
//! Brokers learn of changes one after the other, so an answer may be older than the one before it. A leader is replaced only by one
//! with a higher or the same leader epoch (KIP-320). A topic's id is replaced only after two answers with the new one (KIP-516): a
//! single answer may come from a broker that lags behind, and readers give up a partition's position with its topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_core::{NodeId, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataResponse};
use uuid::Uuid;

/// The leader of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The broker.
    pub node: NodeId,
    /// The number of its election; −1 if the broker does not tell it.
    pub epoch: i32,
}

/// The metadata of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The topic's id: another one after the topic was deleted and created again (KIP-516). The nil id if the brokers have none.
    pub topic_id: Uuid,
    /// The leader of each partition, `None` while it has none.
    pub leaders: BTreeMap<i32, Option<Leader>>,
}

impl TopicMetadata {
    /// Returns the partitions of this topic with the name `name`.
    pub fn partitions(&self, name: &str) -> Vec<TopicPartition> {
        self.leaders.keys().map(|index| TopicPartition::new(name, *index)).collect()
    }

    /// Returns how many partitions the topic has.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.leaders.len()).unwrap_or(i32::MAX)
    }
}

/// What is known of the cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `host:port` of each broker.
    addresses: BTreeMap<NodeId, Arc<str>>,
    controller: Option<NodeId>,
    topics: BTreeMap<String, Known>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    topic: TopicMetadata,
    /// Another id that one answer had for the topic.
    doubted_id: Option<Uuid>,
}

/// The metadata of each topic of an answer, or the error with which the cluster refuses to describe it.
pub type Described = BTreeMap<String, Result<TopicMetadata, ResponseError>>;

impl Metadata {
    /// Returns the leader of `tp`, if it is known and has one.
    pub fn leader(&self, tp: &TopicPartition) -> Option<Leader> {
        self.topic(&tp.topic)?.leaders.get(&tp.partition).copied().flatten()
    }

    /// Returns the topic, as far as the cluster has told of it.
    pub fn topic(&self, name: &str) -> Option<&TopicMetadata> {
        self.topics.get(name).map(|known| &known.topic)
    }

    /// Returns the `host:port` of broker `node`.
    pub fn address(&self, node: NodeId) -> Option<&Arc<str>> {
        self.addresses.get(&node)
    }

    /// Returns the addresses of all brokers.
    pub fn addresses(&self) -> impl Iterator<Item = &Arc<str>> {
        self.addresses.values()
    }

    /// Returns the broker at `address`.
    pub fn node(&self, address: &str) -> Option<NodeId> {
        self.addresses.iter().find(|(_, known)| known.as_ref() == address).map(|(node, _)| *node)
    }

    /// Returns the `host:port` of the controller, or of a broker that forwards requests to it.
    pub fn controller(&self) -> Option<&Arc<str>> {
        self.address(self.controller?)
    }

    /// Merges an answer and returns what it says of its topics, with what is newer than the answer.
    pub(super) fn merge(&mut self, response: &MetadataResponse) -> Described {
        self.addresses = response
            .brokers
            .iter()
            .map(|broker| {
                let address = format!("{}:{}", broker.host.as_str(), broker.port);
                (broker.node_id.0, address.into())
            })
            .collect();
        self.controller = Some(response.controller_id.0).filter(|node| *node >= 0);
        response.topics.iter().map(|topic| self.merge_topic(topic)).collect()
    }

    fn merge_topic(
        &mut self,
        answer: &MetadataResponseTopic,
    ) -> (String, Result<TopicMetadata, ResponseError>) {
        let name = answer.name.as_ref().map(|name| name.0.to_string()).unwrap_or_default();
        match ResponseError::try_from_code(answer.error_code) {
            None | Some(ResponseError::LeaderNotAvailable) => {}
            // The leaders stay known: a broker may forget a topic for a moment.
            Some(error) => return (name, Err(error)),
        }
        let mut topic = read_topic(answer);
        let known = self.topics.get(&name);
        if let Some(known) = known
            && topic.topic_id != known.topic.topic_id
            && !topic.topic_id.is_nil()
            && !known.topic.topic_id.is_nil()
            && known.doubted_id != Some(topic.topic_id)
        {
            let known = Known { doubted_id: Some(topic.topic_id), ..known.clone() };
            let topic = known.topic.clone();
            self.topics.insert(name.clone(), known);
            return (name, Ok(topic));
        }
        if let Some(Known { topic: known, .. }) = known {
            if topic.topic_id.is_nil() {
                topic.topic_id = known.topic_id;
            }
            if topic.topic_id == known.topic_id {
                topic.keep_newer_leaders(known);
            }
        }
        self.topics.insert(name.clone(), Known { topic: topic.clone(), doubted_id: None });
        (name, Ok(topic))
    }

    /// Notes a leader that another answer than Metadata has named (KIP-951); returns whether that is news.
    pub(super) fn note_leader(
        &mut self,
        tp: &TopicPartition,
        leader: Leader,
        address: Option<Arc<str>>,
    ) -> bool {
        let Some(known) = self.topics.get_mut(tp.topic.as_ref()) else { return false };
        let Some(present) = known.topic.leaders.get_mut(&tp.partition) else { return false };
        if present.is_some_and(|present| leader.epoch <= present.epoch) {
            return false;
        }
        match (address, self.addresses.contains_key(&leader.node)) {
            (Some(address), _) => drop(self.addresses.insert(leader.node, address)),
            (None, true) => {}
            (None, false) => return false,
        }
        *present = Some(leader);
        true
    }
}

impl TopicMetadata {
    /// Replaces leaders of earlier elections than `known` has.
    fn keep_newer_leaders(&mut self, known: &Self) {
        for (index, leader) in &mut self.leaders {
            let newer = known.leaders.get(index).copied().flatten();
            if let (Some(leader), Some(newer)) = (leader.as_mut(), newer)
                && leader.epoch < newer.epoch
                && leader.epoch >= 0
            {
                *leader = newer;
            }
        }
    }
}

fn read_topic(topic: &MetadataResponseTopic) -> TopicMetadata {
    let leaders = topic.partitions.iter().map(|partition| {
        let leader = read_leader(partition);
        (partition.partition_index, leader)
    });
    TopicMetadata { topic_id: topic.topic_id, leaders: leaders.collect() }
}

fn read_leader(partition: &MetadataResponsePartition) -> Option<Leader> {
    let BrokerId(node) = partition.leader_id;
    (node >= 0).then_some(Leader { node, epoch: partition.leader_epoch })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_response::MetadataResponseBroker;

    use super::*;
    use crate::cluster::topic_name;

    const FIRST_ID: Uuid = Uuid::from_u128(1);
    const OTHER_ID: Uuid = Uuid::from_u128(2);

    /// An answer about the only partition of `orders`.
    fn answer(topic_id: Uuid, node: NodeId, epoch: i32) -> MetadataResponse {
        let partition = MetadataResponsePartition::default()
            .with_leader_id(node.into())
            .with_leader_epoch(epoch);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(topic_name("orders")))
            .with_topic_id(topic_id)
            .with_partitions(vec![partition]);
        let broker = |node: NodeId| {
            MetadataResponseBroker::default()
                .with_node_id(node.into())
                .with_host("broker".into())
                .with_port(node)
        };
        MetadataResponse::default()
            .with_brokers(vec![broker(1), broker(2)])
            .with_controller_id(2.into())
            .with_topics(vec![topic])
    }

    fn leader(metadata: &Metadata) -> Option<(NodeId, i32)> {
        let leader = metadata.leader(&TopicPartition::new("orders", 0))?;
        Some((leader.node, leader.epoch))
    }

    #[test]
    fn a_leader_of_an_earlier_election_replaces_none_of_a_later_one() {
        let mut metadata = Metadata::default();
        for (answered, kept) in [
            ((1, 5), Some((1, 5))),
            ((2, 6), Some((2, 6))),
            ((1, 5), Some((2, 6))),
            ((-1, 7), None),
            ((1, 8), Some((1, 8))),
            // A broker that tells no epochs is believed.
            ((2, -1), Some((2, -1))),
        ] {
            let described = metadata.merge(&answer(FIRST_ID, answered.0, answered.1));
            assert_eq!(leader(&metadata), kept, "after {answered:?}");
            assert_eq!(described["orders"].as_ref().ok(), metadata.topic("orders"));
        }
    }

    #[test]
    fn another_topic_id_is_believed_when_it_is_seen_twice() {
        let mut metadata = Metadata::default();
        let mut id_after = |topic_id, epoch| {
            metadata.merge(&answer(topic_id, 1, epoch));
            (metadata.topic("orders").unwrap().topic_id, leader(&metadata).unwrap().1)
        };
        assert_eq!(id_after(FIRST_ID, 9), (FIRST_ID, 9));
        assert_eq!(id_after(OTHER_ID, 0), (FIRST_ID, 9), "one answer");
        assert_eq!(id_after(FIRST_ID, 9), (FIRST_ID, 9), "it was a broker that lags behind");
        assert_eq!(id_after(OTHER_ID, 0), (FIRST_ID, 9), "one answer again");
        assert_eq!(id_after(OTHER_ID, 0), (OTHER_ID, 0), "its elections are counted anew");
        assert_eq!(id_after(Uuid::nil(), 1), (OTHER_ID, 1), "a nil id is no id");
    }

    #[test]
    fn a_topic_that_is_refused_for_a_moment_keeps_its_leaders() {
        let mut metadata = Metadata::default();
        metadata.merge(&answer(FIRST_ID, 1, 0));
        let mut refused = answer(FIRST_ID, 1, 0);
        refused.topics[0].error_code = ResponseError::UnknownTopicOrPartition.code();
        let described = metadata.merge(&refused);
        assert_eq!(described["orders"], Err(ResponseError::UnknownTopicOrPartition));
        assert_eq!(leader(&metadata), Some((1, 0)));
    }

    #[test]
    fn a_leader_that_a_fetch_or_produce_names_is_taken_if_its_election_is_later() {
        let tp = TopicPartition::new("orders", 0);
        let mut metadata = Metadata::default();
        let hint = |node, epoch| Leader { node, epoch };
        assert!(!metadata.note_leader(&tp, hint(1, 1), Some("a:1".into())), "an unknown topic");
        metadata.merge(&answer(FIRST_ID, 1, 5));
        for (node, epoch, address, is_news) in [
            (2, 5, None, false),
            (2, 4, None, false),
            (2, 6, None, true),
            (3, 7, None, false),
            (3, 7, Some("c:3"), true),
        ] {
            let address = address.map(Arc::from);
            let noted = metadata.note_leader(&tp, hint(node, epoch), address);
            assert_eq!(noted, is_news, "{node} {epoch}");
        }
        assert_eq!(leader(&metadata), Some((3, 7)));
        assert_eq!(metadata.address(3).map(AsRef::as_ref), Some("c:3"));
        assert_eq!(metadata.controller().map(AsRef::as_ref), Some("broker:2"));
    }
}
