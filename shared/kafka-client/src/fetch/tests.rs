//! The decoder against the encoder of `kafka-protocol`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData, SnapshotId,
};
use kafka_protocol::messages::{ApiVersionsResponse, BrokerId, FetchResponse, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use tokio::io::{ReadBuf, sink};

use super::*;
use crate::cluster::topic_name;
use crate::config::BrokerConfig;
use crate::connection::{Connection, ConnectionError, api_code};

/// A generator of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn number(&mut self) -> i64 {
        i64::try_from(self.below(1 << 62)).unwrap()
    }

    fn small(&mut self) -> i32 {
        i32::try_from(self.below(1 << 30)).unwrap()
    }

    fn size(&mut self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).unwrap()
    }
}

/// A stream that yields its bytes in pieces of random sizes.
struct Pieces(Bytes, Random);

impl AsyncRead for Pieces {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let Self(bytes, random) = self.get_mut();
        let piece = 1 << random.below(17);
        let count = bytes.remaining().min(buffer.remaining()).min(piece);
        buffer.put_slice(&bytes.split_to(count));
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn every_version_of_an_answer_is_read_as_the_encoder_wrote_it() {
    for seed in 0..300 {
        let mut random = Random(seed);
        for version in FetchRequest::VERSIONS {
            let response = response(&mut random, version);
            let read = read(&encoded(&response, version), version, seed).await;
            assert_eq!(
                read.unwrap(),
                expected(&response, version),
                "seed {seed}, version {version}"
            );
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_answer_are_refused_without_panic_or_allocation() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let version = 4 + i16::try_from(random.below(13)).unwrap();
        let mut body = encoded(&response(&mut random, version), version);
        for _ in 0..=random.below(4) {
            let at = random.size(body.len().try_into().unwrap());
            body[at] =
                if random.below(2) == 0 { 0xff } else { u8::try_from(random.below(256)).unwrap() };
        }
        body.truncate(body.len() - random.size(4));
        match read(&body, version, seed).await {
            Ok(answer) => {
                let bytes: usize = answer.partitions.iter().map(|p| p.records.len()).sum();
                assert!(bytes <= body.len());
            }
            Err(ConnectionError::Malformed { .. }) => {}
            Err(error) => panic!("seed {seed}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn the_records_of_a_partition_keep_nothing_else_alive() {
    let partition = PartitionData::default();
    let sizes = [3, 70_000, 0, 5_000_000, 12];
    let partitions = sizes.map(|size| partition.clone().with_records(Some(vec![7; size].into())));
    let topic = FetchableTopicResponse::default().with_partitions(partitions.to_vec());
    let response = FetchResponse::default().with_responses(vec![topic]);
    let answer = read(&encoded(&response, 16), 16, 1).await.unwrap();
    let read: Vec<_> = answer.partitions.iter().map(|answer| answer.records.len()).collect();
    assert_eq!(read, sizes);
    for answer in answer.partitions.into_iter().filter(|answer| !answer.records.is_empty()) {
        let size = answer.records.len();
        let owned = answer.records.try_into_mut().expect("nobody shares the buffer");
        assert_eq!((owned.len(), owned.capacity()), (size, size));
    }
}

/// Sends a request over a connection on which these bytes are the body of the answer.
async fn read(body: &[u8], version: i16, seed: u64) -> Result<FetchAnswer, ConnectionError> {
    let speaks = ApiVersion::default()
        .with_api_key(api_code(ApiKey::Fetch))
        .with_min_version(version)
        .with_max_version(version);
    let versions = ApiVersionsResponse::default().with_api_keys(vec![speaks]);
    let mut bytes = BytesMut::new();
    frame::<ApiVersionsResponse>(1, 3, &encoded(&versions, 3), &mut bytes);
    frame::<FetchResponse>(2, version, body, &mut bytes);
    let transport = tokio::io::join(Pieces(bytes.freeze(), Random(seed)), sink());
    let config = BrokerConfig::new(Vec::new(), "test");
    let mut connection =
        Connection::handshake(Box::new(transport), "broker:9092", &config).await.unwrap();
    connection.fetch(&FetchRequest::default(), Duration::from_secs(5)).await
}

fn frame<T: HeaderVersion>(id: i32, version: i16, body: &[u8], into: &mut BytesMut) {
    let mut header = BytesMut::new();
    let response_header = ResponseHeader::default().with_correlation_id(id);
    response_header.encode(&mut header, T::header_version(version)).unwrap();
    into.put_u32(u32::try_from(header.len() + body.len()).unwrap());
    into.extend_from_slice(&header);
    into.extend_from_slice(body);
}

fn encoded<T: Encodable>(answer: &T, version: i16) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, version).unwrap();
    bytes.to_vec()
}

fn response(random: &mut Random, version: i16) -> FetchResponse {
    let topics = (0..random.below(3)).map(|_| topic(random, version)).collect();
    let mut response =
        FetchResponse::default().with_throttle_time_ms(random.small()).with_responses(topics);
    if SESSIONS_SINCE <= version {
        response = response.with_session_id(random.small()).with_error_code(70);
    }
    if 16 <= version {
        let endpoint = NodeEndpoint::default()
            .with_node_id(BrokerId(random.small()))
            .with_host(StrBytes::from_static_str("host"))
            .with_port(random.small())
            .with_rack((random.below(2) == 0).then(|| StrBytes::from_static_str("rack")));
        let count = random.size(3);
        response = response.with_node_endpoints(vec![endpoint; count]);
    }
    response
}

fn topic(random: &mut Random, version: i16) -> FetchableTopicResponse {
    let partitions = (0..random.below(4)).map(|_| partition(random, version)).collect();
    let topic = FetchableTopicResponse::default().with_partitions(partitions);
    if TOPIC_IDS_SINCE <= version {
        topic.with_topic_id(Uuid::from_u128(u128::from(random.below(9))))
    } else {
        topic.with_topic(topic_name("orders"))
    }
}

fn partition(random: &mut Random, version: i16) -> PartitionData {
    let aborted = AbortedTransaction::default()
        .with_producer_id(random.number().into())
        .with_first_offset(random.number());
    let count = random.size(3);
    let aborted = (random.below(3) > 0).then(|| vec![aborted; count]);
    let size_max = if random.below(8) == 0 { 200_000 } else { 100 };
    let size = random.size(size_max);
    let records = (random.below(4) > 0).then(|| vec![9; size].into());
    let mut partition = PartitionData::default()
        .with_partition_index(random.small())
        .with_error_code(i16::try_from(random.below(100)).unwrap())
        .with_high_watermark(random.number())
        .with_last_stable_offset(random.number())
        .with_aborted_transactions(aborted)
        .with_records(records);
    if LOG_START_SINCE <= version {
        partition = partition.with_log_start_offset(random.number());
    }
    if PREFERRED_REPLICA_SINCE <= version && random.below(2) == 0 {
        partition = partition.with_preferred_read_replica(BrokerId(random.small()));
    }
    if TAGS_SINCE <= version {
        if random.below(2) == 0 {
            let end = EpochEndOffset::default();
            let end = end.with_epoch(random.small()).with_end_offset(random.number());
            partition = partition.with_diverging_epoch(end);
        }
        if random.below(2) == 0 {
            let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(random.small()));
            partition = partition.with_current_leader(leader.with_leader_epoch(random.small()));
        }
        if random.below(2) == 0 {
            let snapshot = SnapshotId::default();
            partition = partition.with_snapshot_id(
                snapshot.with_end_offset(random.number()).with_epoch(random.small()),
            );
        }
        if random.below(2) == 0 {
            partition = partition.with_unknown_tagged_field(9, vec![1; random.size(300)].into());
        }
    }
    partition
}

fn expected(response: &FetchResponse, version: i16) -> FetchAnswer {
    let partitions = response.responses.iter().flat_map(|topic| {
        let name = if TOPIC_IDS_SINCE <= version {
            TopicRef::Id(topic.topic_id)
        } else {
            TopicRef::Name(topic.topic.as_str().into())
        };
        topic.partitions.iter().map(move |partition| PartitionAnswer {
            topic: name.clone(),
            partition: partition.partition_index,
            error_code: partition.error_code,
            high_watermark: partition.high_watermark,
            last_stable_offset: partition.last_stable_offset,
            log_start_offset: partition.log_start_offset,
            diverging: Some(EpochEnd {
                epoch: partition.diverging_epoch.epoch,
                end_offset: partition.diverging_epoch.end_offset,
            })
            .filter(EpochEnd::is_known),
            current_leader: Some(Leader {
                node: partition.current_leader.leader_id.0,
                epoch: partition.current_leader.leader_epoch,
            })
            .filter(|leader| leader.node >= 0),
            aborted: partition
                .aborted_transactions
                .iter()
                .flatten()
                .map(|aborted| (aborted.producer_id.0, aborted.first_offset))
                .collect(),
            preferred_replica: Some(partition.preferred_read_replica.0).filter(|node| *node >= 0),
            records: partition.records.clone().unwrap_or_default(),
        })
    });
    let endpoint = |endpoint: &NodeEndpoint| {
        (endpoint.node_id.0, format!("{}:{}", endpoint.host, endpoint.port).into())
    };
    FetchAnswer {
        throttle_time_ms: response.throttle_time_ms,
        error_code: response.error_code,
        session_id: response.session_id,
        partitions: partitions.collect(),
        endpoints: response.node_endpoints.iter().map(endpoint).collect(),
    }
}
