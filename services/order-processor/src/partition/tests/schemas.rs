//! Records whose schema the registry does not have, yet or for good.

use std::sync::atomic::AtomicUsize;

use order_avro::{ORDER_SCHEMA, SchemaId, encode_confluent};
use schema_registry::{Outage, RegistryError};

use order_avro::PayloadFormat;

use super::*;

/// The id of a schema that is there.
const KNOWN: u32 = 1;
/// The GUID of another schema, and the header that names it.
const FOREIGN: [u8; 16] = [7; 16];
const FOREIGN_HEADER: &[u8] = &[1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];
/// The id of one that is there when the test says so.
const NEW: u32 = 2;

const FOREIGN_SCHEMA: &str = r#"{"type": "record", "name": "Sale", "fields": [{"name": "price", "type": "int"},
    {"name": "orderId", "type": "string"}, {"name": "product", "type": "string"}]}"#;

/// What the registry says about [`NEW`].
#[derive(Clone, Copy)]
enum Says {
    Nothing,
    No,
    Yes,
}

struct Registry {
    says: Arc<Mutex<Says>>,
    /// How often it was asked.
    asked: Arc<AtomicUsize>,
}

impl Registry {
    fn new(says: Says) -> Self {
        Self { says: Arc::new(Mutex::new(says)), asked: Arc::default() }
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn asked(&self) -> usize {
        self.asked.load(Atomic::Relaxed)
    }

    fn client(&self) -> SchemaRegistry {
        let (says, asked) = (Arc::clone(&self.says), Arc::clone(&self.asked));
        let answer = move |id| {
            let schema = Some(ORDER_SCHEMA.to_owned());
            match id {
                SchemaId::Number(KNOWN) => return Ok(schema),
                SchemaId::Guid(FOREIGN) => return Ok(Some(FOREIGN_SCHEMA.to_owned())),
                SchemaId::Guid(_) => return Ok(None),
                SchemaId::Number(_) => {}
            }
            asked.fetch_add(1, Atomic::Relaxed);
            match *says.lock().unwrap() {
                Says::Nothing => Err(RegistryError::Unavailable {
                    url: "http://registry".into(),
                    outage: Outage::Network,
                    detail: "away".into(),
                }),
                Says::No => Ok(None),
                Says::Yes => Ok(schema),
            }
        };
        SchemaRegistry::scripted(Box::new(answer)).unwrap()
    }

    fn bench(&self, ordering: Ordering) -> Bench {
        let state = PartitionState::empty(TOPIC, 0, Capacity::DEFAULT);
        let schemas = self.client();
        Bench::start_with(script([]), ordering, state, |shared| shared.schemas = schemas)
    }
}

/// Returns an order that names a schema, for as long as the test runs.
fn with(schema_id: u32) -> &'static [u8] {
    let order = Order { order_id: "1".to_owned(), product: "tea".to_owned(), price: 2.5 };
    let mut bytes = Vec::new();
    encode_confluent(schema_id, &order, &mut bytes);
    bytes.leak()
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn numbers(state: &PartitionState) -> (i64, u64, u64) {
    (state.committable(), state.aggregate().orders(), state.aggregate().dead_letters())
}

#[tokio::test(start_paused = true)]
async fn records_of_a_schema_that_is_not_there_yet_wait_with_their_keys_and_no_others() {
    let registry = Registry::new(Says::No);
    let mut bench = registry.bench(Ordering::Key);
    let records = [
        ("a", Some(with(NEW))),
        ("b", Some(with(KNOWN))),
        ("a", Some(with(KNOWN))),
        ("a", Some(with(NEW))),
    ];
    bench.read(&records).await;
    bench.read(&[("c", Some(with(NEW))), ("d", None)]).await;
    seconds(9).await;
    assert_eq!(numbers(&bench.checkpoint().await), (0, 2, 0));
    assert_eq!(bench.attempts(), [(1, 1), (5, 1)]);
    assert_eq!(bench.pause(), None);

    registry.says(Says::Yes);
    seconds(1).await;
    assert_eq!(numbers(&bench.checkpoint().await), (6, 6, 0));
    assert_eq!(bench.attempts()[2..], [(0, 1), (4, 1), (2, 1), (3, 1)], "keys stay in order");
    assert!(bench.letters.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn records_of_a_schema_that_stays_away_are_poison_after_ten_seconds() {
    let registry = Registry::new(Says::No);
    let mut bench = registry.bench(Ordering::Key);
    bench.read(&[("a", Some(with(NEW))), ("a", None)]).await;
    seconds(9).await;
    assert!(bench.letters.try_recv().is_err());
    assert!((5..20).contains(&registry.asked()), "asked {} times", registry.asked());

    let letter = bench.letter().await;
    assert_eq!(header(&letter, "dlq.error.type").as_deref(), Some("unknown-schema"));
    assert_eq!(header(&letter, "dlq.schema-id").as_deref(), Some("2"));
    assert_eq!(header(&letter, "dlq.attempts").as_deref(), Some("0"));
    bench.read(&[("b", Some(with(NEW)))]).await;
    let at_once = bench.letters.try_recv().expect("what is known is not waited for again");
    for letter in [letter, at_once] {
        letter.answer.send(Ok(())).unwrap();
    }
    assert_eq!(numbers(&bench.checkpoint().await), (3, 1, 2));

    seconds(60).await;
    bench.read(&[("c", Some(with(NEW)))]).await;
    assert!(bench.letters.try_recv().is_err(), "it may be there by now");
    registry.says(Says::Yes);
    seconds(1).await;
    assert_eq!(numbers(&bench.checkpoint().await), (4, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_registry_is_no_denial() {
    let registry = Registry::new(Says::No);
    let mut bench = registry.bench(Ordering::Key);
    bench.read(&[("a", Some(with(NEW)))]).await;
    registry.says(Says::Nothing);
    seconds(60).await;
    assert_eq!(bench.pause().unwrap(), "orders-0 waits for the schema registry");
    registry.says(Says::No);
    seconds(9).await;
    assert_eq!(bench.pause(), None);
    assert!(bench.letters.try_recv().is_err());
    registry.says(Says::Yes);
    seconds(1).await;
    assert_eq!(numbers(&bench.checkpoint().await), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_kept_in_order_waits_for_its_schema() {
    let registry = Registry::new(Says::No);
    let mut bench = registry.bench(Ordering::Partition);
    bench.offer(&[("a", Some(with(NEW))), ("b", None)]).await;
    seconds(9).await;
    assert_eq!(bench.attempts(), []);
    registry.says(Says::Yes);
    bench.caught_up().await;
    assert_eq!(bench.attempts(), [(0, 1), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn records_of_different_schemas_that_stay_away_all_get_their_letters() {
    const RECORDS: u32 = 100;
    let registry = Registry::new(Says::No);
    let state = PartitionState::empty(TOPIC, 0, Capacity::DEFAULT);
    let schemas = registry.client();
    let mut bench = Bench::start_with(script([]), Ordering::Key, state, |shared| {
        (shared.schemas, shared.settings.dlq.guard) = (schemas, 0);
    });
    let records: Vec<_> = (NEW..NEW + RECORDS).map(|id| ("a", Some(with(id)))).collect();
    bench.offer(&records).await;
    for _ in 0..RECORDS {
        bench.letter().await.answer.send(Ok(())).unwrap();
    }
    bench.caught_up().await;
    let expected = i64::from(RECORDS);
    assert_eq!(numbers(&bench.checkpoint().await), (expected, 0, u64::from(RECORDS)));
}

#[tokio::test(start_paused = true)]
async fn too_many_records_of_a_schema_that_stays_away_stop_the_partition() {
    let registry = Registry::new(Says::No);
    let mut bench = registry.bench(Ordering::None);
    bench.read(&[("a", Some(with(NEW))); 8]).await;
    seconds(20).await;
    let mut letters = 0;
    while let Ok(letter) = bench.letters.try_recv() {
        letter.answer.send(Ok(())).unwrap();
        letters += 1;
    }
    assert_eq!(letters, DLQ_GUARD);
    bench.release();
    for _ in 0..3 {
        bench.letter().await.answer.send(Ok(())).unwrap();
    }
    assert_eq!(numbers(&bench.checkpoint().await), (8, 0, 8));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_paused_or_drained_asks_for_no_schema() {
    let registry = Registry::new(Says::No);
    let mut bench = registry.bench(Ordering::Key);
    bench.read(&[("a", Some(with(NEW)))]).await;
    bench.pause_switch.set(true);
    seconds(1).await;
    let asked = registry.asked();
    seconds(60).await;
    assert_eq!(registry.asked(), asked);
    assert!(bench.letters.try_recv().is_err());
    bench.pause_switch.set(false);
    seconds(5).await;
    assert!(registry.asked() > asked);
    assert_eq!(numbers(&bench.drain(BACKOFF).await), (0, 0, 0));
}

/// Hands the worker a record with the headers.
async fn offer_with_headers(bench: &mut Bench, value: &[u8], headers: &[(&[u8], Option<&[u8]>)]) {
    let builder = BatchBuilder::new(bench.next_offset);
    let batch = builder.record(0, Some(b"a"), Some(value), headers).build().unwrap();
    bench.fetch(vec![batch], None).await;
}

const HEADER: &[u8] = b"__value_schema_id";

#[tokio::test(start_paused = true)]
async fn a_value_whose_schema_a_header_names_is_read_by_it_whatever_the_format() {
    use PayloadFormat::{Auto, Bare, Confluent, Container, SingleObject};
    for format in [Auto, Bare, Confluent, Container, SingleObject] {
        let state = PartitionState::empty(TOPIC, 0, Capacity::DEFAULT);
        let schemas = Registry::new(Says::No).client();
        let mut bench = Bench::start_with(script([]), Ordering::Key, state, |shared| {
            (shared.schemas, shared.settings.payload_format) = (schemas, format);
        });
        let other = (&b"trace"[..], Some(&b"1"[..]));
        let headers = [other, (HEADER, Some(&[9][..])), (HEADER, Some(FOREIGN_HEADER))];
        offer_with_headers(&mut bench, b"\x54\x06A-7\x08Desk", &headers).await;
        let headers = [(HEADER, Some(&[0, 0, 0, 0, 1][..])), other];
        offer_with_headers(&mut bench, &order("A-8"), &headers).await;
        bench.caught_up().await;
        let state = bench.checkpoint().await;
        assert_eq!(numbers(&state), (2, 2, 0), "{format}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_schema_a_header_names_is_never_one_of_ours() {
    let mut bench = Registry::new(Says::No).bench(Ordering::Key);
    let unknown = [[1].as_slice(), &[8; 16]].concat();
    for (header, error_type, words) in [
        (&unknown[..], "unknown-schema", "knows no schema with the GUID 08080808-0808-"),
        (b"\x01\x02", "unknown-schema", "names no schema: 01 02"),
        (b"", "unknown-schema", "names no schema"),
    ] {
        offer_with_headers(&mut bench, &order("A-7"), &[(HEADER, Some(header))]).await;
        let letter = bench.letter().await;
        assert_eq!(self::header(&letter, "dlq.error.type").as_deref(), Some(error_type));
        let message = self::header(&letter, "__dlq.errors.message").unwrap();
        assert!(message.contains(words), "{message}");
        letter.answer.send(Ok(())).unwrap();
    }
    assert_eq!(bench.attempts(), []);
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_cannot_be_used_is_a_mismatch_with_the_parsers_reason() {
    let state = PartitionState::empty(TOPIC, 0, Capacity::DEFAULT);
    let schema = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "Money"}]}"#;
    let script_of = Box::new(|_id| Ok(Some(schema.to_owned())));
    let schemas = SchemaRegistry::scripted(script_of).unwrap();
    let mut bench =
        Bench::start_with(script([]), Ordering::Key, state, |shared| shared.schemas = schemas);
    bench.offer(&[("a", Some(with(KNOWN)))]).await;
    let letter = bench.letter().await;
    assert_eq!(header(&letter, "dlq.error.type").as_deref(), Some("schema-mismatch"));
    let expected = "the schema with the id 1 cannot be used: the text is not an Avro schema: field a: the type \"Money\" is not \
                    defined";
    assert_eq!(header(&letter, "__dlq.errors.message").as_deref(), Some(expected));
    letter.answer.send(Ok(())).unwrap();
}
