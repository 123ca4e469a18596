//! A broker that holds a few batches of one record each.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_core::record_batch::BatchBuilder;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{self, ApiKey, BrokerId, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, StrBytes, decode_request_header_from_buffer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::super::{Fetched, Reader, ReaderConfig};
use super::{PARTITIONS, TOPIC, TOPIC_ID, add};
use crate::cluster::{Cluster, topic_name};
use crate::config::BrokerConfig;

const METADATA_VERSION: i16 = 12;
const EPOCHS_VERSION: i16 = 4;

/// A fetch session: the offset and the bytes of each partition, and the ends that were answered last.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) epoch: i32,
    partitions: BTreeMap<i32, Asked>,
    answered: BTreeMap<i32, i64>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    topic_id: Uuid,
    partition: i32,
    offset: i64,
    bytes_max: i32,
    leader_epoch: i32,
}

/// What the broker holds, and what it was asked.
#[derive(Debug)]
pub(super) struct State {
    pub(super) topic_id: Uuid,
    pub(super) fetch_version: i16,
    pub(super) has_sessions: bool,
    pub(super) sessions: BTreeMap<i32, Session>,
    session_ids: i32,
    /// The leader epoch of all partitions.
    pub(super) epoch: i32,
    /// The batches of each partition with their epochs.
    logs: [Vec<(i32, Bytes)>; PARTITIONS],
    /// The partitions that some request is waiting for, sorted.
    pub(super) under_way: Vec<i32>,
    /// Requests for this partition alone are not answered, except for its beginning: in which company a partition is
    /// asked for first depends on how quickly the others were added.
    pub(super) held: Option<i32>,
    /// A partition that the broker says it does not lead, and how often it has.
    pub(super) denied: Option<i32>,
    pub(super) denials: usize,
    /// How long the last request was willing to wait, in milliseconds.
    pub(super) longest_wait: Option<i32>,
    pub(super) asked_twice: usize,
    /// A partition whose data the broker needs so many milliseconds to read: a request that waits less gets none.
    pub(super) slow: Option<(i32, i32)>,
    /// Whether the slow partition was asked for from below an offset that had been asked for before.
    pub(super) asked_below: bool,
    slow_offset: i64,
    pub(super) metadata_requests: usize,
    pub(super) fetches: usize,
    /// How many partitions the requests of sessions have named.
    pub(super) named: usize,
    /// How many partitions were asked for without a leader epoch. A former leader would answer.
    pub(super) without_epoch: usize,
    pub(super) validations: usize,
    /// Connections without a request are closed whenever this changes.
    pub(super) closes: u32,
}

pub(super) struct FakeBroker {
    address: String,
    pub(super) state: watch::Sender<State>,
    _task: JoinSet<()>,
}

impl FakeBroker {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = watch::Sender::new(State {
            topic_id: TOPIC_ID,
            fetch_version: 13,
            has_sessions: false,
            sessions: BTreeMap::new(),
            session_ids: 0,
            epoch: 0,
            logs: Default::default(),
            under_way: Vec::new(),
            held: None,
            denied: None,
            denials: 0,
            longest_wait: None,
            asked_twice: 0,
            slow: None,
            asked_below: false,
            slow_offset: 0,
            metadata_requests: 0,
            fetches: 0,
            named: 0,
            without_epoch: 0,
            validations: 0,
            closes: 0,
        });
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

    pub(super) fn append(&self, partition: usize, batches: i64) {
        self.state.send_modify(|state| state.append(partition, batches));
    }

    /// Elects a leader whose log ends at `end`, and which appends batches.
    pub(super) fn truncate(&self, partition: usize, end: usize, epoch: i32, batches: i64) {
        self.state.send_modify(|state| {
            state.epoch = epoch;
            state.logs[partition].truncate(end);
            state.append(partition, batches);
        });
    }

    /// Starts a reader of all partitions, whose fetches hold a few batches.
    pub(super) fn reader(&self, wait_max: Duration) -> (Reader, Vec<mpsc::Receiver<Fetched>>) {
        let mut reader = self.reader_of_nothing(wait_max);
        let add = |partition| add(&mut reader, TOPIC, i32::try_from(partition).unwrap());
        let channels = (0..PARTITIONS).map(add).collect();
        (reader, channels)
    }

    pub(super) fn reader_of_nothing(&self, wait_max: Duration) -> Reader {
        let config = BrokerConfig::new(vec![self.address.clone()], "reader-test");
        let small = ReaderConfig {
            partition_bytes_max: 4_000,
            response_bytes_max: 8_000,
            wait_max,
            ..ReaderConfig::default()
        };
        Reader::start(Cluster::new(config), small)
    }
}

impl State {
    fn append(&mut self, partition: usize, batches: i64) {
        let log = &mut self.logs[partition];
        for _ in 0..batches {
            let base = i64::try_from(log.len()).unwrap();
            let batch = BatchBuilder::new(base).record(0, None, Some(&[0; 500]), &[]);
            let mut batch = BytesMut::from(&batch.build().unwrap()[..]);
            batch[12..16].copy_from_slice(&self.epoch.to_be_bytes());
            log.push((self.epoch, batch.freeze()));
        }
    }

