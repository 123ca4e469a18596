//! A reader and a broker with a few batches, on real sockets.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_core::record_batch::{BatchBuilder, VerifiedBatches};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{self, ApiKey, BrokerId, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, StrBytes, decode_request_header_from_buffer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::damage::AnswerContext;
use super::response::{Outcome, Read};
use super::*;
use crate::cluster::{Leader, topic_name};
use crate::config::BrokerConfig;

const TOPIC: &str = "orders";
const TOPIC_ID: Uuid = Uuid::from_u128(7);
const PARTITIONS: usize = 3;
const FETCH_VERSION: i16 = 13;
const METADATA_VERSION: i16 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_answer_takes_long_holds_back_no_other_and_each_comes_in_order() {
    const BATCHES: i64 = 200;
    let all: Vec<i64> = (0..BATCHES).collect();
    let broker = FakeBroker::start().await;
    for partition in 0..PARTITIONS {
        broker.append(partition, BATCHES);
    }
    broker.state.send_modify(|state| state.held = Some(2));
    let (_reader, mut channels) = broker.reader(Duration::from_millis(200));
    let [zero, one, two] = &mut channels[..] else { panic!("three partitions") };
    // Nobody receives from the others, so the next request is for this one alone, and that is held.
    let Some(Fetched::Batches(first)) = two.recv().await else { panic!("no batches") };
    let mut state = broker.state.subscribe();
    drop(state.wait_for(|state| state.under_way == [2]).await.unwrap());

    let (zero, one) = tokio::join!(read_to(zero, BATCHES), read_to(one, BATCHES));
    assert_eq!((&zero, &one), (&all, &all));
    assert_eq!(
        broker.state.borrow().under_way.iter().filter(|under_way| **under_way == 2).count(),
        1
    );
    broker.state.send_modify(|state| state.held = None);
    let rest = read_to(two, BATCHES).await;
    assert_eq!([bases(&first), rest].concat(), all);
    assert_eq!(broker.state.borrow().asked_twice, 0, "a partition is in one request at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_described_holds_back_no_partition_of_another() {
    let broker = FakeBroker::start().await;
    broker.append(0, 5);
    let mut reader = broker.reader_of_nothing(Duration::from_millis(200));
    let _hidden = add(&mut reader, "hidden", 0);
    let mut channel = add(&mut reader, TOPIC, 0);
    let read = timeout_at(Instant::now() + Duration::from_secs(10), read_to(&mut channel, 5)).await;
    assert_eq!(read.expect("the topic is read"), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_have_caught_up_wait_at_the_broker_together() {
    let broker = FakeBroker::start().await;
    for partition in 0..PARTITIONS {
        broker.append(partition, 50);
    }
    let never = Duration::from_hours(1);
    let (_reader, mut channels) = broker.reader(never);
    for channel in &mut channels {
        read_to(channel, 50).await;
    }
    for (partition, channel) in channels.iter_mut().enumerate() {
        // Nothing but one request that waits for news of all of them.
        let mut state = broker.state.subscribe();
        let waiting = state.wait_for(|state| {
            state.under_way == [0, 1, 2]
                && state.longest_wait == i32::try_from(never.as_millis()).ok()
        });
        drop(waiting.await.unwrap());
        broker.append(partition, 1);
        assert_eq!(read_to(channel, 51).await, [50]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_while_it_was_idle_is_replaced_without_further_ado() {
    let broker = FakeBroker::start().await;
    let (_reader, mut channels) = broker.reader(Duration::from_millis(20));
    for round in 0..20 {
        for (partition, channel) in channels.iter_mut().enumerate() {
            broker.append(partition, 1);
            assert_eq!(read_to(channel, round + 1).await, [round]);
        }
        broker.state.send_modify(|state| state.closes += 1);
    }
    assert_eq!(broker.state.borrow().metadata_requests, 1, "no leader was looked up again");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_the_broker_reads_slowly_are_waited_for_and_hold_back_no_other_partition() {
    const BATCHES: i64 = 20;
    let broker = FakeBroker::start().await;
    broker.append(0, BATCHES);
    broker.append(1, BATCHES);
    // Longer than a usual request waits, as tiered storage may be.
    broker.state.send_modify(|state| state.slow = Some((1, 3_000)));
    let (_reader, mut channels) = broker.reader(Duration::from_millis(20));
    let all: Vec<i64> = (0..BATCHES).collect();
    assert_eq!(read_to(&mut channels[0], BATCHES).await, all);
    assert_eq!(read_to(&mut channels[1], BATCHES).await, all);
    assert!(!broker.state.borrow().asked_below, "nothing is taken for damage");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_denies_its_leadership_is_asked_less_and_less_often() {
    let shared = Shared::default();
    let (sender, _channel) = mpsc::channel(1);
    let tp = TopicPartition::new(TOPIC, 0);
    shared.sources().insert(tp.clone(), Source::new(TOPIC_ID, 0, 1, sender));
    let wanted =
        BTreeMap::from([(tp.clone(), shared.sources()[&tp].wanted(&ReaderConfig::default()))]);
    let answer = |outcome: Outcome| {
        broker::deliver(&shared, &wanted, vec![(tp.clone(), outcome)]);
        let due = shared.sources()[&tp].not_before;
        due.map(|due| (due - Instant::now()).as_millis())
    };
    let denied = || Outcome::FindLeader(ResponseError::NotLeaderOrFollower);
    let pauses: Vec<_> = (0..7).filter_map(|_| answer(denied())).collect();
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 1_000]);
    answer(nothing_new());
    assert_eq!(answer(denied()), Some(50), "after an answer, metadata may only have lagged behind");
}

#[tokio::test]
async fn a_recreated_topic_is_told_once_its_channel_has_room_and_holds_back_no_other() {
    let shared = Shared::default();
    let (sender, mut channel) = mpsc::channel(1);
    sender.try_send(Fetched::OutOfRange { position: 0 }).unwrap();
    for partition in [0, 1] {
        let topic_id = if partition == 0 { Uuid::from_u128(1) } else { TOPIC_ID };
        let source = Source::new(topic_id, 0, 1, sender.clone());
        shared.sources().insert(TopicPartition::new(TOPIC, partition), source);
    }
    let leader = Some(Leader { node: 1, epoch: 0 });
    let leaders = BTreeMap::from([(0, leader), (1, leader)]);
    let described = [(TOPIC.to_owned(), Ok(TopicMetadata { topic_id: TOPIC_ID, leaders }))].into();
    let state = |shared: &Shared| -> Vec<_> {
        shared.sources().values().map(|source| (source.leader, source.stopped)).collect()
    };
    apply_metadata(&shared, &described);
    assert_eq!(state(&shared), [(None, false), (Some(1), false)]);
    channel.recv().await.unwrap();
    apply_metadata(&shared, &described);
    assert_eq!(state(&shared), [(None, true), (Some(1), false)]);
    assert!(matches!(channel.recv().await, Some(Fetched::Recreated { topic_id: TOPIC_ID })));
}

/// An answer without records, from the end of an empty log.
fn nothing_new() -> Outcome {
    let found = AnswerContext {
        room: 0,
        bytes: 0,
        is_full: false,
        was_first: true,
        wait: Duration::ZERO,
        end: 0,
    };
    let reading =
        VerifiedBatches { batches: vec![], damaged: None, next_offset: 0, is_unclear: false };
    let (aborted, high_watermark, log_start_offset) = (vec![], 0, 0);
    Outcome::Read(Read { reading, found, aborted, high_watermark, log_start_offset })
}

/// Receives until the partition has been read up to `end`, and returns the base offsets of the batches.
async fn read_to(channel: &mut mpsc::Receiver<Fetched>, end: i64) -> Vec<i64> {
    let mut found = Vec::new();
    loop {
        let Some(Fetched::Batches(fetched)) = channel.recv().await else { panic!("no batches") };
        found.extend(bases(&fetched));
        if fetched.next_offset == end {
            return found;
        }
    }
}

fn bases(fetched: &FetchedBatches) -> Vec<i64> {
    fetched.batches.iter().map(|batch| batch.header().base_offset).collect()
}

/// What the broker holds, and what it was asked.
#[derive(Debug, Default)]
struct State {
    /// The batches of each partition, of one record each.
    logs: [Vec<Bytes>; PARTITIONS],
    /// The partitions that some request is waiting for, sorted.
    under_way: Vec<i32>,
    /// Requests for this partition alone are not answered, except for its beginning: in which company a partition is
    /// asked for first depends on how quickly the others were added.
    held: Option<i32>,
    /// How long the last request was willing to wait, in milliseconds.
    longest_wait: Option<i32>,
    asked_twice: usize,
    /// A partition whose data the broker needs so many milliseconds to read: a request that waits less gets none.
    slow: Option<(i32, i32)>,
    /// Whether the slow partition was asked for from below an offset that had been asked for before.
    asked_below: bool,
    slow_offset: i64,
    metadata_requests: usize,
    /// Connections without a request are closed whenever this changes.
    closes: u32,
}

struct FakeBroker {
    address: String,
    state: watch::Sender<State>,
    _task: JoinSet<()>,
}

impl FakeBroker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = watch::Sender::new(State::default());
        let mut task = JoinSet::new();
        let (shared, port) = (state.clone(), listener.local_addr().unwrap().port());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, shared.clone(), port));
            }
        });
        Self { address, state, _task: task }
    }

    fn append(&self, partition: usize, batches: i64) {
        self.state.send_modify(|state| {
            let log = &mut state.logs[partition];
            for _ in 0..batches {
                let base = i64::try_from(log.len()).unwrap();
                let batch = BatchBuilder::new(base).record(0, None, Some(&[0; 500]), &[]);
                log.push(batch.build().unwrap());
            }
        });
    }

    /// Starts a reader of all partitions, whose fetches hold a few batches.
    fn reader(&self, wait_max: Duration) -> (Reader, Vec<mpsc::Receiver<Fetched>>) {
        let mut reader = self.reader_of_nothing(wait_max);
        let add = |partition| add(&mut reader, TOPIC, i32::try_from(partition).unwrap());
        let channels = (0..PARTITIONS).map(add).collect();
        (reader, channels)
    }

    fn reader_of_nothing(&self, wait_max: Duration) -> Reader {
        let config = BrokerConfig::new(vec![self.address.clone()], "reader-test");
        let config = Cluster::new(config);
        let small = ReaderConfig {
            partition_bytes_max: 4_000,
            response_bytes_max: 8_000,
            wait_max,
            on_fetch: None,
        };
        Reader::start(config, small)
    }
}

