//! The writer without a broker: on real sockets and the real clock, which rskafka needs.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// The one that finds a server, and rskafka's own.
const CONNECTIONS_PER_ATTEMPT: usize = 2;

#[tokio::test]
async fn without_a_broker_nothing_is_sent_and_the_cause_names_the_address() {
    let address = unused_address().await;
    let writer = writer_to(&address, Duration::from_secs(10));

    let error = produce(&writer, 0).await.unwrap_err();

    let ProduceError::NotSent { target, cause } = error else {
        panic!("{error:?}");
    };
    assert_eq!(target, TopicPartition::new("orders", 0));
    assert!(cause.contains(&address) && cause.contains("refused"), "{cause}");
}

#[tokio::test]
async fn without_bootstrap_servers_nothing_is_sent() {
    let mut writer = writer_to("", Duration::from_secs(10));
    Arc::get_mut(&mut writer.shared).unwrap().config.bootstrap_servers.clear();

    let error = produce(&writer, 0).await.unwrap_err();

    assert!(matches!(error, ProduceError::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_given_up_at_the_connect_timeout() {
    let silent = SilentBroker::start().await;
    let writer = writer_to(&silent.address, Duration::from_millis(50));

    let attempt = timeout_at(Instant::now() + Duration::from_secs(30), produce(&writer, 0));
    let error = attempt.await.expect("the connect timeout is shorter").unwrap_err();

    assert!(matches!(error, ProduceError::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn connections_in_doubt_are_replaced_once() {
    let writer = writer_to(&unused_address().await, Duration::from_secs(10));
    let first = writer.session();

    assert!(produce(&writer, 0).await.is_err());
    let second = writer.session();
    writer.replace(&first);

    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&second, &writer.session()));
}

#[tokio::test]
async fn the_deadline_of_a_produce_holds_while_it_connects() {
    let silent = SilentBroker::start().await;
    let writer = writer_to(&silent.address, Duration::from_hours(1));
    let soon = Instant::now() + Duration::from_millis(50);

    let error = writer.produce(&target(0), &records(), soon).await.unwrap_err();

    assert!(matches!(error, ProduceError::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn partitions_share_one_connection_attempt_and_a_failed_one_is_not_kept() {
    let silent = SilentBroker::start().await;
    let writer = writer_to(&silent.address, Duration::from_hours(1));
    let at = |millis| Instant::now() + Duration::from_millis(millis);
    let records = records();

    // The one that waits for the other's attempt gives up first, so that it does not begin its own.
    let (one, other) = (target(0), target(1));
    let (first, second) = tokio::join!(
        writer.produce(&one, &records, at(400)),
        writer.produce(&other, &records, at(200)),
    );
    assert!(first.is_err() && second.is_err());
    assert_eq!(silent.connections(), CONNECTIONS_PER_ATTEMPT);

    assert!(writer.produce(&one, &records, at(200)).await.is_err());
    assert_eq!(silent.connections(), 2 * CONNECTIONS_PER_ATTEMPT);
}

fn target(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn records() -> Vec<OutgoingRecord> {
    let value = Some(Bytes::from_static(b"value"));
    vec![OutgoingRecord { key: None, value, headers: Vec::new(), timestamp_ms: 0 }]
}

fn writer_to(address: &str, connect_timeout: Duration) -> Writer {
    Writer::new(BrokerConfig {
        bootstrap_servers: vec![address.to_owned()],
        client_id: "writer-test".to_owned(),
        connect_timeout,
        request_timeout: Duration::from_secs(10),
    })
}

async fn produce(writer: &Writer, partition: i32) -> Result<i64, ProduceError> {
    let deadline = Instant::now() + Duration::from_mins(1);
    writer.produce(&target(partition), &records(), deadline).await
}

async fn unused_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Accepts connections and says nothing.
struct SilentBroker {
    address: String,
    accepted: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl SilentBroker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut held = Vec::new();
            loop {
                held.push(listener.accept().await.unwrap());
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, accepted, _task: task }
    }

    fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}
