//! Bad records go to the dead-letter topic with the reason, byte for byte, and block no order.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use end_to_end::{Scenario, Service, topic};

/// A schema that no order can be read with.
const OTHER_SCHEMA: &str =
    r#"{"type":"record","name":"Parcel","fields":[{"name":"weight","type":"long"}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_poison_is_dead_lettered_with_its_reason() -> Result<()> {
    let scenario = Scenario::open("poison")
        .await?
        .with("TOPIC_PARTITIONS", "1")
        .with("PAYLOAD_FORMAT", "confluent");
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    let schema_id = scenario.register_order_schema().await?;
    let other_id = scenario
        .register_schema(&format!("{}-parcels", scenario.orders_topic()), OTHER_SCHEMA)
        .await?;
    let order = |price: f32| topic::order_value(schema_id, "1001", "Item1", price);
    let good = order(12.5)?;
    let mut other = vec![0];
    other.extend(other_id.to_be_bytes());
    other.push(2);

    let poison = [
        ("bad-magic", Some(b"not an order".to_vec())),
        ("truncated", Some(good[..good.len() - 1].to_vec())),
        ("trailing-bytes", Some([good.as_slice(), b"!"].concat())),
        ("unknown-schema", Some(topic::order_value(0x7fff_ffff, "1001", "Item1", 12.5)?)),
        ("schema-mismatch", Some(other)),
        ("invalid-price", Some(order(f32::NAN)?)),
        ("invalid-price", Some(order(-1.0)?)),
        ("invalid-price", Some(order(f32::INFINITY)?)),
        ("tombstone", None),
    ];
    let servers = scenario.platform().bootstrap_servers();
    let orders = scenario.orders_topic();
    let mut expected = BTreeMap::new();
    for (reason, value) in poison {
        let key = format!("key of {reason}").into_bytes();
        let offset = topic::write(servers, orders, 0, Some(&key), value.as_deref()).await?;
        topic::write(servers, orders, 0, None, Some(&good)).await?;
        expected.insert(offset.to_string(), (reason.to_owned(), Some(key), value));
    }
    let written = u64::try_from(expected.len())?;
    let stats = scenario.stats_at_end(2 * written).await?;
    assert_eq!((stats.orders, stats.dead_letters), (written, written));
    assert_eq!(stats.sum_micros()?, 12_500_000 * i128::from(written));

    let mut found = BTreeMap::new();
    for letter in topic::read(servers, scenario.dead_letter_topic()).await? {
        let header = |name| letter.header_text(name).with_context(|| format!("find header {name}"));
        assert_eq!(
            (header("original_topic")?.as_str(), header("dlq.error.class")?.as_str()),
            (orders, "poison")
        );
        let (offset, reason) = (header("original_offset")?, header("dlq.error.type")?);
        found.insert(offset, (reason, letter.key, letter.value));
    }
    assert_eq!(found, expected);
    processor.drain().await
}

/// Other systems number their records by headers of these names.
#[tokio::test(flavor = "multi_thread")]
async fn headers_do_not_decide_whether_an_order_counts() -> Result<()> {
    let scenario = Scenario::open("numbered").await?.with("TOPIC_PARTITIONS", "1");
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    let schema_id = scenario.register_order_schema().await?;
    let order = |id: u8| topic::order_value(schema_id, &id.to_string(), "Item1", 12.5);
    let orders = (0..25).map(order).collect::<Result<Vec<_>>>()?;
    let servers = scenario.platform().bootstrap_servers();
    // Rising, repeated and falling numbers, and records that repeat in all but their offset.
    for sequence in [b"7", b"8", b"8", b"1"] {
        let headers: [(&str, &[u8]); 2] = [("producer-id", b"p"), ("sequence", sequence)];
        topic::write_with_headers(servers, scenario.orders_topic(), &orders, &headers).await?;
    }
    let (stats, verdict) = scenario.check_exact(100, Simulation::OFF).await?;
    assert_eq!((stats.orders, stats.dead_letters, verdict.records), (100, 0, 100));
    processor.drain().await
}

/// The orders of a run, without bad records.
const ORDERS: u64 = 4_000;

/// The generator's faults of bad records, and their `dlq.error.type`.
const BAD: [(&str, &str); 7] = [
    ("bad_magic", "unknown-format"),
    ("unknown_schema", "unknown-schema"),
    ("truncated", "truncated"),
    ("trailing_bytes", "trailing-bytes"),
    ("tombstone", "tombstone"),
    ("invalid_price", "invalid-price"),
    ("oversize", "oversize"),
];

/// The judge checks every record: good orders count once, and exactly the bad and the failing records have dead letters,
/// with the right reason and the same bytes.
#[tokio::test(flavor = "multi_thread")]
async fn faults_at_any_rate_change_no_order() -> Result<()> {
    let simulation = Simulation { rate: 0.1, retries_max: 3 };
    let mut calm_sum = None;
    for trouble in ["0", "0.2"] {
        let scenario = Scenario::open("trouble")
            .await?
            .with("SEED", "11")
            .with("ORDER_COUNT", &ORDERS.to_string())
            .with("CORRUPT_RATE", trouble)
            .with("ERROR_SIMULATION_RATE", "0.1")
            .with("RETRY_BACKOFF_SECONDS", "0.05");
        let processors = [
            scenario.processor("processor-1")?.start()?,
            scenario.processor("processor-2")?.start()?,
        ];
        let mut generator = scenario.generator("generator")?.env("ORDER_RATE", "0").start()?;
        generator.expect_exit(0).await?;
        let acknowledged = count(&generator, "final statistics", "acknowledged").await?;
        let (stats, verdict) = scenario.check_exact(acknowledged, simulation).await?;
        assert_eq!(verdict.records, acknowledged);
        assert_eq!(verdict.records - verdict.poison, ORDERS);

        if trouble == "0" {
            assert_eq!(verdict.poison, 0);
            calm_sum = Some(stats.sum);
        } else {
            assert_eq!(Some(stats.sum), calm_sum);
            for (made, told) in BAD {
                let made = count(&generator, "acknowledged faults", made).await?;
                assert!(made > 0, "no {told} was made");
                assert_eq!(verdict.dead_letter_types.get(told), Some(&made), "{told}");
            }
            hot_orders_are_on_one_partition(&scenario, &generator).await?;
        }
        for processor in processors {
            processor.drain().await?;
        }
    }
    Ok(())
}

async fn hot_orders_are_on_one_partition(scenario: &Scenario, generator: &Service) -> Result<()> {
    let records =
        topic::read(scenario.platform().bootstrap_servers(), scenario.orders_topic()).await?;
    let hot = records.iter().filter(|record| record.key.as_deref() == Some(b"hot-key"));
    let partitions: Vec<i32> = hot.map(|record| record.partition).collect();
    let made = count(generator, "acknowledged faults", "hot_key").await?;
    assert_eq!(u64::try_from(partitions.len())?, made);
    assert!(partitions.windows(2).all(|pair| pair[0] == pair[1]), "{partitions:?}");
    Ok(())
}

/// Returns a number of the first log line that contains `text`.
async fn count(generator: &Service, text: &str, name: &str) -> Result<u64> {
    let line = generator.line(text).await?;
    field(&line, name)?.as_u64().with_context(|| format!("read {name} of {line}"))
}