fn add(reader: &mut Reader, topic: &str, partition: i32) -> mpsc::Receiver<Fetched> {
    let (sender, channel) = mpsc::channel(1);
    reader.add(TopicPartition::new(topic, partition), TOPIC_ID, 0, sender);
    channel
}

async fn serve(mut stream: TcpStream, state: watch::Sender<State>, port: u16) {
    let mut closes = state.subscribe();
    let at_start = closes.borrow_and_update().closes;
    loop {
        let size = tokio::select! {
            size = stream.read_i32() => size,
            _ = closes.wait_for(|state| state.closes != at_start) => return,
        };
        let Ok(size) = size else { return };
        let mut frame = vec![0; usize::try_from(size).unwrap()];
        stream.read_exact(&mut frame).await.unwrap();
        let mut frame = Bytes::from(frame);
        let key = ApiKey::try_from(frame.clone().get_i16()).unwrap();
        let id = decode_request_header_from_buffer(&mut frame).unwrap().correlation_id;
        let answer = if key == ApiKey::ApiVersions {
            encode(id, &api_versions(), 3)
        } else if key == ApiKey::Metadata {
            state.send_modify(|state| state.metadata_requests += 1);
            let request = messages::MetadataRequest::decode(&mut frame, METADATA_VERSION).unwrap();
            encode(id, &metadata(&request, port), METADATA_VERSION)
        } else {
            let request = messages::FetchRequest::decode(&mut frame, FETCH_VERSION).unwrap();
            encode(id, &fetch(&request, &state).await, FETCH_VERSION)
        };
        stream.write_all(&answer).await.unwrap();
    }
}