    fn log(&self, partition: i32) -> &[(i32, Bytes)] {
        &self.logs[usize::try_from(partition).unwrap()]
    }

    fn end(&self, partition: i32) -> i64 {
        i64::try_from(self.log(partition).len()).unwrap()
    }

    fn refusal(&self, asked: &Asked) -> Option<ResponseError> {
        if self.denied == Some(asked.partition) {
            return Some(ResponseError::NotLeaderOrFollower);
        }
        if asked.topic_id != self.topic_id && !asked.topic_id.is_nil() {
            return Some(ResponseError::UnknownTopicId);
        }
        match asked.leader_epoch {
            -1 => None,
            epoch if epoch < self.epoch => Some(ResponseError::FencedLeaderEpoch),
            epoch if epoch > self.epoch => Some(ResponseError::UnknownLeaderEpoch),
            _ if asked.offset > self.end(asked.partition) => Some(ResponseError::OffsetOutOfRange),
            _ => None,
        }
    }

    /// Returns the error of the whole request, or the partitions to read and the session's id.
    fn begin(
        &mut self,
        request: &messages::FetchRequest,
    ) -> Result<(i32, Vec<Asked>), ResponseError> {
        let named = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|asked| Asked {
                topic_id: topic.topic_id,
                partition: asked.partition,
                offset: asked.fetch_offset,
                bytes_max: asked.partition_max_bytes,
                leader_epoch: asked.current_leader_epoch,
            })
        });
        self.fetches += 1;
        self.without_epoch += named.clone().filter(|asked| asked.leader_epoch < 0).count();
        if !self.has_sessions || request.session_epoch == -1 || self.fetch_version < 7 {
            return Ok((0, named.collect()));
        }
        self.named += named.clone().count();
        if request.session_epoch == 0 {
            self.sessions.remove(&request.session_id);
            self.session_ids += 1;
            let session = Session { epoch: 0, ..Session::default() };
            self.sessions.insert(self.session_ids, session);
        }
        let id = if request.session_epoch == 0 { self.session_ids } else { request.session_id };
        let session = self.sessions.get_mut(&id).ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.epoch != request.session_epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        session.epoch += 1;
        session.partitions.extend(named.map(|asked| (asked.partition, asked)));
        for partition in request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions) {
            session.partitions.remove(partition);
            session.answered.remove(partition);
        }
        Ok((id, session.partitions.values().copied().collect()))
    }
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
        let version = frame.slice(2..).get_i16();
        let id = decode_request_header_from_buffer(&mut frame).unwrap().correlation_id;
        let answer = if key == ApiKey::ApiVersions {
            let fetch_version = state.borrow().fetch_version;
            encode(id, &api_versions(fetch_version), 3)
        } else if key == ApiKey::Metadata {
            state.send_modify(|state| state.metadata_requests += 1);
            let request = messages::MetadataRequest::decode(&mut frame, METADATA_VERSION).unwrap();
            encode(id, &metadata(&request, &state.borrow(), port), METADATA_VERSION)
        } else if key == ApiKey::OffsetForLeaderEpoch {
            let request =
                messages::OffsetForLeaderEpochRequest::decode(&mut frame, version).unwrap();
            state.send_modify(|state| state.validations += 1);
            encode(id, &epochs(&request, &state.borrow()), version)
        } else {
            let request = messages::FetchRequest::decode(&mut frame, version).unwrap();
            encode(id, &fetch(&request, version, &state).await, version)
        };
        // The reader may have closed the connection meanwhile.
        if stream.write_all(&answer).await.is_err() {
            return;
        }
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

fn api_versions(fetch_version: i16) -> messages::ApiVersionsResponse {
    let speaks = |(key, min, max): (ApiKey, i16, i16)| {
        let code = crate::connection::api_code(key);
        ApiVersion::default().with_api_key(code).with_min_version(min).with_max_version(max)
    };
    let keys = [
        (ApiKey::Metadata, METADATA_VERSION, METADATA_VERSION),
        (ApiKey::Fetch, 4, fetch_version),
        (ApiKey::OffsetForLeaderEpoch, 2, EPOCHS_VERSION),
    ];
    messages::ApiVersionsResponse::default().with_api_keys(keys.map(speaks).to_vec())
}

