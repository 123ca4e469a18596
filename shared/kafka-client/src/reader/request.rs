//! Fetch requests.

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{self, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::ReaderConfig;
use super::lanes::Asked;
use super::session::{Key, Params, SessionRequest};
use crate::cluster::topic_name;
use crate::fetch::TOPIC_IDS_SINCE;

/// Isolation level that ends at the last stable offset.
const READ_COMMITTED: i8 = 1;
/// A request outside any session.
const NO_SESSION: (i32, i32) = (0, -1);

/// Returns whether all topics of a request can be named by their ids. Brokers that are being upgraded may have none.
pub(super) fn has_ids(asked: &Asked) -> bool {
    match asked {
        Asked::Solo(solo) => !solo.key.topic_id.is_nil(),
        Asked::Session(session) => session.has_ids,
    }
}

/// Returns a request; the broker may wait `wait` for records.
pub(super) fn request(
    asked: &Asked,
    config: &ReaderConfig,
    wait: Duration,
    version: i16,
) -> messages::FetchRequest {
    let request = messages::FetchRequest::default()
        .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_isolation_level(READ_COMMITTED)
        .with_rack_id(config.rack.clone().map(StrBytes::from_string).unwrap_or_default());
    match asked {
        Asked::Solo(solo) => {
            let (id, epoch) = NO_SESSION;
            let topics = topics(std::iter::once((&solo.key, solo.params)), version);
            request
                .with_max_bytes(config.response_bytes_max.max(solo.params.room))
                .with_session_id(id)
                .with_session_epoch(epoch)
                .with_topics(topics)
        }
        Asked::Session(SessionRequest { id, epoch, fetch, forget, .. }) => {
            let topics = topics(fetch.iter().map(|(key, params)| (key, *params)), version);
            request
                .with_max_bytes(config.response_bytes_max)
                .with_session_id(*id)
                .with_session_epoch(*epoch)
                .with_topics(topics)
                .with_forgotten_topics_data(forgotten(forget, version))
        }
    }
}

fn topics<'a>(
    partitions: impl Iterator<Item = (&'a Key, Params)>,
    version: i16,
) -> Vec<FetchTopic> {
    let mut topics: Vec<(&Key, FetchTopic)> = Vec::new();
    for (key, params) in partitions {
        let partition = FetchPartition::default()
            .with_partition(key.tp.partition)
            .with_fetch_offset(params.offset)
            .with_current_leader_epoch(params.leader_epoch)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(params.room);
        if let Some((_, topic)) = topics.last_mut().filter(|(last, _)| is_same_topic(last, key)) {
            topic.partitions.push(partition);
        } else {
            let (name, id) = named(key, version);
            let topic = FetchTopic::default().with_topic(name).with_topic_id(id);
            topics.push((key, topic.with_partitions(vec![partition])));
        }
    }
    topics.into_iter().map(|(_, topic)| topic).collect()
}

fn forgotten(keys: &[Key], version: i16) -> Vec<ForgottenTopic> {
    let mut topics: Vec<(&Key, ForgottenTopic)> = Vec::new();
    for key in keys {
        if let Some((_, topic)) = topics.last_mut().filter(|(last, _)| is_same_topic(last, key)) {
            topic.partitions.push(key.tp.partition);
        } else {
            let (name, id) = named(key, version);
            let topic = ForgottenTopic::default().with_topic(name).with_topic_id(id);
            topics.push((key, topic.with_partitions(vec![key.tp.partition])));
        }
    }
    topics.into_iter().map(|(_, topic)| topic).collect()
}

fn is_same_topic(one: &Key, other: &Key) -> bool {
    (one.topic_id, &one.tp.topic) == (other.topic_id, &other.tp.topic)
}

/// Returns a topic's name or id, as the version wants it; the other one is empty.
fn named(key: &Key, version: i16) -> (TopicName, Uuid) {
    if version >= TOPIC_IDS_SINCE {
        (TopicName::default(), key.topic_id)
    } else {
        (topic_name(&key.tp.topic), Uuid::nil())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_core::TopicPartition;

    fn key(topic: &str, partition: i32) -> Key {
        let topic_id = Uuid::from_u128(if topic == "orders" { 1 } else { 2 });
        Key { topic_id, tp: TopicPartition::new(topic, partition) }
    }

    #[test]
    fn a_request_names_topics_as_its_version_does_and_each_once() {
        let params = Params { offset: 5, leader_epoch: 3, room: 99 };
        let keys = [key("orders", 0), key("orders", 1), key("replay", 0)];
        let session = SessionRequest {
            id: 7,
            epoch: 2,
            has_ids: true,
            fetch: keys.iter().map(|key| (key.clone(), params)).collect(),
            forget: keys.to_vec(),
        };
        let asked = Asked::Session(session);
        for version in [12, 13] {
            let wait = Duration::from_millis(9);
            let request = request(&asked, &ReaderConfig::default(), wait, version);
            let ids = if version == 13 { [1, 2] } else { [0, 0] };
            let names = if version == 13 { ["", ""] } else { ["orders", "replay"] };
            let topics = request.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| partition.partition);
                (topic.topic_id.as_u128(), topic.topic.as_str(), partitions.collect::<Vec<_>>())
            });
            let expected = [(ids[0], names[0], vec![0, 1]), (ids[1], names[1], vec![0])];
            assert_eq!(topics.collect::<Vec<_>>(), expected);
            let forgotten = request.forgotten_topics_data.iter().map(|topic| {
                (topic.topic_id.as_u128(), topic.topic.as_str(), topic.partitions.clone())
            });
            assert_eq!(forgotten.collect::<Vec<_>>(), expected);
            let partition = &request.topics[0].partitions[0];
            let fields = (
                partition.fetch_offset,
                partition.current_leader_epoch,
                partition.partition_max_bytes,
            );
            assert_eq!(fields, (5, 3, 99));
            assert_eq!((request.session_id, request.session_epoch), (7, 2));
        }
    }
}
