//! Sessions, request by request, with invented answers.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::fetch_response::EpochEndOffset;

use super::*;

const NODE: NodeId = 1;
const VERSION: i16 = 12;

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("orders"))
}

/// A request for partitions of one topic.
fn request(id: i32, epoch: i32, partitions: &[i32]) -> FetchRequest {
    let asked = partitions.iter().map(|index| FetchPartition::default().with_partition(*index));
    let topic = FetchTopic::default().with_topic(topic());
    let topics = vec![topic.with_partitions(asked.collect())];
    let request = FetchRequest::default().with_session_id(id).with_session_epoch(epoch);
    if partitions.is_empty() { request } else { request.with_topics(topics) }
}

/// A partition that was read, up to a log end.
fn read(end: i64, records: &'static [u8]) -> PartitionData {
    let records = Some(Bytes::from_static(records));
    PartitionData::default().with_high_watermark(end).with_log_start_offset(0).with_records(records)
}

/// Sends a request that reads the same of each partition, and returns the session and the indexes in the answer.
#[track_caller]
fn fetch(
    sessions: &mut FetchSessions,
    request: &FetchRequest,
    read: &PartitionData,
) -> (i32, Vec<i32>) {
    let plan = sessions.begin(NODE, VERSION, request).unwrap();
    let read = vec![read.clone(); plan.partitions.len()];
    let answered = sessions.finish(&plan, read).unwrap();
    let indexes = answered.partitions.iter().map(|(asked, _)| asked.asked.partition);
    (answered.session_id, indexes.collect())
}

fn refusal(sessions: &mut FetchSessions, request: &FetchRequest) -> ResponseError {
    sessions.begin(NODE, VERSION, request).unwrap_err()
}

#[test]
fn a_session_answers_only_partitions_with_news() {
    let mut sessions = FetchSessions::default();
    let full = fetch(&mut sessions, &request(0, 0, &[0, 1]), &read(5, b""));
    assert_eq!(full, (1, vec![0, 1]), "a full answer holds all partitions");
    assert_eq!(fetch(&mut sessions, &request(1, 1, &[]), &read(5, b"")), (1, vec![]));
    assert_eq!(fetch(&mut sessions, &request(1, 2, &[]), &read(6, b"")), (1, vec![0, 1]));
    assert_eq!(fetch(&mut sessions, &request(1, 3, &[]), &read(6, b"x")), (1, vec![0, 1]));
    let start = read(6, b"").with_log_start_offset(2);
    assert_eq!(fetch(&mut sessions, &request(1, 4, &[]), &start), (1, vec![0, 1]));
    assert_eq!(fetch(&mut sessions, &request(1, 5, &[]), &start), (1, vec![]));
    let epoch = EpochEndOffset::default().with_epoch(0).with_end_offset(3);
    let diverging = start.clone().with_diverging_epoch(epoch);
    assert_eq!(fetch(&mut sessions, &request(1, 6, &[]), &diverging), (1, vec![0, 1]));
    assert_eq!(fetch(&mut sessions, &request(1, 7, &[]), &start), (1, vec![]));
}

#[test]
fn an_error_and_its_end_are_news() {
    let mut sessions = FetchSessions::default();
    fetch(&mut sessions, &request(0, 0, &[0]), &read(5, b""));
    let failed = PartitionData::default().with_error_code(6).with_high_watermark(-1);
    for epoch in [1, 2] {
        assert_eq!(fetch(&mut sessions, &request(1, epoch, &[]), &failed), (1, vec![0]));
    }
    assert_eq!(fetch(&mut sessions, &request(1, 3, &[]), &read(5, b"")), (1, vec![0]));
    assert_eq!(fetch(&mut sessions, &request(1, 4, &[]), &read(5, b"")), (1, vec![]));
}

#[test]
fn partitions_are_added_changed_and_forgotten() {
    let mut sessions = FetchSessions::default();
    fetch(&mut sessions, &request(0, 0, &[0, 1]), &read(5, b""));
    let added = fetch(&mut sessions, &request(1, 1, &[2]), &read(5, b""));
    assert_eq!(added, (1, vec![2]), "what the client does not know yet is news");
    let mut moved = request(1, 2, &[1]);
    moved.topics[0].partitions[0].fetch_offset = 77;
    let plan = sessions.begin(NODE, VERSION, &moved).unwrap();
    let offsets: Vec<_> = plan.partitions.iter().map(|one| one.asked.fetch_offset).collect();
    assert_eq!(offsets, [0, 77, 0]);

    let forgotten = ForgottenTopic::default().with_topic(topic());
    let forget = |epoch, partitions| {
        let topic = forgotten.clone().with_partitions(partitions);
        request(1, epoch, &[]).with_forgotten_topics_data(vec![topic])
    };
    assert_eq!(fetch(&mut sessions, &forget(3, vec![0, 1]), &read(6, b"")), (1, vec![2]));
    assert_eq!(fetch(&mut sessions, &forget(4, vec![2]), &read(6, b"")), (0, vec![]));
    assert_eq!(refusal(&mut sessions, &request(1, 5, &[])), ResponseError::FetchSessionIdNotFound);
}