/// Describes the one topic that there is, and refuses all others.
fn metadata(
    request: &messages::MetadataRequest,
    state: &State,
    port: u16,
) -> messages::MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(i32::from(port));
    let partition = |index: usize| {
        MetadataResponsePartition::default()
            .with_partition_index(i32::try_from(index).unwrap())
            .with_leader_id(BrokerId(1))
            .with_leader_epoch(state.epoch)
    };
    let topics = request.topics.iter().flatten().map(|asked| {
        let topic = MetadataResponseTopic::default().with_name(asked.name.clone());
        if asked.name != Some(topic_name(TOPIC)) {
            return topic.with_error_code(ResponseError::TopicAuthorizationFailed.code());
        }
        let partitions = (0..PARTITIONS).map(partition).collect();
        topic.with_topic_id(state.topic_id).with_partitions(partitions)
    });
    let topics = topics.collect();
    messages::MetadataResponse::default().with_brokers(vec![broker]).with_topics(topics)
}

fn epochs(
    request: &messages::OffsetForLeaderEpochRequest,
    state: &State,
) -> messages::OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let result = EpochEndOffset::default().with_partition(asked.partition);
            let position = Asked {
                topic_id: Uuid::nil(),
                partition: asked.partition,
                offset: 0,
                bytes_max: 0,
                leader_epoch: asked.current_leader_epoch,
            };
            if let Some(error) = state.refusal(&position) {
                return result.with_error_code(error.code());
            }
            let log = state.log(asked.partition);
            let end = log.partition_point(|(epoch, _)| *epoch <= asked.leader_epoch);
            let epoch = end.checked_sub(1).map_or(asked.leader_epoch, |last| log[last].0);
            result.with_leader_epoch(epoch).with_end_offset(i64::try_from(end).unwrap())
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions)
    });
    messages::OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

/// Answers as soon as one of the partitions has something, or when the request does not wait any longer.
async fn fetch(
    request: &messages::FetchRequest,
    version: i16,
    state: &watch::Sender<State>,
) -> messages::FetchResponse {
    let mut begun = Err(ResponseError::UnknownServerError);
    state.send_modify(|state| {
        begun = state.begin(request);
        for asked in begun.iter().flat_map(|(_, asked)| asked) {
            state.asked_twice += usize::from(state.under_way.contains(&asked.partition));
            state.under_way.push(asked.partition);
            if state.slow.is_some_and(|(slow, _)| slow == asked.partition) {
                state.asked_below |= asked.offset < state.slow_offset;
                state.slow_offset = asked.offset;
            }
        }
        state.under_way.sort_unstable();
        state.longest_wait = Some(request.max_wait_ms);
    });
    let (session_id, asked) = match begun {
        Ok(begun) => begun,
        Err(error) => return messages::FetchResponse::default().with_error_code(error.code()),
    };
    let until = Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap());
    let mut changes = state.subscribe();
    let has_news = changes.wait_for(|state| {
        asked.iter().any(|asked| {
            state.end(asked.partition) > asked.offset || state.refusal(asked).is_some()
        })
    });
    drop(timeout_at(until, has_news).await);
    if let [Asked { partition, offset: 1.., .. }] = asked[..] {
        drop(changes.wait_for(|state| state.held != Some(partition)).await);
    }
    let mut answers = Vec::new();
    state.send_modify(|state| {
        for asked in &asked {
            let answer = read(state, asked, request.max_wait_ms);
            let session = state.sessions.get_mut(&session_id);
            let has_news = session.is_none_or(|session| {
                let end = session.answered.insert(asked.partition, answer.high_watermark);
                answer.error_code != 0
                    || answer.records.as_ref().is_some_and(|records| !records.is_empty())
                    || end != Some(answer.high_watermark)
            });
            answers.extend(has_news.then_some(answer));
        }
        for asked in &asked {
            let at = state.under_way.iter().position(|partition| *partition == asked.partition);
            state.under_way.remove(at.unwrap());
        }
    });
    let topic = FetchableTopicResponse::default().with_partitions(answers);
    let topic = if version < 13 {
        topic.with_topic(topic_name(TOPIC))
    } else {
        topic.with_topic_id(request.topics.first().map_or(TOPIC_ID, |topic| topic.topic_id))
    };
    let response = messages::FetchResponse::default().with_responses(vec![topic]);
    if version < 7 { response } else { response.with_session_id(session_id) }
}

fn read(state: &mut State, asked: &Asked, wait_ms: i32) -> PartitionData {
    let answer = PartitionData::default().with_partition_index(asked.partition);
    if let Some(error) = state.refusal(asked) {
        state.denials += 1;
        return answer.with_error_code(error.code()).with_high_watermark(-1);
    }
    let is_slow = state.slow.is_some_and(|(slow, ms)| slow == asked.partition && wait_ms < ms);
    let from = usize::try_from(asked.offset).unwrap();
    let mut records = BytesMut::new();
    for (_, batch) in state.log(asked.partition)[from..].iter().filter(|_| !is_slow) {
        if records.len() + batch.len() > usize::try_from(asked.bytes_max).unwrap() {
            break;
        }
        records.extend_from_slice(batch);
    }
    let end = state.end(asked.partition);
    answer
        .with_high_watermark(end)
        .with_last_stable_offset(end)
        .with_log_start_offset(0)
        .with_records(Some(records.freeze()))
}