fn encode<R: Encodable + HeaderVersion>(id: i32, response: &R, version: i16) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(id);
    header.encode(&mut frame, R::header_version(version)).unwrap();
    response.encode(&mut frame, version).unwrap();
    let size = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame.freeze()
}

fn api_versions() -> messages::ApiVersionsResponse {
    let speaks = |(key, version): (ApiKey, i16)| {
        let code = crate::connection::api_code(key);
        ApiVersion::default().with_api_key(code).with_min_version(version).with_max_version(version)
    };
    let keys = [(ApiKey::Metadata, METADATA_VERSION), (ApiKey::Fetch, FETCH_VERSION)];
    messages::ApiVersionsResponse::default().with_api_keys(keys.map(speaks).to_vec())
}

/// Describes the one topic that there is, and refuses all others.
fn metadata(request: &messages::MetadataRequest, port: u16) -> messages::MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(i32::from(port));
    let partition = |index: usize| {
        MetadataResponsePartition::default()
            .with_partition_index(i32::try_from(index).unwrap())
            .with_leader_id(BrokerId(1))
    };
    let topics = request.topics.iter().flatten().map(|asked| {
        let topic = MetadataResponseTopic::default().with_name(asked.name.clone());
        if asked.name != Some(topic_name(TOPIC)) {
            return topic.with_error_code(ResponseError::TopicAuthorizationFailed.code());
        }
        let partitions = (0..PARTITIONS).map(partition).collect();
        topic.with_topic_id(TOPIC_ID).with_partitions(partitions)
    });
    let topics = topics.collect();
    messages::MetadataResponse::default().with_brokers(vec![broker]).with_topics(topics)
}