#[test]
fn partitions_take_turns() {
    let mut sessions = FetchSessions::default();
    fetch(&mut sessions, &request(0, 0, &[0, 1, 2]), &read(5, b""));
    let plan = sessions.begin(NODE, VERSION, &request(1, 1, &[])).unwrap();
    let news = vec![read(6, b"x"), read(5, b""), read(5, b"")];
    assert_eq!(sessions.finish(&plan, news).unwrap().partitions.len(), 1);
    let plan = sessions.begin(NODE, VERSION, &request(1, 2, &[])).unwrap();
    let order: Vec<_> = plan.partitions.iter().map(|one| one.asked.partition).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn wrong_ids_epochs_and_versions_are_refused() {
    let mut sessions = FetchSessions::default();
    fetch(&mut sessions, &request(0, 0, &[0]), &read(5, b""));
    let wrong_epoch = ResponseError::InvalidFetchSessionEpoch;
    assert_eq!(refusal(&mut sessions, &request(7, 1, &[])), ResponseError::FetchSessionIdNotFound);
    assert_eq!(refusal(&mut sessions, &request(1, 2, &[])), wrong_epoch);
    let other_node = sessions.begin(2, VERSION, &request(1, 1, &[])).unwrap_err();
    assert_eq!(other_node, ResponseError::FetchSessionIdNotFound);
    let by_id = sessions.begin(NODE, 13, &request(1, 1, &[])).unwrap_err();
    assert_eq!(by_id, ResponseError::FetchSessionTopicIdError);
    // A second request comes in while the first waits.
    let waiting = sessions.begin(NODE, VERSION, &request(1, 1, &[])).unwrap();
    assert_eq!(refusal(&mut sessions, &request(1, 1, &[])), wrong_epoch);
    fetch(&mut sessions, &request(1, 2, &[]), &read(5, b""));
    assert_eq!(sessions.finish_throttled(&waiting).unwrap_err(), wrong_epoch);
    assert_eq!(sessions.finish(&waiting, vec![read(5, b"")]).unwrap_err(), wrong_epoch);
}

#[test]
fn a_full_request_replaces_its_session_and_a_final_one_ends_it() {
    let mut sessions = FetchSessions::default();
    fetch(&mut sessions, &request(0, 0, &[0]), &read(5, b""));
    assert_eq!(fetch(&mut sessions, &request(1, 0, &[0]), &read(5, b"")), (2, vec![0]));
    assert_eq!(refusal(&mut sessions, &request(1, 1, &[])), ResponseError::FetchSessionIdNotFound);
    assert_eq!(fetch(&mut sessions, &request(2, -1, &[0]), &read(5, b"")), (0, vec![0]));
    assert_eq!(refusal(&mut sessions, &request(2, 1, &[])), ResponseError::FetchSessionIdNotFound);
    assert_eq!(fetch(&mut sessions, &request(0, -1, &[0]), &read(5, b"")), (0, vec![0]));
}

#[test]
fn a_throttled_answer_keeps_the_session_but_begins_none() {
    let mut sessions = FetchSessions::default();
    let plan = sessions.begin(NODE, VERSION, &request(0, 0, &[0])).unwrap();
    assert_eq!(sessions.finish_throttled(&plan).unwrap().session_id, 0);
    fetch(&mut sessions, &request(0, 0, &[0]), &read(5, b""));
    let plan = sessions.begin(NODE, VERSION, &request(1, 1, &[])).unwrap();
    let answered = sessions.finish_throttled(&plan).unwrap();
    assert_eq!((answered.session_id, answered.partitions.len()), (1, 0));
    assert_eq!(fetch(&mut sessions, &request(1, 2, &[]), &read(6, b"")), (1, vec![0]));
}

#[test]
fn the_least_recently_used_session_makes_room() {
    let mut sessions = FetchSessions { sessions_max: 2, ..FetchSessions::default() };
    for id in [1, 2] {
        assert_eq!(fetch(&mut sessions, &request(0, 0, &[0]), &read(5, b"")).0, id);
    }
    fetch(&mut sessions, &request(1, 1, &[]), &read(5, b""));
    assert_eq!(fetch(&mut sessions, &request(0, 0, &[0]), &read(5, b"")).0, 3);
    assert_eq!(refusal(&mut sessions, &request(2, 1, &[])), ResponseError::FetchSessionIdNotFound);
    assert_eq!(fetch(&mut sessions, &request(1, 2, &[]), &read(5, b"")).0, 1);
    sessions.forget_node(NODE);
    assert_eq!(refusal(&mut sessions, &request(1, 3, &[])), ResponseError::FetchSessionIdNotFound);
    fetch(&mut sessions, &request(0, 0, &[0]), &read(5, b""));
    sessions.set_limit(0);
    assert_eq!(refusal(&mut sessions, &request(4, 1, &[])), ResponseError::FetchSessionIdNotFound);
    assert_eq!(fetch(&mut sessions, &request(0, 0, &[0]), &read(5, b"")).0, 0);
}

#[test]
fn epochs_wrap_to_one() {
    let mut sessions = FetchSessions::default();
    fetch(&mut sessions, &request(0, 0, &[0]), &read(5, b""));
    sessions.by_id.get_mut(&1).unwrap().epoch = i32::MAX;
    assert_eq!(fetch(&mut sessions, &request(1, i32::MAX, &[]), &read(5, b"")).0, 1);
    assert_eq!(fetch(&mut sessions, &request(1, 1, &[]), &read(5, b"")).0, 1);
}
