use std::io::Cursor;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fuzz::{Outcome, Target};
use kafka_client::config::BrokerConfig;
use kafka_client::connection::{Connection, ConnectionError};
use kafka_client::fetch::FetchAnswer;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use kafka_protocol::messages::{self, ApiKey};
use tokio::runtime::{Builder, Runtime};

use crate::kafka_answers::{code, encoded, frame};

/// The supported versions.
const VERSIONS: [i16; 13] = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const DEADLINE: Duration = Duration::from_secs(5);

#[test]
fn fetch_answer() {
    let turn = fuzz::turn();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let seeds = (0_u8..).zip(VERSIONS);
    let target = Target {
        name: "fetch_answer",
        executions: 10_000,
        seeds: seeds.map(|(index, version)| [&[index][..], &seed(version)].concat()).collect(),
        memory: |input| 64 * input.len() + (192 << 10),
        mend: None,
        decode: Box::new(move |input| {
            let (version, body) = input.split_first().unwrap_or((&0, &[]));
            let version = VERSIONS[usize::from(*version) % VERSIONS.len()];
            ask(&runtime, version, body)
        }),
        check: |input, answer| match answer {
            Ok(answer) => {
                let records = answer.partitions.iter().map(|partition| partition.records.len());
                assert!(records.sum::<usize>() <= input.len());
                Outcome::accepted(crate::kind(answer))
            }
            Err(words) => Outcome::refused(words),
        },
    };
    fuzz::run(&turn, target, crate::LEFT);
}

fn ask(runtime: &Runtime, version: i16, body: &[u8]) -> Result<FetchAnswer, String> {
    let speaks = ApiVersion::default()
        .with_api_key(code(ApiKey::Fetch))
        .with_min_version(version)
        .with_max_version(version);
    let versions = messages::ApiVersionsResponse::default().with_api_keys(vec![speaks]);
    let mut bytes = BytesMut::new();
    frame::<messages::ApiVersionsResponse>(1, 3, &encoded(&versions, 3), &mut bytes);
    frame::<messages::FetchResponse>(2, version, body, &mut bytes);
    let transport = tokio::io::join(Cursor::new(bytes.freeze()), tokio::io::sink());
    let asked = runtime.block_on(async {
        let config = BrokerConfig::new(Vec::new(), "fuzz");
        let mut connection =
            Connection::handshake(Box::new(transport), "broker:9092", &config).await?;
        connection.fetch(&messages::FetchRequest::default(), DEADLINE).await
    });
    match asked {
        Ok(answer) => Ok(answer),
        Err(ConnectionError::Malformed { reason, .. }) => Err(crate::words(&reason)),
        Err(error) => panic!("the connection works: {error:?}"),
    }
}

/// Returns an answer with everything that its version has.
fn seed(version: i16) -> Bytes {
    let aborted = AbortedTransaction::default().with_first_offset(5);
    let mut partition = PartitionData::default()
        .with_high_watermark(9)
        .with_aborted_transactions(Some(vec![aborted; 2]))
        .with_records(Some(Bytes::from_static(b"records")));
    if 12 <= version {
        let end = EpochEndOffset::default().with_epoch(3).with_end_offset(7);
        let leader = LeaderIdAndEpoch::default().with_leader_id(2.into()).with_leader_epoch(4);
        partition = partition.with_diverging_epoch(end).with_current_leader(leader);
    }
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition; 2]);
    let mut answer = messages::FetchResponse::default().with_responses(vec![topic; 2]);
    if 16 <= version {
        let endpoint = NodeEndpoint::default().with_host("broker".into()).with_port(9092);
        answer = answer.with_node_endpoints(vec![endpoint; 2]);
    }
    encoded(&answer, version)
}