/// Answers as soon as one of the partitions has something, or when the request does not wait any longer.
async fn fetch(
    request: &messages::FetchRequest,
    state: &watch::Sender<State>,
) -> messages::FetchResponse {
    let asked: Vec<(i32, i64, i32)> = request.topics[0]
        .partitions
        .iter()
        .map(|asked| (asked.partition, asked.fetch_offset, asked.partition_max_bytes))
        .collect();
    state.send_modify(|state| {
        for (partition, ..) in &asked {
            state.asked_twice += usize::from(state.under_way.contains(partition));
            state.under_way.push(*partition);
        }
        for (partition, offset, _) in &asked {
            if state.slow.is_some_and(|(slow, _)| slow == *partition) {
                state.asked_below |= *offset < state.slow_offset;
                state.slow_offset = *offset;
            }
        }
        state.under_way.sort_unstable();
        state.longest_wait = Some(request.max_wait_ms);
    });
    let until = Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap());
    let mut changes = state.subscribe();
    let has_news = changes.wait_for(|state| {
        asked.iter().any(|(partition, offset, _)| {
            i64::try_from(state.logs[usize::try_from(*partition).unwrap()].len()).unwrap() > *offset
        })
    });
    drop(timeout_at(until, has_news).await);
    if let [(alone, 1.., _)] = asked[..] {
        drop(changes.wait_for(|state| state.held != Some(alone)).await);
    }
    let mut answers = Vec::new();
    state.send_modify(|state| {
        for (partition, offset, bytes_max) in &asked {
            let log = &state.logs[usize::try_from(*partition).unwrap()];
            let from = usize::try_from(*offset).unwrap();
            let mut records = BytesMut::new();
            let is_slow =
                state.slow.is_some_and(|(slow, ms)| slow == *partition && request.max_wait_ms < ms);
            for batch in log[from..].iter().filter(|_| !is_slow) {
                if records.len() + batch.len() > usize::try_from(*bytes_max).unwrap() {
                    break;
                }
                records.extend_from_slice(batch);
            }
            let end = i64::try_from(log.len()).unwrap();
            answers.push(
                PartitionData::default()
                    .with_partition_index(*partition)
                    .with_high_watermark(end)
                    .with_last_stable_offset(end)
                    .with_log_start_offset(0)
                    .with_records(Some(records.freeze())),
            );
        }
        state.under_way.retain(|partition| !asked.iter().any(|(asked, ..)| asked == partition));
    });
    let topic = FetchableTopicResponse::default().with_topic_id(TOPIC_ID).with_partitions(answers);
    messages::FetchResponse::default().with_responses(vec![topic])
}
