//! Fetch requests.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_core::TopicPartition;
use kafka_protocol::messages::{
    self,
    fetch_request::{FetchPartition, FetchTopic},
};
use uuid::Uuid;

use super::config::ReaderConfig;
use crate::cluster::topic_name;

/// The first version of Fetch that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// Isolation level that ends at the last stable offset.
const READ_COMMITTED: i8 = 1;

/// One partition of a request.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) topic_id: Uuid,
    pub(super) position: i64,
    /// The offset to fetch from: the position, or a lower one.
    pub(super) asked: i64,
    /// `partition_max_bytes` of the request.
    pub(super) room: i32,
    /// How long the broker may look for data, if the usual time was too short.
    pub(super) wait: Option<Duration>,
    /// Whether the broker can find the position in its log.
    pub(super) is_findable: bool,
    /// Whether it must be the first partition of the request.
    pub(super) is_urgent: bool,
    pub(super) addition: u64,
}

/// Returns the partitions in the order of the request. A broker fills its response in this order, and only the first
/// partition with data gets a batch larger than the room left. So the order rotates from request to request.
pub(super) fn rotated(
    wanted: &BTreeMap<TopicPartition, Wanted>,
    rotation: usize,
) -> Vec<&TopicPartition> {
    let mut order: Vec<&TopicPartition> = wanted.keys().collect();
    let start = rotation.checked_rem(order.len()).unwrap_or(0);
    order.rotate_left(start);
    order.sort_by_key(|tp| wanted.get(tp).is_none_or(|source| !source.is_urgent));
    order
}

/// Returns a request for the partitions of `order`; the broker may wait `wait` for records.
pub(super) fn request(
    order: &[&TopicPartition],
    wanted: &BTreeMap<TopicPartition, Wanted>,
    config: &ReaderConfig,
    wait: Duration,
    version: i16,
) -> messages::FetchRequest {
    let mut room_max = config.response_bytes_max;
    let mut partitions: Vec<((&str, Uuid), Vec<FetchPartition>)> = Vec::new();
    for (tp, source) in order.iter().filter_map(|tp| wanted.get_key_value(*tp)) {
        room_max = room_max.max(source.room);
        let topic = (tp.topic.as_ref(), source.topic_id);
        let partition = FetchPartition::default()
            .with_partition(tp.partition)
            .with_fetch_offset(source.asked)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(source.room);
        match partitions.iter_mut().find(|(other, _)| *other == topic) {
            Some((_, partitions)) => partitions.push(partition),
            None => partitions.push((topic, vec![partition])),
        }
    }
    let topics = partitions
        .into_iter()
        .map(|((name, id), partitions)| {
            let topic = FetchTopic::default().with_partitions(partitions);
            if version >= TOPIC_IDS_SINCE {
                topic.with_topic_id(id)
            } else {
                topic.with_topic(topic_name(name))
            }
        })
        .collect();
    messages::FetchRequest::default()
        .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(room_max)
        .with_isolation_level(READ_COMMITTED)
        // No fetch session (KIP-227): every request names all it wants.
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[(&str, i32)]) -> BTreeMap<TopicPartition, Wanted> {
        let one = |(topic, partition): &(&str, i32)| {
            let topic_id = Uuid::from_u128(if *topic == "orders" { 1 } else { 2 });
            let wanted = Wanted {
                topic_id,
                position: 7,
                asked: 5,
                room: 99,
                wait: None,
                is_findable: true,
                is_urgent: false,
                addition: 1,
            };
            (TopicPartition::new(*topic, *partition), wanted)
        };
        names.iter().map(one).collect()
    }

    #[test]
    fn each_partition_is_the_first_of_a_request_by_turns() {
        let mut wanted = wanted(&[("orders", 0), ("orders", 1), ("replay", 0), ("replay", 1)]);
        let firsts = |wanted: &BTreeMap<_, _>| -> Vec<String> {
            (0..5).map(|turn| rotated(wanted, turn)[0].to_string()).collect()
        };
        assert_eq!(firsts(&wanted), ["orders-0", "orders-1", "replay-0", "replay-1", "orders-0"]);
        wanted.get_mut(&TopicPartition::new("replay", 0)).unwrap().is_urgent = true;
        assert_eq!(firsts(&wanted), ["replay-0"; 5], "it has to be");
        assert!(rotated(&BTreeMap::new(), 3).is_empty());
    }

    #[test]
    fn a_request_names_each_topic_once_and_begins_with_the_partition_whose_turn_it_is() {
        let wanted = wanted(&[("orders", 0), ("orders", 1), ("replay", 0)]);
        let order = rotated(&wanted, 1);
        let config = ReaderConfig { response_bytes_max: 50, ..ReaderConfig::default() };
        let request = request(&order, &wanted, &config, Duration::from_millis(9), 13);
        let topics: Vec<(u128, Vec<i32>)> = request
            .topics
            .iter()
            .map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| partition.partition);
                (topic.topic_id.as_u128(), partitions.collect())
            })
            .collect();
        assert_eq!(topics, [(1, vec![1, 0]), (2, vec![0])]);
        let partition = &request.topics[0].partitions[0];
        assert_eq!((partition.fetch_offset, partition.partition_max_bytes), (5, 99));
        assert_eq!(request.max_bytes, 99, "at least what one partition may need");
    }
}
